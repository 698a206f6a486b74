"""Sessions of ONNX Runtime: a purpose of one program on one snapshot, lowered and opened."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from pcmedge.errors import ImageCorruptError, InputValueError, UnimplementedError
from pcmedge.forks import kept_in_children
from pcmedge.image import bounds

from pcmedge_emulator.engine import integer
from pcmedge_emulator.engine.graph import PARAMETERS
from pcmedge_emulator.engine.lowering import Lowered, Purpose, lower, lower_layer
from pcmedge_emulator.engine.native import library
from pcmedge_emulator.engine.native.fuse import fused
from pcmedge_emulator.engine.native.reading import known_shapes
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.state import Parameters, Precision, Snapshot

_LOG = logging.getLogger("pcmedge_emulator.engine")

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Shapes = tuple[list[tuple[list[int], list[int]]], list[bool]]

Ready = tuple[Lowered, "ProgramSession"]
"""What is ready to run: the lowered graph without its constants, and its session."""


def session_options(threads: int, *, optimise: bool = True) -> onnxruntime.SessionOptions:
    """Session options of an exact session.

    ONNX Runtime would fuse DequantizeLinear, Conv and QuantizeLinear into an int8 convolution, rounding the
    conductances, and drop a converter that follows another; both are switched off.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.disable_double_qdq_remover", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if threads > 1:
        # Threads that wait for the next operator spin; between requests they must not.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def native_options(threads: int, compiled: str) -> onnxruntime.SessionOptions:
    """:func:`session_options` of a session with the operators of a compiled library."""
    options = session_options(threads)
    options.register_custom_ops_library(compiled)
    return options


class Opener:
    """Lowers one program on one snapshot in one arithmetic, and opens sessions of it. Keeps none."""

    def __init__(
        self,
        program: ChipProgram,
        snapshot: Snapshot,
        threads: int,
        precision: Precision,
        weight_bits: int | None,
        native: bool = True,
    ) -> None:
        if precision not in ("exact", "turbo"):
            raise InputValueError(f"expected precision 'exact' or 'turbo', found {precision!r}")
        if precision == "turbo":
            _check_turbo(program, snapshot)
            weight_bits = integer.weight_bits() if weight_bits is None else weight_bits
        self.program, self._snapshot, self._threads = program, snapshot, threads
        self._precision, self._weight_bits = precision, weight_bits or integer.WEIGHT_BITS
        self._library = library.state().library if native else None
        self._shapes = known_shapes(program.model.graph)

    @property
    def kind(self) -> tuple[str, str, str]:
        """What of snapshot and arithmetic decides which operators a lowered graph has."""
        return self._snapshot.read_noise, self._snapshot.converters, self._precision

    def lower(self, purpose: Purpose) -> Lowered:
        return lower(self.program, self._snapshot, purpose, precision=self._precision, weight_bits=self._weight_bits)

    def open(self, purpose: Purpose) -> Ready:
        lowered = self.lower(purpose)
        session = self._session(lowered.model)
        # The session has its own copy of the conductances; a second one would only take memory.
        return replace(lowered, model=onnx.ModelProto()), session

    def open_layer(self, layer: str, block: str) -> tuple[ProgramSession, list[str]]:
        """A session of one block alone, and its outputs: see :func:`pcmedge_emulator.engine.lowering.lower_layer`."""
        model, names = lower_layer(
            self.program, self._snapshot, layer, block, precision=self._precision, weight_bits=self._weight_bits
        )
        return self._session(model), names

    def noise_shapes(self, checked: Mapping[str, Array]) -> Shapes:
        """Shapes of the noise inputs for one sample and for two (both alike if the model fixes its batch), and kinds.

        The session that tells them holds the conductances once more, so it is not kept.
        """
        lowered, session = self.open("shapes")
        free = all(spec.shape and spec.shape[0] is None for spec in self.program.inputs)
        found = []
        for count in (1, 2):
            feeds = parameter_feed(lowered.layout.pack(Parameters()))
            feeds |= {
                name: np.repeat(values[:1], count, axis=0) if free else values for name, values in checked.items()
            }
            found.append([values.tolist() for values in session.run(list(lowered.shapes), feeds)])
        return list(zip(*found, strict=True)), [noise.planes for noise in lowered.noise]

    def _session(self, model: onnx.ModelProto) -> ProgramSession:
        ours, options = self.executed(model, self._threads)
        if ours is not model:
            try:
                return ProgramSession(ours, options)
            except ImageCorruptError:  # of a graph that nobody gave us: then without
                _LOG.warning("ONNX Runtime refuses the native operators; going on without", exc_info=True)
        return ProgramSession(model, session_options(self._threads))

    def executed(self, model: onnx.ModelProto, threads: int) -> tuple[onnx.ModelProto, onnxruntime.SessionOptions]:
        """The graph that is run for a lowered model, with native operators where there are any, and its options."""
        ours = model if self._library is None else fused(model, self._shapes)
        return ours, session_options(threads) if ours is model else native_options(threads, str(self._library))

    @property
    def native(self) -> bool:
        """Whether there is a library of native operators for the sessions."""
        return self._library is not None


class ProgramSession:
    """A session of an image's program. What ONNX Runtime refuses is the image's fault, and named as such.

    A program with a loop is broken off after :data:`pcmedge.image.bounds.LOOP_SECONDS`.
    """

    def __init__(self, model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> None:
        self._loops = bounds.has_loop(model.graph)
        try:
            self._session = kept_in_children(
                onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            )
        except Exception as error:  # its own classes, all directly under Exception
            raise _refused(error) from error

    def get_inputs(self) -> list[Any]:
        found: list[Any] = self._session.get_inputs()
        return found

    def run(self, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Any]:
        try:
            return bounds.run(self._session, names, feeds, loops=self._loops)
        except Exception as error:
            raise _refused(error) from error


def _refused(error: BaseException) -> ImageCorruptError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return ImageCorruptError(
        f"ONNX Runtime cannot compute the program of the image: {lines[0]}; compile the model again",
        check="program-run",
    )


def parameter_feed(packed: FloatArray) -> dict[str, Array]:
    """The session input of packed parameters; a graph without any has none."""
    return {PARAMETERS: packed} if packed.size else {}


def _check_turbo(program: ChipProgram, snapshot: Snapshot) -> None:
    """UnimplementedError unless the converters' codes are whole numbers of 8 bits."""
    profile = program.profile
    if snapshot.converters == "ideal":
        raise UnimplementedError(
            'precision "turbo" multiplies converter codes, which converters="ideal" leaves out; use precision "exact"'
        )
    if max(profile.dac_bits, profile.adc_bits) > integer.WEIGHT_BITS:
        raise UnimplementedError(
            f'precision "turbo" multiplies codes of at most 8 bits, found a chip profile with {profile.dac_bits}-bit '
            f'DACs and {profile.adc_bits}-bit ADCs; use precision "exact"',
            dac_bits=profile.dac_bits,
            adc_bits=profile.adc_bits,
        )
