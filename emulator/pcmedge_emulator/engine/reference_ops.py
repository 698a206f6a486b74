"""The analog operators of the domain ``pcm`` for ONNX's reference evaluator: float64 numpy, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx.reference.op_run import OpRun

from pcmedge_emulator.crossbar import adc, dac, dac_limits, ir_drop, mvm, saturated
from pcmedge_emulator.engine.program import Block, ChipProgram
from pcmedge_emulator.engine.recurrent import directions
from pcmedge_emulator.engine.state import Parameters, Snapshot

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]


@dataclass
class Call:
    """What one evaluation computes with, and the saturation it counted: tile -> (at full scale, all)."""

    program: ChipProgram
    snapshot: Snapshot
    parameters: Parameters
    rng: np.random.Generator | None
    saturation: dict[int, tuple[int, int]] = field(default_factory=dict)


_call: ContextVar[Call] = ContextVar("pcmedge_reference_call")


@contextmanager
def calling(call: Call) -> Iterator[None]:
    """Analog operators evaluated inside compute with ``call`` (in this thread)."""
    token = _call.set(call)
    try:
        yield
    finally:
        _call.reset(token)


class BlockEvaluator:
    """One weight block on its tiles."""

    def __init__(self, call: Call, block: Block) -> None:
        self._call = call
        self._block = block

    def apply(self, x: Float64) -> Float64:
        """Layer inputs [M, groups, rows] -> outputs [M, groups * columns]: DAC, MVM, ADC, scale, sum over row tiles."""
        block, profile = self._block, self._call.program.profile
        ideal = self._call.snapshot.converters == "ideal"
        codes = x / block.dac_step if ideal else dac(x, block.dac_step, profile.dac_bits, block.dac_signed)
        y = np.zeros((len(x), block.groups, block.columns))
        partial = self.partial_sums(codes) if ideal else self.adc_codes(codes)
        for tile in block.tiles:
            step = 1.0 if ideal else float(np.float32(tile.adc_step))
            factor = self._call.parameters.drift_factor(tile)
            part = (partial[tile.tile] * step * factor).reshape(len(x), tile.groups, tile.columns)
            groups = slice(tile.first_group, tile.first_group + tile.groups)
            columns = slice(tile.first_column, tile.first_column + tile.columns)
            y[:, groups, columns] += part
        return y.reshape(len(x), -1) * block.dac_step * block.weight_scale.astype(np.float64)

    def adc_codes(self, codes: Array) -> dict[int, npt.NDArray[np.int16]]:
        """DAC codes [M, groups, rows] -> ADC codes [M, groups * columns] of every tile; counts saturation."""
        call = self._call
        bits = call.program.profile.adc_bits
        found: dict[int, npt.NDArray[np.int16]] = {}
        steps = {tile.tile: float(np.float32(tile.adc_step)) for tile in self._block.tiles}
        for tile, p in self.partial_sums(codes).items():
            gain = None if call.snapshot.gain is None else call.snapshot.gain[tile]
            offset = None if call.snapshot.offset is None else call.snapshot.offset[tile]
            converted = adc(p, steps[tile], bits, gain, offset).codes
            before = call.saturation.get(tile, (0, 0))
            call.saturation[tile] = (before[0] + saturated(converted, bits), before[1] + converted.size)
            found[tile] = converted
        return found

    def partial_sums(self, codes: Array) -> dict[int, Float64]:
        """What reaches the ADCs: p [M, groups * columns] of every tile, in DAC codes, bias row and noise included."""
        call, block = self._call, self._block
        if block.bias_code:
            always = np.full((len(codes), block.groups, 1), block.bias_code, codes.dtype)
            codes = np.concatenate([codes, always], axis=2)
        found: dict[int, Float64] = {}
        for tile in block.tiles:
            part = codes[
                :, tile.first_group : tile.first_group + tile.groups, tile.first_row : tile.first_row + tile.rows
            ]
            g_net = call.snapshot.conductances[tile.tile]
            sigma, noise = self._read_noise(tile.tile, part, g_net.shape)
            drop = None
            if call.program.profile.ir_drop and call.snapshot.converters != "ideal":
                profile = call.program.profile
                drop = ir_drop(
                    part,
                    g_net,
                    dac_levels=dac_limits(profile.dac_bits, block.dac_signed)[1],
                    g_max_microsiemens=profile.g_max_microsiemens,
                    scale=profile.ir_drop,
                    wire_resistance_ohm=profile.wire_resistance_ohm,
                )
            found[tile.tile] = mvm(part, g_net, sigma=sigma, noise=noise, drop=drop)
        return found

    def _read_noise(self, tile: int, codes: Array, shape: tuple[int, ...]) -> tuple[Float64 | None, Float64 | None]:
        """Standard deviation in codes and standard normal draws for a batch of products; (None, None) without noise."""
        snapshot, rng = self._call.snapshot, self._call.rng
        if rng is None or snapshot.read_noise == "off":
            return None, None
        draws = rng.standard_normal((len(codes), shape[0] * shape[2]))
        if snapshot.read_noise == "additive":
            assert snapshot.column_sigma is not None  # Snapshot.check
            return snapshot.column_sigma[tile].astype(np.float64), draws
        assert snapshot.pair_sums is not None  # Snapshot.check
        power = mvm(np.square(codes.astype(np.float64)), snapshot.pair_sums[tile])
        return snapshot.noise_coefficient * np.sqrt(power), draws


def patches(x: Float64, attributes: Mapping[str, Any], block: Block) -> tuple[Float64, tuple[int, ...]]:
    """A convolution's input cut into rows of the crossbar.

    x (N, C, L) or (N, C, H, W) -> ([N * positions, groups, rows] in (channel, ky, kx) order, output positions).
    """
    kernel = tuple(attributes["kernel_shape"])
    axes = len(kernel)
    strides = attributes.get("strides") or [1] * axes
    dilations = attributes.get("dilations") or [1] * axes
    pads = attributes.get("pads") or [0] * (2 * axes)
    padded = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[i + axes]) for i in range(axes))])
    spans = [dilations[i] * (kernel[i] - 1) + 1 for i in range(axes)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + axes)))
    steps = tuple(slice(None, None, strides[i]) for i in range(axes))
    taps = tuple(slice(None, None, dilations[i]) for i in range(axes))
    chosen = windows[(slice(None), slice(None), *steps, *taps)]
    spatial = chosen.shape[2 : 2 + axes]
    moved = np.moveaxis(chosen, 1, 1 + axes)
    rows = moved.reshape(len(x) * int(np.prod(spatial)), block.groups, block.input_rows)
    return rows, spatial


class AnalogConv(OpRun):  # type: ignore[misc]
    """Conv on the crossbar, and the digital bias."""

    op_domain = "pcm"

    def _run(self, x: Array, b: Array | None = None, layer: str = "", **attributes: Any) -> tuple[Array]:
        call = _call.get()
        block = call.program.layers[layer].blocks["W"]
        rows, spatial = patches(x.astype(np.float64), attributes, block)
        y = BlockEvaluator(call, block).apply(rows)
        shaped = np.moveaxis(y.reshape(len(x), *spatial, -1), -1, 1)
        if b is not None:
            shaped = shaped + b.astype(np.float64).reshape(1, -1, *[1] * len(spatial))
        return (np.ascontiguousarray(shaped, dtype=np.float32),)


class AnalogGemm(OpRun):  # type: ignore[misc]
    """(..., K) times a (K, N) matrix on the crossbar, and the digital bias."""

    op_domain = "pcm"

    def _run(self, x: Array, b: Array | None = None, layer: str = "") -> tuple[Array]:
        call = _call.get()
        block = call.program.layers[layer].blocks["W"]
        y = BlockEvaluator(call, block).apply(x.astype(np.float64).reshape(-1, 1, x.shape[-1]))
        shaped = y.reshape(*x.shape[:-1], -1)
        if b is not None:
            shaped = shaped + b.astype(np.float64)
        return (shaped.astype(np.float32),)


class AnalogLSTM(OpRun):  # type: ignore[misc]
    """LSTM with both weight matrices on the crossbar; ONNX's gate order i, o, f, c and layout 0."""

    op_domain = "pcm"

    def _run(
        self,
        x: Array,
        b: Array | None = None,
        initial_h: Array | None = None,
        initial_c: Array | None = None,
        layer: str = "",
        hidden_size: int = 0,
        direction: str = "forward",
    ) -> tuple[Array, Array, Array]:
        call = _call.get()
        outputs = []
        for one in directions(direction):
            bias = np.zeros(8 * hidden_size) if b is None else b[one.index].astype(np.float64)
            zeros = np.zeros((x.shape[1], hidden_size))
            h = zeros if initial_h is None else initial_h[one.index].astype(np.float64)
            c = zeros if initial_c is None else initial_c[one.index].astype(np.float64)
            steps = x[::-1] if one.reverse else x
            y, h, c = _lstm(call, layer, one.suffix, steps.astype(np.float64), bias, h, c)
            outputs.append((y[::-1] if one.reverse else y, h, c))
        sequence = np.stack([y for y, _h, _c in outputs], axis=1)
        last_h = np.stack([h for _y, h, _c in outputs])
        last_c = np.stack([c for _y, _h, c in outputs])
        return sequence.astype(np.float32), last_h.astype(np.float32), last_c.astype(np.float32)


def _lstm(
    call: Call, layer: str, suffix: str, x: Float64, bias: Float64, h: Float64, c: Float64
) -> tuple[Float64, Float64, Float64]:
    blocks = call.program.layers[layer].blocks
    inward = BlockEvaluator(call, blocks[f"W{suffix}"])
    recurrent = BlockEvaluator(call, blocks[f"R{suffix}"])
    hidden = h.shape[-1]
    fixed = bias[: 4 * hidden] + bias[4 * hidden :]
    states = []
    for step in x:
        gates = inward.apply(step[:, None, :]) + recurrent.apply(h[:, None, :]) + fixed
        i, o, f = (_sigmoid(gates[:, k * hidden : (k + 1) * hidden]) for k in range(3))
        c = f * c + i * np.tanh(gates[:, 3 * hidden :])
        h = o * np.tanh(c)
        states.append(h)
    return np.stack(states), h, c


def _sigmoid(x: Float64) -> Float64:
    # The logistic function through tanh, which overflows nowhere.
    result: Float64 = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result


OPERATORS = (AnalogConv, AnalogGemm, AnalogLSTM)
