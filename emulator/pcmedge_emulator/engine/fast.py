"""The fast engine: the chip program and one snapshot lowered to plain ONNX, executed by ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from pcmedge.errors import InputValueError, UnimplementedError

from pcmedge_emulator.engine import integer
from pcmedge_emulator.engine.geometry import bands, of_tile
from pcmedge_emulator.engine.graph import PARAMETERS
from pcmedge_emulator.engine.inputs import check_inputs
from pcmedge_emulator.engine.lowering import Lowered, Purpose, lower, lower_layer
from pcmedge_emulator.engine.noise import NoiseCursor, NoisePlan, bank_size, gaussian_bank
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.state import Parameters, Precision, Snapshot

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Seed = int | np.random.Generator | None

# What is ready to run: the lowered graph without its constants, its session, and the bytes of the constants.
_Ready = tuple[Lowered, onnxruntime.InferenceSession, int]

_IMAGE_PARAMETERS = Parameters()


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
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


class FastEngine:
    """Runs a program on one snapshot; safe to use from several threads at once.

    ``threads`` is ONNX Runtime's intra-op thread count, ``micro_batch`` the largest batch of one session run (a larger
    request is cut up: it stays in the caches, and the noise bank stays small), ``noise_values`` the largest noise bank
    allowed. ``precision``: "exact" multiplies in float32, "turbo" in int8 (``integer.py``), with
    conductances of ``weight_bits`` bits: as many as this processor multiplies right, if None.

    Raises :class:`InputValueError` for a snapshot that does not fit the program, :class:`UnimplementedError` for IR
    drop, which only the reference engine computes, and for turbo without 8-bit codes.
    """

    def __init__(
        self,
        program: ChipProgram,
        snapshot: Snapshot,
        *,
        threads: int = 1,
        micro_batch: int = 32,
        noise_values: int | None = None,
        precision: Precision = "exact",
        weight_bits: int | None = None,
    ) -> None:
        if micro_batch < 1:
            raise InputValueError(f"expected micro_batch >= 1, found {micro_batch}")
        snapshot.check(program)
        if program.profile.ir_drop and snapshot.converters != "ideal":
            raise UnimplementedError(
                f"the chip profile has IR drop ({program.profile.ir_drop}), which the fast engine does not compute; "
                'use engine="reference"'
            )
        if precision == "turbo":
            _check_turbo(program, snapshot)
        self.program = program
        self.snapshot = snapshot
        self._threads = threads
        self._micro_batch = micro_batch
        self._noise_values = noise_values
        self._lowering: _Lowering = {
            "precision": precision,
            "weight_bits": weight_bits or (integer.weight_bits() if precision == "turbo" else integer.WEIGHT_BITS),
        }
        self._lock = threading.Lock()
        self._sessions: dict[str, _Ready] = {}
        self._layers: dict[tuple[str, str], tuple[onnxruntime.InferenceSession, list[str]]] = {}
        self._noise_shapes: dict[object, tuple[list[tuple[list[int], list[int]]], list[bool]]] = {}
        self._plans: dict[object, NoisePlan] = {}
        self._packed: tuple[Parameters, FloatArray] | None = None
        self._session("run")

    def run(
        self,
        inputs: Mapping[str, Array],
        parameters: Parameters = _IMAGE_PARAMETERS,
        *,
        noise_seed: Seed = None,
    ) -> dict[str, Array]:
        """Outputs by name for a batch of inputs (axis 0).

        ``noise_seed`` chooses the read noise of this call; None draws fresh noise. Raises the input errors of
        :func:`pcmedge_emulator.engine.inputs.check_inputs`, and :class:`InputShapeError` for a batch that needs more
        noise than its bank may hold.
        """
        names = [spec.name for spec in self.program.outputs]
        results = self._run_batches("run", names, inputs, parameters, noise_seed)
        return {name: _joined([result[index] for result in results]) for index, name in enumerate(names)}

    def run_with_saturation(
        self,
        inputs: Mapping[str, Array],
        parameters: Parameters = _IMAGE_PARAMETERS,
        *,
        noise_seed: Seed = None,
    ) -> tuple[dict[str, Array], dict[int, tuple[int, int]]]:
        """As :meth:`run`, and per logical tile (ADC codes at full scale, all ADC codes).

        A second session, slower by the counting: meant for a sample of the requests. Ideal converters never saturate
        and give an empty table.
        """
        lowered, _session, _size = self._session("saturation")
        names = [spec.name for spec in self.program.outputs]
        counts = [name for pair in lowered.saturation.values() for name in pair]
        results = self._run_batches("saturation", names + counts, inputs, parameters, noise_seed)
        outputs = {name: _joined([result[index] for result in results]) for index, name in enumerate(names)}
        table: dict[int, tuple[int, int]] = {}
        for place, key in enumerate(lowered.saturation):
            at = len(names) + 2 * place
            hits = np.sum([result[at] for result in results], axis=0)
            size = int(sum(int(result[at + 1]) for result in results))
            block = self.program.layers[key.layer].blocks[key.block]
            width = block.groups * block.columns
            for tile in bands(block)[key.index].tiles:
                table[tile.tile] = (int(of_tile(block, tile, hits).sum()), size // width * tile.groups * tile.columns)
        return outputs, table

    def measure(
        self,
        inputs: Mapping[str, Array],
        parameters: Parameters = _IMAGE_PARAMETERS,
        *,
        method: Literal["batch", "paired"],
        reference: Mapping[str, tuple[FloatArray, FloatArray]] | None = None,
        noise_seed: Seed = None,
    ) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Batch-norm statistics of one batch on this snapshot: node -> (mean, variance), float32 [C].

        "batch" returns batch mean and population variance; "paired" the corrected statistics of
        :mod:`pcmedge_emulator.engine.statistics` against ``reference`` (default: the image's). The whole batch runs at
        once. Raises :class:`InputValueError` for an unknown method or missing reference statistics.
        """
        if method not in ("batch", "paired"):
            raise InputValueError(f"expected method 'batch' or 'paired', found {method!r}")
        if not self.program.statistics:
            check_inputs(self.program, inputs)
            return {}
        lowered, session, _size = self._session(method)
        checked, batch = check_inputs(self.program, inputs)
        feeds: dict[str, Array] = dict(checked)
        digital = self.program.reference_statistics if reference is None else reference
        feeds |= self._parameter_feed(lowered.layout.pack(parameters, digital))
        if lowered.noise:
            cursor = self._cursor(checked, batch, batch, noise_seed)
            feeds |= _noise_feed(lowered, cursor, self._plan(checked, batch))
        names = [name for pair in lowered.statistics.values() for name in pair]
        values = [_own(value) for value in session.run(names, feeds)]
        return {node: (values[2 * index], values[2 * index + 1]) for index, node in enumerate(lowered.statistics)}

    def run_layer(self, layer: str, codes: Array, *, block: str = "W") -> dict[int, npt.NDArray[np.int64]]:
        """ADC codes of every tile of one block for given DAC codes, without read noise.

        ``codes`` are integers in the layout of the layer's input: (N, C, L) or (N, C, H, W) for AnalogConv, (..., rows)
        for AnalogGemm and the blocks of AnalogLSTM. Returns logical tile -> int64 array with the tile's groups *
        columns on axis 1 (convolution) or on the last axis. For comparing engines layer by layer.
        """
        if self.snapshot.converters == "ideal":
            raise InputValueError("ideal converters have no codes; use converters='profile'")
        chosen = self.program.layers[layer].blocks[block]
        with self._lock:
            if (layer, block) not in self._layers:
                model, names = lower_layer(self.program, self.snapshot, layer, block, **self._lowering)
                self._layers[layer, block] = (_open(model, self._threads), names)
            session, names = self._layers[layer, block]
        feeds = {"codes": np.ascontiguousarray(codes, dtype=np.float32)}
        for value in session.get_inputs():
            if value.name == PARAMETERS:
                feeds[PARAMETERS] = np.ones(value.shape, np.float32)
        axis = 1 if self.program.layers[layer].operator == "AnalogConv" else -1
        found: dict[int, npt.NDArray[np.int64]] = {}
        for band, values in zip(bands(chosen), session.run(names, feeds), strict=True):
            last = np.moveaxis(values, axis, -1).astype(np.int64)
            for tile in band.tiles:
                found[tile.tile] = np.moveaxis(of_tile(chosen, tile, last), -1, axis)
        return found

    def model(self, purpose: Purpose = "run") -> bytes:
        """The lowered plain ONNX model, serialized; for looking at it and for tests."""
        data: bytes = lower(self.program, self.snapshot, purpose, **self._lowering).model.SerializeToString()
        return data

    def packed_parameters(self, parameters: Parameters = _IMAGE_PARAMETERS) -> FloatArray:
        """What the session input ``pcm/parameters`` of :meth:`model` is given for these parameters."""
        return self._pack(self._session("run")[0], parameters)

    def _session(self, purpose: Purpose) -> _Ready:
        # Opening a session for a recalibration must not hold up requests, which have theirs already.
        if (ready := self._sessions.get(purpose)) is not None:
            return ready
        with self._lock:
            if purpose not in self._sessions:
                self._sessions[purpose] = self._lower(purpose)
            return self._sessions[purpose]

    def _lower(self, purpose: Purpose) -> _Ready:
        lowered = lower(self.program, self.snapshot, purpose, **self._lowering)
        session = _open(lowered.model, self._threads)
        constants = sum(len(tensor.raw_data) for tensor in lowered.model.graph.initializer)
        # The session has its own copy of the conductances; a second one would only take memory.
        return replace(lowered, model=onnx.ModelProto()), session, constants

    def _run_batches(
        self,
        purpose: Purpose,
        names: list[str],
        inputs: Mapping[str, Array],
        parameters: Parameters,
        noise_seed: Seed,
    ) -> list[list[Array]]:
        """One result list per micro-batch."""
        checked, batch = check_inputs(self.program, inputs)
        lowered, session, _size = self._session(purpose)
        fixed = self._parameter_feed(self._pack(lowered, parameters))
        size = self._micro_batch if self._may_cut() else batch
        cursor = None
        if lowered.noise:
            cursor = self._cursor(checked, batch, 1 if self._may_cut() else batch, noise_seed)
            if self._may_cut():
                # At most half the bank in one session run, so that a run at its front has places to start from.
                size = max(1, min(size, cursor.size // max(1, 2 * self._plan(checked, 1).total)))
        results = []
        for start in range(0, batch, size):
            part = {name: values[start : start + size] for name, values in checked.items()}
            feeds = {**part, **fixed}
            if cursor is not None:
                feeds |= _noise_feed(lowered, cursor, self._plan(checked, min(size, batch - start)))
            results.append(session.run(names, feeds))
        return results

    def _pack(self, lowered: Lowered, parameters: Parameters) -> FloatArray:
        """The packed parameters of an inference; the last set is remembered, requests rarely change it."""
        packed = self._packed
        if packed is None or packed[0] is not parameters:
            packed = (parameters, lowered.layout.pack(parameters))
            self._packed = packed
        return packed[1]

    def _may_cut(self) -> bool:
        """Whether a batch may be run in parts: axis 0 of every input and output is the free batch axis."""
        specs = (*self.program.inputs, *self.program.outputs)
        return bool(self.program.inputs) and all(spec.shape and spec.shape[0] is None for spec in specs)

    def _cursor(self, checked: Mapping[str, Array], batch: int, at_once: int, noise_seed: Seed) -> NoiseCursor:
        """A walk through a bank that fits this engine, for a call of ``batch`` samples, ``at_once`` in one run."""
        sample = self._plan(checked, 1).total
        run = self._plan(checked, at_once).total
        bank = gaussian_bank(bank_size(sample, run, batch, self._noise_values))
        return NoiseCursor(bank, np.random.default_rng(noise_seed), sample * batch)

    def _plan(self, checked: Mapping[str, Array], batch: int) -> NoisePlan:
        """What a run of ``batch`` samples takes from the bank; linear in the batch, found from one and two samples."""
        signature = tuple((name, values.shape[1:]) for name, values in checked.items())
        plan = self._plans.get((signature, batch))
        if plan is None:
            if signature not in self._noise_shapes:
                self._noise_shapes[signature] = self._find_shapes(checked)
            found, planes = self._noise_shapes[signature]
            shapes = [tuple(a + (batch - 1) * (b - a) for a, b in zip(one, two, strict=True)) for one, two in found]
            plan = NoisePlan.of(shapes, planes)
            self._plans[signature, batch] = plan
        return plan

    def _find_shapes(self, checked: Mapping[str, Array]) -> tuple[list[tuple[list[int], list[int]]], list[bool]]:
        """Shapes of the noise inputs for one sample and for two (both alike if the model fixes its batch), and kinds.

        The session that tells them holds the conductances once more, so it is not kept.
        """
        lowered, session, _bytes = self._lower("shapes")
        free = all(spec.shape and spec.shape[0] is None for spec in self.program.inputs)
        found = []
        for count in (1, 2):
            feeds: dict[str, Array] = self._parameter_feed(lowered.layout.pack(_IMAGE_PARAMETERS))
            feeds |= {
                name: np.repeat(values[:1], count, axis=0) if free else values for name, values in checked.items()
            }
            found.append([values.tolist() for values in session.run(list(lowered.shapes), feeds)])
        return list(zip(*found, strict=True)), [noise.planes for noise in lowered.noise]

    @staticmethod
    def _parameter_feed(packed: FloatArray) -> dict[str, Array]:
        return {PARAMETERS: packed} if packed.size else {}


class _Lowering(TypedDict):
    precision: Precision
    weight_bits: int


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


def _noise_feed(lowered: Lowered, cursor: NoiseCursor, plan: NoisePlan) -> dict[str, FloatArray]:
    feed = dict(zip((noise.gaussian for noise in lowered.noise), cursor.slices(plan), strict=True))
    return feed | dict(zip((noise.signs for noise in lowered.noise), cursor.signs(plan), strict=True))


def _open(model: Any, threads: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"]
    )


def _joined(parts: list[Array]) -> Array:
    return _own(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def _own(value: Array) -> Array:
    """A copy. An array from ONNX Runtime, however small, keeps all memory of its session for as long as it lives."""
    return value.copy()
