"""Whatever a client sends, the device answers or refuses with a typed error; never INTERNAL, and it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pcmedge
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.device import Device, Policy
from pcmedge.device._calls import Call
from pcmedge.errors import Error, InternalError
from pcmedge.protocol.services import METHODS
from service_models import classifier, pictures
from soak.messages import messages

UNARY = [method for method in METHODS.values() if not method.client_streaming and not method.server_streaming]
STREAMED_IN = ["Program", "ReplaceCalibrationBuffer", "AppendCalibrationBuffer"]


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with pcmedge.Emulator(classifier(), clock="manual") as made:
        made.set_policy(Policy(kind="manual"))
        yield made


def refused_or_answered(device: Device, name: str, request: Any) -> None:
    call = Call(method=METHODS[name], request=request, timeout_s=10)
    try:
        device._attempt(call)
    except InternalError as error:
        raise AssertionError(f"{name} broke on {request!r}") from error
    except Error as error:
        if not error.message:
            raise


# Time is moved elsewhere: a year of it under a policy every second is asked for too easily.
CALLS = [method.name for method in UNARY if method.name not in ("AdvanceTime", "SetRecalibrationPolicy", "SetClock")]


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_unary_calls(device: Device, name: str, data: Any) -> None:
    refused_or_answered(device, name, data.draw(messages(METHODS[name].request)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=messages(inference_pb2.ModelInferRequest), merge=st.booleans())
def test_inference(device: Device, changes: Any, merge: bool) -> None:
    """Also requests that are almost right: a good one with whatever merged into it."""
    request = inference_pb2.ModelInferRequest()
    if merge:
        request.model_name = "small"
        request.inputs.add(name="x", datatype="FP32", shape=[1, 1, 6, 6])
        request.raw_input_contents.append(bytes(144))
    request.MergeFrom(changes)
    refused_or_answered(device, "ModelInfer", request)


@pytest.mark.parametrize("name", STREAMED_IN)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_streams_of_requests(device: Device, name: str, data: Any) -> None:
    requests = data.draw(st.lists(messages(METHODS[name].request), max_size=4))
    refused_or_answered(device, name, iter(requests))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=messages(device_pb2.RecalibrationPolicy))
def test_policies(device: Device, policy: Any) -> None:
    request = device_pb2.SetRecalibrationPolicyRequest(model_name="small", policy=policy)
    refused_or_answered(device, "SetRecalibrationPolicy", request)


def test_empty_requests_leave_a_device_that_takes_an_image_and_answers() -> None:
    with pcmedge.Emulator(classifier(), clock="manual") as device:
        for name in CALLS:
            if name != "AcquireLease":
                refused_or_answered(device, name, METHODS[name].request())
        device.program(classifier(), replace=True)
        assert device.infer(pictures(1)).shape == (1, 4)
