"""What the lowering of analog nodes shares: the numbers a band of tiles stands for, its noise and its read-out.

A band's product is DAC codes in, columns in layer units out, in standard ONNX operators: ``convolution.py`` makes it of
a Conv, ``product.py`` of a MatMul. What is folded where (all exact up to float32 rounding):

* the ADC step of every column (tiles side by side may differ) and its gain go into the weights, so one QuantizeLinear
  with step 1 converts all columns of a band; the ADC offset is added to the product, and so is what a bias row adds;
* DAC step, ADC step, weight scale and drift factor become one vector per band, a parameter of the request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pcmedge_emulator.engine import converters
from pcmedge_emulator.engine.converters import Codes
from pcmedge_emulator.engine.geometry import Band, dense, driven, has_bias_row, per_column
from pcmedge_emulator.engine.graph import GraphBuilder, ParameterLayout
from pcmedge_emulator.engine.integer import IntegerWeights, integer_weights
from pcmedge_emulator.engine.program import Block, ChipProgram
from pcmedge_emulator.engine.state import Parameters, Precision, Snapshot

FloatArray = npt.NDArray[np.float32]

# "shapes": the noise inputs are registered, to learn their shapes, but neither declared nor added.
NoiseMode = Literal["off", "shapes", "added"]


@dataclass(frozen=True)
class BandKey:
    """Names one band (row tile) of one block."""

    layer: str
    block: str
    index: int


@dataclass(frozen=True)
class NoiseInput:
    """A pair of session inputs: numbers ``gaussian`` from the bank, and the ``signs`` they are multiplied with.

    ``like`` is a tensor of the shape of the numbers. ``planes``: of a convolution, whose signs are one per picture and
    channel; otherwise one per vector.
    """

    gaussian: str
    signs: str
    like: str
    planes: bool


@dataclass
class AnalogContext:
    """What the lowering of analog nodes shares: the graph so far, the state of the chip, and what it must expose.

    ``noise`` are the session inputs that carry read noise; ``codes`` maps bands to their ADC codes (those inside a loop
    body only with ``record_codes``). ``weight_bits`` is what int8 products round the conductances to.
    """

    program: ChipProgram
    snapshot: Snapshot
    builder: GraphBuilder
    layout: ParameterLayout
    noise_mode: NoiseMode
    record_codes: bool = False
    precision: Precision = "exact"
    weight_bits: int = 8
    noise: list[NoiseInput] = field(default_factory=list)
    codes: dict[BandKey, Codes] = field(default_factory=dict)

    @property
    def ideal(self) -> bool:
        return self.snapshot.converters == "ideal"

    @property
    def integer(self) -> bool:
        """Whether products are int8 ones, ADC included: in turbo, unless noise has to enter before the ADC."""
        return self.precision == "turbo" and self.snapshot.read_noise == "off"

    def dac(self, builder: GraphBuilder, x: str, block: Block, hint: str) -> Codes:
        """DAC codes of ``x``; ideal converters hand the values through."""
        if self.ideal:
            return Codes(x, False, 0)
        if self.integer:
            return converters.as_integer(
                builder, x, block.dac_step, self.program.profile.dac_bits, block.dac_signed, hint
            )
        return converters.quantise(builder, x, block.dac_step, self.program.profile.dac_bits, block.dac_signed, hint)

    def scale_parameter(self, layer: str, block: Block, index: int, band: Band) -> str:
        """The request parameter that turns the band's ADC codes into layer units, float32 [groups * columns]."""
        steps = {tile.tile: tile.adc_step for tile in band.tiles}
        fixed = np.asarray(block.weight_scale, np.float64)
        if not self.ideal:
            fixed = fixed * block.dac_step * per_column(block, band, steps)

        def source(parameters: Parameters, _reference: object) -> npt.NDArray[np.float64]:
            factors = {tile.tile: parameters.drift_factor(tile) for tile in band.tiles}
            return fixed * per_column(block, band, factors)

        return self.layout.add(self.builder.fresh(f"{layer}/{block.name}/{index}/scale"), fixed.size, source)

    def column_gain(self, block: Block, band: Band) -> npt.NDArray[np.float64]:
        """What one unit of the tile's sum is at the rounding, per column: gain / adc_step (ideal: 1)."""
        if self.ideal:
            return np.ones(block.groups * block.columns)
        gain = per_column(block, band, {tile.tile: 1.0 / np.float64(np.float32(tile.adc_step)) for tile in band.tiles})
        return gain if self.snapshot.gain is None else gain * per_column(block, band, self.snapshot.gain)

    def column_offset(self, block: Block, band: Band) -> npt.NDArray[np.float64] | None:
        """What every column gets at the rounding, whatever the input: bias row and ADC offset; None if nothing."""
        fixed = None
        if has_bias_row(block, band):
            row = dense(block, band, self.snapshot.conductances)[:, -1].reshape(-1)
            fixed = row * self.column_gain(block, band) * self._bias_drive(block)
        if self.ideal or self.snapshot.offset is None:
            return fixed
        offset = per_column(block, band, self.snapshot.offset)
        return offset if fixed is None else fixed + offset

    def _bias_drive(self, block: Block) -> float:
        """What drives the bias row: a code, or with ideal converters its value in layer units."""
        return block.bias_code * block.dac_step if self.ideal else float(block.bias_code)

    def matrix(self, block: Block, band: Band) -> FloatArray:
        """The conductances of the band's input rows with the column gain folded in, float32 [groups, rows, columns].

        A band with nothing but the bias has no such rows.
        """
        gain = self.column_gain(block, band).reshape(block.groups, 1, block.columns)
        rows = _input_part(block, band, dense(block, band, self.snapshot.conductances))
        return (rows * gain).astype(np.float32)

    def integer_weights(self, block: Block, band: Band) -> IntegerWeights:
        """:meth:`matrix` and :meth:`column_offset` in int8 and int32."""
        return integer_weights(self.matrix(block, band), self.column_offset(block, band), self.weight_bits)

    def noise_matrix(self, block: Block, band: Band) -> FloatArray:
        """Variance per squared code of every cell of the input rows, float32 (input-dependent noise)."""
        return _input_part(block, band, self._cell_variances(block, band)).astype(np.float32)

    def noise_offset(self, block: Block, band: Band) -> npt.NDArray[np.float64] | None:
        """Variance per column that the bias row adds (input-dependent noise); None without the row."""
        if not has_bias_row(block, band):
            return None
        return self._cell_variances(block, band)[:, -1].reshape(-1) * self._bias_drive(block) ** 2

    def _cell_variances(self, block: Block, band: Band) -> npt.NDArray[np.float64]:
        pair_sums = self.snapshot.pair_sums
        assert pair_sums is not None  # Snapshot.check
        gain = self.column_gain(block, band).reshape(block.groups, 1, block.columns)
        return dense(block, band, pair_sums) * (self.snapshot.noise_coefficient * gain) ** 2

    def sigma(self, block: Block, band: Band) -> npt.NDArray[np.float64]:
        """Additive noise per column at the rounding; ideal converters work in layer inputs instead of codes."""
        assert self.snapshot.column_sigma is not None  # Snapshot.check
        sigma = per_column(block, band, self.snapshot.column_sigma) * self.column_gain(block, band)
        return sigma * block.dac_step if self.ideal else sigma

    def noise_input(self, hint: str, like: str, planes: bool) -> NoiseInput:
        """Session inputs with standard normal numbers of the shape of tensor ``like``, and with their signs."""
        made = NoiseInput(
            gaussian=self.builder.fresh(f"{hint}/gaussian"),
            signs=self.builder.fresh(f"{hint}/signs"),
            like=like,
            planes=planes,
        )
        self.noise.append(made)
        return made


def with_read_noise(
    context: AnalogContext,
    builder: GraphBuilder,
    p: str,
    gaussian: str,
    signs: str,
    variance: Callable[[], str],
    sigma: Callable[[], npt.NDArray[np.float64]],
    hint: str,
) -> str:
    """p + signs * spread * gaussian. The spread is ``sigma`` per column (shaped to broadcast), or, where the noise
    depends on the input, the root of the tensor ``variance``: a second matrix-vector product."""
    if context.noise_mode != "added":
        return p
    if context.snapshot.read_noise == "additive":
        spread = builder.constant(sigma(), np.float32, f"{hint}/sigma")
    else:
        spread = builder.node("Sqrt", [variance()], f"{hint}/spread")
    signed = builder.node("Mul", [signs, spread], f"{hint}/signed")
    return builder.node("Add", [p, builder.node("Mul", [gaussian, signed], f"{hint}/noise")], f"{hint}/noisy")


def read_out(
    context: AnalogContext, builder: GraphBuilder, key: BandKey, p: str, scale: str, spatial: int | None
) -> str:
    """ADC and digital scale: the band's partial result in layer units. Records the ADC codes in ``context.codes``."""
    hint = f"{key.layer}/{key.block}/{key.index}"
    if context.ideal:
        return converters.times_column(builder, p, scale, spatial, hint)
    codes = converters.quantise(builder, p, 1.0, context.program.profile.adc_bits, True, f"{hint}/adc")
    return scaled(context, builder, key, codes, scale, spatial)


def scaled(
    context: AnalogContext, builder: GraphBuilder, key: BandKey, codes: Codes, scale: str, spatial: int | None
) -> str:
    """The digital scale alone, of ADC codes that are there already; records them."""
    context.codes[key] = codes
    return converters.scaled_by_column(builder, codes, scale, spatial, f"{key.layer}/{key.block}/{key.index}")


def total(builder: GraphBuilder, parts: list[str], hint: str) -> str:
    """The digital sum over row tiles."""
    return parts[0] if len(parts) == 1 else builder.node("Sum", parts, f"{hint}/sum")


def _input_part(block: Block, band: Band, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    first, stop = driven(block, band)
    return matrix[:, : stop - first]
