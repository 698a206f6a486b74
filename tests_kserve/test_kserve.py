"""kserve's own gRPC client, unmodified, against ``pcmedge serve``: ready, inference, errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pcmedge
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest, InferResponse
from pcmedge.demo import compile_digits, load_digits

T = TypeVar("T")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a served device with the digits on it, without noise."""
    image = tmp_path_factory.mktemp("kserve") / "digits.pcmi"
    compile_digits().save(image)
    options = ["--listen", "127.0.0.1:0", "--read-noise", "off", "--clock", "manual", "--json"]
    command = [sys.executable, "-m", "pcmedge", "serve", str(image), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["address"].removeprefix("grpc://")
        finally:
            process.terminate()
            process.communicate(timeout=60)


def ask(address: str, what: Callable[[Any], Awaitable[T]]) -> T:
    async def talk() -> T:
        async with InferenceGRPCClient(url=address) as client:
            return await what(client)

    return asyncio.run(talk())


def request(model: str, pictures: np.ndarray[Any, Any], *, binary: bool) -> InferRequest:
    tensor = InferInput("x", list(pictures.shape), "FP32")
    tensor.set_data_from_numpy(pictures, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor], request_id="frame-7")


def test_this_is_the_client_meant() -> None:
    assert metadata.version("kserve") == "0.21.0"
    assert Path(pcmedge.__path__[0]).name == "pcmedge"


def test_server_and_model_are_live_and_ready(address: str) -> None:
    assert ask(address, lambda client: client.is_server_live())
    assert ask(address, lambda client: client.is_server_ready())
    assert ask(address, lambda client: client.is_model_ready("digits"))
    assert not ask(address, lambda client: client.is_model_ready("nobody"))


@pytest.mark.parametrize("binary", [True, False])
def test_answers_are_those_of_our_own_client(address: str, binary: bool) -> None:
    pictures = load_digits().test.tensors[:4]
    reply: InferResponse = ask(address, lambda client: client.infer(request("digits", pictures, binary=binary)))
    with pcmedge.connect(f"grpc://{address}") as device:
        expected = device.infer(pictures)
    (output,) = reply.outputs
    np.testing.assert_array_equal(output.as_numpy(), expected)
    assert (reply.model_name, reply.id, reply.model_version) == ("digits", "frame-7", "1")


@pytest.mark.parametrize(("model", "shape", "status"), [
    ("nobody", (1, 1, 8, 8), grpc.StatusCode.NOT_FOUND),
    ("digits", (1, 5), grpc.StatusCode.INVALID_ARGUMENT),
])  # fmt: skip
def test_errors_arrive_with_their_status(address: str, model: str, shape: Any, status: grpc.StatusCode) -> None:
    wrong = request(model, np.zeros(shape, np.float32), binary=True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        ask(address, lambda client: client.infer(wrong))
    assert caught.value.code() is status
    assert len(caught.value.details()) > 20
