"""Unmodified tritonclient against a real server on a real port: the Open Inference Protocol as others speak it."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from pcmedge._contract import inference_pb2
from pcmedge.device import Device, Policy
from pcmedge.device._grpc import GrpcTransport
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.services import METHODS
from service_devices import served
from service_models import classifier, pictures, two_by_two
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """host:port of a device with two models, no noise, nothing recalibrating."""
    with served(classifier(), two_by_two(), read_noise="off") as server:
        with Device(GrpcTransport(parse_address(server.address))) as device:
            for name in ("small", "pair"):
                device.set_policy(Policy(kind="manual"), model=name)
        yield server.address.removeprefix("grpc://")


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    made = triton.InferenceServerClient(address)
    yield made
    made.close()


def _input(batch: Any, name: str = "x") -> Any:
    made = triton.InferInput(name, list(batch.shape), "FP32")
    made.set_data_from_numpy(batch)
    return made


def test_the_server_and_its_models_are_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    assert client.is_model_ready("small", "1")
    assert not client.is_model_ready("small", "77")
    assert not client.is_model_ready("nobody")


def test_models_are_listed_and_described(client: Any) -> None:
    index = client.get_model_repository_index()
    assert {(model.name, model.version, model.state) for model in index.models} == {
        ("small", "1", "READY"),
        ("pair", "2", "READY"),
    }
    metadata = client.get_model_metadata("small")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("small", ["1"], "pcm_analog")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "FP32", [-1, 1, 6, 6])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("scores", "FP32", [-1, 4])]
    server = client.get_server_metadata(as_json=True)
    assert server["name"] == "pcmedge emulator"
    assert set(server["extensions"]) == {"model_configuration", "model_repository", "statistics"}


def test_inference_gives_the_answers_of_our_own_client(client: Any, address: str) -> None:
    batch = pictures(5)
    result = client.infer("small", [_input(batch)], request_id="7")
    with Device(GrpcTransport(parse_address(address))) as device:
        np.testing.assert_array_equal(result.as_numpy("scores"), device.infer(batch, model="small"))
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("7", "small", "1")
    assert response.parameters["pcm_program_generation"].int64_param == 1
    assert response.parameters["pcm_device_serial"].string_param == "emulator-0"
    assert response.parameters["pcm_noise"].bool_param is False
    assert "pcm_age_s" in response.parameters


def test_several_tensors_and_a_choice_of_outputs(client: Any) -> None:
    inputs = [_input(np.ones((2, 8), np.float32), "a"), _input(np.ones((2, 5), np.float32), "b")]
    both = client.infer("pair", inputs)
    one = client.infer("pair", inputs, outputs=[triton.InferRequestedOutput("q")])
    assert both.as_numpy("p").shape == (2, 3)
    assert one.as_numpy("p") is None
    np.testing.assert_array_equal(one.as_numpy("q"), both.as_numpy("q"))


@pytest.mark.parametrize(
    ("model", "batch", "status"),
    [
        ("nobody", pictures(1), "NOT_FOUND"),
        ("small", np.zeros((1, 5), np.float32), "INVALID_ARGUMENT"),
        ("small", np.full((1, 1, 6, 6), np.nan, np.float32), "INVALID_ARGUMENT"),
    ],
)
def test_errors_arrive_as_its_own_kind(client: Any, model: str, batch: Any, status: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [_input(batch)])
    assert status in caught.value.status()
    assert len(caught.value.message()) > 20


def test_classification_and_shared_memory_are_refused_not_ignored(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer("small", [_input(pictures(1))], outputs=[triton.InferRequestedOutput("scores", class_count=2)])
    with pytest.raises(InferenceServerException, match="does not know"):
        client.get_system_shared_memory_status()


def test_load_and_unload_are_activate_and_deactivate(client: Any) -> None:
    client.unload_model("pair")
    assert not client.is_model_ready("pair")
    index = client.get_model_repository_index(as_json=True)["models"]
    assert {model["name"]: model["state"] for model in index} == {"small": "READY", "pair": "UNAVAILABLE"}
    client.load_model("pair")
    assert client.is_model_ready("pair")
    with pytest.raises(InferenceServerException, match="no parameters"):
        client.load_model("pair", config="{}")
    with pytest.raises(InferenceServerException):
        client.load_model("nobody")


def test_statistics_count_samples_and_failures(client: Any) -> None:
    def statistics() -> Any:
        return client.get_inference_statistics("small").model_stats[0]

    before = statistics()
    client.infer("small", [_input(pictures(3))])
    with pytest.raises(InferenceServerException):
        client.infer("small", [_input(np.zeros((1, 5), np.float32))])
    after = statistics()
    assert after.inference_count - before.inference_count == 3
    assert after.execution_count - before.execution_count == 1
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    assert after.last_inference > 0
    assert len(client.get_inference_statistics().model_stats) == 2


def test_streams_answer_in_order_and_go_on_after_an_error(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    batches = [pictures(number % 3 + 1, seed=number) for number in range(20)]
    for number, batch in enumerate(batches):
        client.async_stream_infer("nobody" if number == 7 else "small", [_input(batch)], request_id=str(number))
    received = [answers.get(timeout=20) for _ in batches]
    client.stop_stream()
    for number, (result, error) in enumerate(received):
        if number == 7:
            assert "nobody" in error.message()
        else:
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("scores").shape == (len(batches[number]), 4)


def test_the_asyncio_client_infers_and_streams(address: str) -> None:
    async def talk() -> list[Any]:
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_model_ready("small")
            results = await asyncio.gather(*(client.infer("small", [_input(pictures(2))]) for _ in range(8)))
            shapes = [result.as_numpy("scores").shape for result in results]

            async def requests() -> AsyncIterator[dict[str, Any]]:
                for number in range(5):
                    yield {"model_name": "small", "inputs": [_input(pictures(number + 1))], "request_id": str(number)}

            async for result, error in client.stream_infer(requests()):
                assert error is None
                shapes.append(result.as_numpy("scores").shape)
            return shapes

    assert asyncio.run(talk()) == [(2, 4)] * 8 + [(number + 1, 4) for number in range(5)]


def test_typed_contents_are_answered_with_typed_contents(address: str) -> None:
    """What a client without raw contents sends, such as one from a JSON gateway."""
    request = inference_pb2.ModelInferRequest(model_name="small")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 1, 6, 6])
    tensor.contents.fp32_contents.extend([0.5] * 36)
    transport = GrpcTransport(parse_address(address))
    from pcmedge.device._calls import Call

    reply = transport.unary(Call(method=METHODS["ModelInfer"], request=request, timeout_s=10))
    transport.close()
    assert not reply.raw_output_contents
    assert len(reply.outputs[0].contents.fp32_contents) == 4
