"""What both ends share by hand: tensors, errors on the wire, addresses, durations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pcmedge import errors
from pcmedge._contract import inference_pb2
from pcmedge.durations import format_duration, parse_duration
from pcmedge.errors import Error, InputError, InputShapeError, InputTypeError, InputValueError
from pcmedge.protocol import tensors
from pcmedge.protocol.address import address_or_environment, parse_address
from pcmedge.protocol.services import METHODS
from pcmedge.protocol.status import from_detail, from_status, limited, to_detail, to_status

NUMERIC = sorted(tensors.DTYPES)
arrays = st.sampled_from(NUMERIC).flatmap(
    lambda name: hnp.arrays(tensors.DTYPES[name], hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
)


@given(arrays)
def test_raw_contents_come_back_bit_for_bit(array: Any) -> None:
    request = inference_pb2.ModelInferRequest()
    tensors.add_inputs(request, {"x": array})
    back = tensors.read_inputs(inference_pb2.ModelInferRequest.FromString(request.SerializeToString()))["x"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(arrays.filter(lambda array: array.dtype != np.float16))
def test_typed_contents_come_back_equal(array: Any) -> None:
    reply = inference_pb2.ModelInferResponse()
    tensors.add_outputs(reply, {"y": array}, raw=False)
    assert not reply.raw_output_contents
    back = tensors.read_outputs(inference_pb2.ModelInferResponse.FromString(reply.SerializeToString()))["y"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=9), max_size=6))
def test_bytes_elements_keep_their_length(elements: list[bytes]) -> None:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    request = inference_pb2.ModelInferRequest()
    tensors.add_inputs(request, {"x": array})
    assert tensors.read_inputs(request)["x"].tolist() == elements


def test_half_floats_go_raw_because_the_protocol_has_no_field_for_them() -> None:
    reply = inference_pb2.ModelInferResponse()
    tensors.add_outputs(reply, {"y": np.ones(3, np.float16)}, raw=False)
    assert len(reply.raw_output_contents) == 1


def test_other_byte_orders_and_strides_are_packed_little_endian_row_major() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    assert tensors.pack(array) == np.array([[0, 2], [4, 6], [8, 10]], "<f4").tobytes()


def _request(datatype: str = "FP32", shape: tuple[int, ...] = (2,), raw: bytes | None = None, **contents: Any) -> Any:
    request = inference_pb2.ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (_request(raw=b"1234567"), InputShapeError),
        (_request(shape=(-1,), raw=b""), InputShapeError),
        (_request(shape=(1 << 40,), raw=b""), InputShapeError),
        (_request("BF16", raw=b"1234"), InputTypeError),
        (_request(int_contents=[1, 2]), InputTypeError),
        (_request(fp32_contents=[1]), InputShapeError),
        (_request("FP16", fp32_contents=[1, 2]), InputTypeError),
        (_request("INT8", int_contents=[1, 300]), InputValueError),
        (_request("BYTES", raw=b"\x02\x00\x00\x00ab"), InputShapeError),
        (_request("BYTES", shape=(1,), raw=b"\xff\x00\x00\x00ab"), InputShapeError),
        (_request(raw=b"12345678", fp32_contents=[1, 2]), InputError),
    ],
)
def test_requests_that_contradict_themselves_are_refused(request_: Any, kind: type[Error]) -> None:
    with pytest.raises(kind) as caught:
        tensors.read_inputs(request_)
    assert type(caught.value) is kind
    assert caught.value.message


def test_raw_contents_for_some_tensors_only_are_refused() -> None:
    request = _request(raw=b"12345678")
    request.inputs.add(name="y", datatype="FP32", shape=[2])
    with pytest.raises(InputError, match="2 input tensors need as many raw contents, found 1"):
        tensors.read_inputs(request)


def kinds(root: type[Error] = Error) -> list[type[Error]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind is not Error], ids=lambda kind: kind.reason)
def test_every_error_survives_the_wire_as_itself(kind: type[Error]) -> None:
    error = kind("expected 1, found 2; do 3 — «ü»", tile=7, shape=[1, 2])
    for back in (from_status(to_status(error).SerializeToString()), from_detail(to_detail(error))):
        assert type(back) is kind
        assert (back.reason, back.message, back.metadata) == (kind.reason, error.message, error.metadata)


def test_reasons_are_unique() -> None:
    reasons = [kind.reason for kind in kinds() if kind is not Error]
    assert len(reasons) == len(set(reasons))


def test_long_errors_are_cut_to_what_headers_carry_and_keep_their_kind() -> None:
    error = errors.UnsupportedOperatorError("ü" * 10_000, nodes="n" * 10_000, count=3)
    cut = limited(error)
    assert type(cut) is type(error)
    assert cut.message.endswith("…")
    # tritonclient and most others cap headers at 8 KiB; gRPC sends the message twice, once percent-encoded (x3).
    assert 3 * len(cut.message.encode()) + len(to_status(error).SerializeToString()) < 8192
    assert limited(cut) is cut


def test_foreign_statuses_are_not_mistaken_for_ours() -> None:
    assert from_status(b"\xff\xff\xff") is None
    assert from_status(b"") is None


def test_the_table_of_calls_covers_three_services() -> None:
    assert METHODS["Program"].path == "/pcm.device.v1.DeviceService/Program"
    assert METHODS["GetIdentity"].handler == "get_identity"
    assert METHODS["Program"].client_streaming
    assert METHODS["Program"].server_streaming
    assert len({method.service for method in METHODS.values()}) == 3


@pytest.mark.parametrize(
    ("text", "target", "url"),
    [
        ("grpc://127.0.0.1:5", "127.0.0.1:5", "grpc://127.0.0.1:5"),
        ("grpcs://chip.example.org:443", "chip.example.org:443", "grpcs://chip.example.org:443"),
        ("localhost:7", "localhost:7", "grpc://localhost:7"),
        ("grpc://[::1]:9", "[::1]:9", "grpc://[::1]:9"),
        ("unix:///run/pcm0.sock", "unix:/run/pcm0.sock", "unix:///run/pcm0.sock"),
        ("unix:/run/pcm0.sock", "unix:/run/pcm0.sock", "unix:///run/pcm0.sock"),
    ],
)
def test_addresses(text: str, target: str, url: str) -> None:
    address = parse_address(text)
    assert (address.target, address.url) == (target, url)


@pytest.mark.parametrize(
    "text",
    [
        *("", "grpc://", "host", "http://host:1", "grpc://host:99999", "grpc://host:1/x", "grpc://u@host:1"),
        *("unix://run/x", "unix:///" + "x" * 107, "127.0.0.1:0"),
    ],
)
def test_addresses_nobody_can_mean(text: str) -> None:
    with pytest.raises(InputValueError):
        parse_address(text)


def test_port_0_is_for_servers() -> None:
    assert parse_address("127.0.0.1:0", listen=True).port == 0


def test_no_address_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PCMEDGE_DEVICE", raising=False)
    with pytest.raises(InputValueError, match="PCMEDGE_DEVICE"):
        address_or_environment(None)
    monkeypatch.setenv("PCMEDGE_DEVICE", "grpc://10.0.0.1:5")
    assert address_or_environment(None).url == "grpc://10.0.0.1:5"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90s", 90), ("12h", 43200), ("1d", 86400), ("1y", 31536000), ("1.5m", 90), ("20", 20), (20, 20)),
        *(("1e3s", 1000), ("250ms", 0.25), (" 2 w ", 1209600), (0, 0)),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1 fortnight", "-1d", "1d2h", "nan", math.nan, math.inf, -1, True])
def test_durations_nobody_can_mean(text: Any) -> None:
    with pytest.raises(InputValueError):
        parse_duration(text)


def test_durations_read_back() -> None:
    assert [format_duration(seconds) for seconds in (0.5, 90, 86400, 31536000)] == ["0.5s", "1.5m", "1d", "1y"]
