"""The fast engine: the chip program and one snapshot lowered to plain ONNX, executed by ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pcmedge.errors import InputValueError, UnimplementedError

from pcmedge_emulator.engine.geometry import bands, of_tile
from pcmedge_emulator.engine.graph import PARAMETERS
from pcmedge_emulator.engine.inputs import check_inputs
from pcmedge_emulator.engine.lowering import Lowered, Purpose
from pcmedge_emulator.engine.noise import bank_bytes
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.resources import EngineMemory, default_micro_batch
from pcmedge_emulator.engine.session import Opener, ProgramSession, Ready, parameter_feed
from pcmedge_emulator.engine.session import session_options as session_options
from pcmedge_emulator.engine.state import Parameters, Precision, Snapshot
from pcmedge_emulator.engine.supply import NoiseSupply

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Seed = int | np.random.Generator | None

_IMAGE_PARAMETERS = Parameters()


class FastEngine:
    """Runs a program on one snapshot; safe to use from several threads at once.

    ``threads`` is ONNX Runtime's intra-op thread count, ``micro_batch`` the largest batch of one session run (a larger
    request is cut up: it stays in the caches, memory stays bounded, and the noise bank stays small; None chooses it by
    the largest activation), ``noise_values`` the largest noise bank allowed. ``precision``: "exact" multiplies in
    float32, "turbo" in int8 (``integer.py``), with conductances of ``weight_bits`` bits: as many as this processor
    multiplies right, if None. ``native``: run what follows a product in compiled code, where there is any (the results
    are the same).

    Raises :class:`InputValueError` for a snapshot that does not fit the program, :class:`UnimplementedError` for IR
    drop, which only the reference engine computes, and for turbo without 8-bit codes.
    """

    def __init__(
        self,
        program: ChipProgram,
        snapshot: Snapshot,
        *,
        threads: int = 1,
        micro_batch: int | None = None,
        noise_values: int | None = None,
        precision: Precision = "exact",
        weight_bits: int | None = None,
        native: bool = True,
    ) -> None:
        if micro_batch is not None and micro_batch < 1:
            raise InputValueError(f"expected micro_batch >= 1, found {micro_batch}")
        snapshot.check(program)
        if program.profile.ir_drop and snapshot.converters != "ideal":
            raise UnimplementedError(
                f"the chip profile has IR drop ({program.profile.ir_drop}), which the fast engine does not compute; "
                'use engine="reference"'
            )
        self.program = program
        self.snapshot = snapshot
        self._opener = Opener(program, snapshot, threads, precision, weight_bits, native)
        self._micro_batch = default_micro_batch(program) if micro_batch is None else micro_batch
        self._noise = NoiseSupply(self._opener, noise_values)
        self._lock = threading.Lock()
        self._sessions: dict[str, Ready] = {}
        self._layers: dict[tuple[str, str], tuple[ProgramSession, list[str]]] = {}
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
        lowered, _session = self._session("saturation")
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
        lowered, session = self._session(method)
        checked, batch = check_inputs(self.program, inputs)
        feeds: dict[str, Array] = dict(checked)
        digital = self.program.reference_statistics if reference is None else reference
        feeds |= parameter_feed(lowered.layout.pack(parameters, digital))
        if lowered.noise:
            cursor = self._noise.cursor(checked, batch, batch, noise_seed)
            feeds |= self._noise.feed(lowered, cursor, checked, batch)
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
                self._layers[layer, block] = self._opener.open_layer(layer, block)
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

    @property
    def micro_batch(self) -> int:
        """The largest batch of one session run."""
        return self._micro_batch

    @property
    def native(self) -> bool:
        """Whether sessions use compiled operators of our own beside ONNX Runtime's."""
        return self._opener.native

    def memory(self) -> EngineMemory:
        """Bytes this engine holds now."""
        tables = (self.snapshot.conductances, self.snapshot.pair_sums or {})
        held = sum(values.nbytes for table in tables for values in table.values())
        constants = {purpose: lowered.constant_bytes for purpose, (lowered, _session) in dict(self._sessions).items()}
        return EngineMemory(constants, held, bank_bytes())

    def model(self, purpose: Purpose = "run") -> bytes:
        """The lowered plain ONNX model, serialized; for looking at it and for tests."""
        data: bytes = self._opener.lower(purpose).model.SerializeToString()
        return data

    def packed_parameters(self, parameters: Parameters = _IMAGE_PARAMETERS) -> FloatArray:
        """What the session input ``pcm/parameters`` of :meth:`model` is given for these parameters."""
        return self._pack(self._session("run")[0], parameters)

    def _session(self, purpose: Purpose) -> Ready:
        # Opening a session for a recalibration must not hold up requests, which have theirs already.
        if (ready := self._sessions.get(purpose)) is not None:
            return ready
        with self._lock:
            if purpose not in self._sessions:
                self._sessions[purpose] = self._opener.open(purpose)
            return self._sessions[purpose]

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
        lowered, session = self._session(purpose)
        fixed = parameter_feed(self._pack(lowered, parameters))
        size = self._micro_batch if self._may_cut() else batch
        cursor = None
        if lowered.noise:
            cursor = self._noise.cursor(checked, batch, 1 if self._may_cut() else batch, noise_seed)
            if self._may_cut():
                size = min(size, self._noise.most_at_once(checked, cursor))
        results = []
        for start in range(0, batch, size):
            part = {name: values[start : start + size] for name, values in checked.items()}
            feeds = {**part, **fixed}
            if cursor is not None:
                feeds |= self._noise.feed(lowered, cursor, checked, min(size, batch - start))
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


def _joined(parts: list[Array]) -> Array:
    return _own(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def _own(value: Array) -> Array:
    """A copy. An array from ONNX Runtime, however small, keeps all memory of its session for as long as it lives."""
    return value.copy()
