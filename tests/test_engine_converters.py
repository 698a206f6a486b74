"""Converters in the plain graph give the codes of the definition, ties and saturation included."""

from __future__ import annotations

import numpy as np
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pcmedge_emulator.crossbar import dac
from pcmedge_emulator.engine.converters import as_float, code_range, quantise
from pcmedge_emulator.engine.fast import session_options
from pcmedge_emulator.engine.graph import GraphBuilder, ParameterLayout, unknown_shape
from pcmedge_emulator.engine.lowering import assemble


def codes_of(x: np.ndarray, step: float, bits: int, signed: bool) -> np.ndarray:
    builder = GraphBuilder(["x"])
    name = as_float(builder, quantise(builder, "x", step, bits, signed, "dac"), "out")
    model = assemble(builder, ParameterLayout(), [unknown_shape("x")], [unknown_shape(name)])
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
    )
    return session.run([name], {"x": x})[0]


@settings(max_examples=150, deadline=None)
@given(
    x=arrays.arrays(np.float32, 40, elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)),
    halves=arrays.arrays(np.int16, 40),
    bits=st.integers(2, 12),
    signed=st.booleans(),
    exponent=st.integers(-20, 20),
)
def test_codes_are_those_of_the_definition(
    x: np.ndarray, halves: np.ndarray, bits: int, signed: bool, exponent: int
) -> None:
    """With a power of two as step the division is exact, so every code must be equal, half-way values too."""
    step = 2.0**exponent
    values = np.concatenate([x, (halves * (step / 2)).astype(np.float32)])
    found = codes_of(values, step, bits, signed)
    assert np.array_equal(found, dac(values, step, bits, signed))
    lo, hi = code_range(bits, signed)
    assert found.min() >= lo
    assert found.max() <= hi


def test_ranges_are_symmetric_or_start_at_zero() -> None:
    assert code_range(8, True) == (-127, 127)
    assert code_range(8, False) == (0, 255)
    assert code_range(2, True) == (-1, 1)
    assert code_range(12, False) == (0, 4095)
    extreme = np.array([-1e30, 1e30], np.float32)
    assert codes_of(extreme, 0.1, 8, True).tolist() == [-127, 127]
    assert codes_of(extreme, 0.1, 8, False).tolist() == [0, 255]
