"""How an image carries the source model's quantised inputs and outputs and its signatures, and codes and values."""

from __future__ import annotations

import numpy as np
import pcmedge
import pytest
from compiler_models import linear
from hypothesis import given
from hypothesis import strategies as st
from pcmedge._contract.image_pb2 import Quantization
from pcmedge.errors import CompileError
from pcmedge.frontends.interface import KEY, Codes, Interface, Signature, attach, interface_of
from pcmedge.image import ChipImage
from pcmedge.image.interface import dequantise, quantise

SAMPLES = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
INTERFACE = Interface(
    codes={
        "x": Codes(datatype="INT8", scale=0.007843137718737125, zero_point=-1),
        "y": Codes(datatype="UINT8", scale=0.25, zero_point=128),
    },
    signatures=(Signature(key="serving_default", inputs={"audio": "x"}, outputs={"scores": "y"}),),
)


def test_compile_writes_the_interface_of_the_source_into_the_manifest():
    model = linear(6, 3)
    attach(model, INTERFACE)
    image = ChipImage.from_bytes(pcmedge.compile(model, calibration=SAMPLES).to_bytes())
    (x,), (y,) = image.manifest.model.inputs, image.manifest.model.outputs
    assert (x.datatype, x.quantization.datatype, x.quantization.zero_point) == ("FP32", "INT8", -1)
    assert np.float32(x.quantization.scale) == np.float32(0.007843137718737125)
    assert y.quantization == Quantization(datatype="UINT8", scale=0.25, zero_point=128)
    (signature,) = image.manifest.application.signatures
    assert signature.key == "serving_default"
    assert [(entry.name, entry.tensor) for entry in signature.inputs] == [("audio", "x")]
    assert [(entry.name, entry.tensor) for entry in signature.outputs] == [("scores", "y")]


def test_a_model_without_an_interface_makes_an_image_without_one():
    image = pcmedge.compile(linear(6, 3), calibration=SAMPLES)
    assert not image.manifest.model.inputs[0].HasField("quantization")
    assert not image.manifest.application.signatures


def test_attaching_replaces_what_was_attached_and_keeps_other_metadata():
    model = linear(6, 3)
    model.metadata_props.add(key="author", value="somebody")
    attach(model, Interface(codes={"x": Codes(datatype="UINT8", scale=1.0, zero_point=0)}))
    attach(model, INTERFACE)
    assert interface_of(model) == INTERFACE
    assert sorted(entry.key for entry in model.metadata_props) == ["author", KEY]


@pytest.mark.parametrize(
    "interface",
    [
        Interface(codes={"z": Codes(datatype="INT8", scale=1.0, zero_point=0)}),
        Interface(codes={"x": Codes(datatype="INT8", scale=0.0, zero_point=0)}),
        Interface(codes={"x": Codes(datatype="INT8", scale=1.0, zero_point=128)}),
        Interface(codes={"x": Codes(datatype="INT8", scale=1.0, zero_point=2**70)}),
        Interface(codes={"x": Codes(datatype="FP32", scale=1.0, zero_point=0)}),
        Interface(signatures=(Signature(key="s", inputs={"a": "nowhere"}, outputs={}),)),
    ],
)
def test_an_interface_that_does_not_fit_the_model_is_a_compile_error(interface: Interface):
    model = linear(6, 3)
    attach(model, interface)
    with pytest.raises(CompileError, match="interface"):
        pcmedge.compile(model, calibration=SAMPLES)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"codes": {"x": 3}, "signatures": []}', '{"codes": [], "signatures": 1}']
)
def test_metadata_that_is_no_interface_is_a_compile_error(text: str):
    model = linear(6, 3)
    model.metadata_props.add(key=KEY, value=text)
    with pytest.raises(CompileError, match=KEY):
        interface_of(model)


@given(
    st.sampled_from(["INT8", "UINT8", "INT16"]),
    st.floats(1e-6, 1e3),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    st.data(),
)
def test_codes_are_the_nearest_in_range_and_codes_of_their_values(datatype, scale, values, data):
    limits = np.iinfo(datatype.lower())
    zero_point = data.draw(st.integers(limits.min, limits.max))
    quantization = Quantization(datatype=datatype, scale=scale, zero_point=zero_point)
    codes = quantise(np.array(values, np.float32), quantization)
    assert codes.dtype == np.dtype(datatype.lower())
    back = dequantise(codes, quantization)
    assert back.dtype == np.float32
    inside = (codes > limits.min) & (codes < limits.max)
    error = np.abs(back.astype(np.float64) - np.array(values, np.float32))
    assert np.all(error[inside] <= scale * 0.5 + np.abs(back[inside]) * 1e-6)
    np.testing.assert_array_equal(quantise(back, quantization), codes)
