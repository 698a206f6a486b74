"""Every method of both unmodified tritonclient gRPC clients against a real server: served, or refused with a word.

docs/open-inference-protocol.md has the same table; tests/test_service_tritonclient.py looks at the answers themselves.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from pcmedge.device import Policy
from service_devices import served
from service_models import classifier, codes, pictures, two_by_two
from tritonclient.utils import InferenceServerException

PAGE = (Path(__file__).parent.parent / "docs" / "open-inference-protocol.md").read_text()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(classifier(), two_by_two(), codes(), read_noise="off") as server:
        with pcmedge.connect(server.address) as device:
            for name in ("small", "pair", "codes"):
                device.set_policy(Policy(kind="manual"), model=name)
        yield server.address.removeprefix("grpc://")


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address) as made:
        yield made


def x(samples: int = 2, *, raw: bool = True) -> Any:
    made = triton.InferInput("x", [samples, 1, 6, 6], "FP32")
    made.set_data_from_numpy(pictures(samples))
    if not raw:
        # What tritonclient itself never sends, and other clients do.
        content = made._raw_content
        made._raw_content = None
        made._input.contents.fp32_contents.extend(np.frombuffer(content, "<f4").tolist())
    return made


SERVED: Mapping[str, Callable[[Any], Any]] = {
    "is_server_live": lambda client: client.is_server_live(),
    "is_server_ready": lambda client: client.is_server_ready(),
    "is_model_ready": lambda client: client.is_model_ready("small", "1"),
    "get_server_metadata": lambda client: client.get_server_metadata(as_json=True),
    "get_model_metadata": lambda client: client.get_model_metadata("small", as_json=True),
    "get_model_config": lambda client: client.get_model_config("small", as_json=True),
    "get_model_repository_index": lambda client: client.get_model_repository_index(as_json=True),
    "load_model": lambda client: client.load_model("pair"),
    "unload_model": lambda client: client.unload_model("pair"),
    "get_inference_statistics": lambda client: client.get_inference_statistics("small", as_json=True),
    "infer": lambda client: client.infer("small", [x()]),
}
REFUSED: Mapping[str, Callable[[Any], Any]] = {
    "get_trace_settings": lambda client: client.get_trace_settings(),
    "update_trace_settings": lambda client: client.update_trace_settings(settings={"trace_level": "OFF"}),
    "get_log_settings": lambda client: client.get_log_settings(),
    "update_log_settings": lambda client: client.update_log_settings({"log_verbose_level": 1}),
    "get_system_shared_memory_status": lambda client: client.get_system_shared_memory_status(),
    "register_system_shared_memory": lambda client: client.register_system_shared_memory("a", "/a", 64),
    "unregister_system_shared_memory": lambda client: client.unregister_system_shared_memory("a"),
    "get_cuda_shared_memory_status": lambda client: client.get_cuda_shared_memory_status(),
    "register_cuda_shared_memory": lambda client: client.register_cuda_shared_memory("a", b"aGFuZGxl", 0, 64),
    "unregister_cuda_shared_memory": lambda client: client.unregister_cuda_shared_memory("a"),
}
STREAMS = {"async_infer", "start_stream", "async_stream_infer", "stop_stream", "stream_infer"}
LOCAL = {"close", "plugin", "register_plugin", "unregister_plugin"}


def test_no_method_of_either_client_is_left_out_here_or_in_the_documentation() -> None:
    methods = {
        name
        for kind in (triton.InferenceServerClient, triton_aio.InferenceServerClient)
        for name, _ in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }
    assert methods == {*SERVED, *REFUSED, *STREAMS, *LOCAL}
    rows = re.findall(r"^\| (.+?) \| (served|refused|local) \|", PAGE, re.MULTILINE)
    told = {name: verdict for names, verdict in rows for name in re.findall(r"`(\w+)`", names)}
    assert {name for name, verdict in told.items() if verdict == "refused"} == set(REFUSED)
    assert set(told) == methods


def asked(way: str, address: str, ask: Callable[[Any], Any]) -> Any:
    """What the blocking client, or the awaiting one, answers."""
    if way == "blocking":
        with triton.InferenceServerClient(address) as client:
            return ask(client)

    async def talk() -> Any:
        async with triton_aio.InferenceServerClient(address) as client:
            return await ask(client)

    return asyncio.run(talk())


@pytest.mark.parametrize("way", ["blocking", "awaiting"])
def test_what_is_served(way: str, address: str) -> None:
    answers = {name: asked(way, address, ask) for name, ask in SERVED.items()}
    asked(way, address, SERVED["load_model"])
    assert [answers[name] for name in ("is_server_live", "is_server_ready", "is_model_ready")] == [True] * 3
    assert answers["get_server_metadata"]["extensions"] == ["model_configuration", "model_repository", "statistics"]
    assert answers["get_model_metadata"]["inputs"][0]["shape"] == ["-1", "1", "6", "6"]
    config = answers["get_model_config"]["config"]
    assert (config["name"], config["platform"]) == ("small", "pcm_analog")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": ["1", "6", "6"]}]
    assert config["output"] == [{"name": "scores", "data_type": "TYPE_FP32", "dims": ["4"]}]
    assert config["max_batch_size"] * 36 * 4 < 64 << 20 < (config["max_batch_size"] + 500) * 36 * 4
    assert {model["name"] for model in answers["get_model_repository_index"]["models"]} == {"small", "pair", "codes"}
    assert answers["get_inference_statistics"]["model_stats"][0]["name"] == "small"
    assert answers["infer"].as_numpy("scores").shape == (2, 4)


@pytest.mark.parametrize("way", ["blocking", "awaiting"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_so(name: str, way: str, address: str) -> None:
    with pytest.raises(InferenceServerException, match="does not know the call /inference") as caught:
        asked(way, address, REFUSED[name])
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize("way", ["blocking", "awaiting"])
def test_options_of_a_request(way: str, address: str) -> None:
    """What a client may send along: ids, headers, compression, deadlines, sequences, priorities, its own parameters."""
    options = {
        "request_id": "frame-7",
        "headers": {"x-trace": "7"},
        "compression_algorithm": "gzip",
        "client_timeout": 20.0,
        "sequence_id": 3,
        "sequence_start": True,
        "sequence_end": True,
        "priority": 2,
        "timeout": 1000,
        "parameters": {"camera": "left", "exposure": 3, "gain": 0.5},
        "outputs": [triton.InferRequestedOutput("scores")],
    }
    plain = asked(way, address, lambda client: client.infer("small", [x()]))
    full = asked(way, address, lambda client: client.infer("small", [x()], **options))
    assert full.get_response().id == "frame-7"
    np.testing.assert_array_equal(full.as_numpy("scores"), plain.as_numpy("scores"))


def test_raw_and_typed_contents_are_the_same_request(client: Any) -> None:
    raw = client.infer("small", [x()])
    typed = client.infer("small", [x(raw=False)])
    assert (len(raw.get_response().raw_output_contents), len(typed.get_response().raw_output_contents)) == (1, 0)
    contents = typed.get_response().outputs[0].contents.fp32_contents
    np.testing.assert_array_equal(np.array(contents, np.float32).reshape(2, 4), raw.as_numpy("scores"))


def integers(*, raw: bool) -> list[Any]:
    values = {"u": np.arange(16, dtype=np.uint8).reshape(2, 8), "i": np.arange(-8, 8, dtype=np.int8).reshape(2, 8)}
    made = []
    for name, array in values.items():
        tensor = triton.InferInput(name, [2, 8], {"u": "UINT8", "i": "INT8"}[name])
        if raw:
            tensor.set_data_from_numpy(array)
        else:
            contents = tensor._input.contents
            (contents.uint_contents if name == "u" else contents.int_contents).extend(array.ravel().tolist())
        made.append(tensor)
    return made


def test_integers_go_in_and_out_raw_and_typed(client: Any, address: str) -> None:
    with pcmedge.connect(f"grpc://{address}") as device:
        u, i = np.arange(16, dtype=np.uint8).reshape(2, 8), np.arange(-8, 8, dtype=np.int8).reshape(2, 8)
        expected = device.infer({"u": u, "i": i}, model="codes")
    raw = client.infer("codes", integers(raw=True))
    for name, datatype in (("y", np.float32), ("k", np.int64)):
        assert raw.as_numpy(name).dtype == datatype
        np.testing.assert_array_equal(raw.as_numpy(name), expected[name])
    typed = {output.name: output for output in client.infer("codes", integers(raw=False)).get_response().outputs}
    assert (typed["y"].datatype, typed["k"].datatype) == ("FP32", "INT64")
    assert list(typed["k"].contents.int64_contents) == expected["k"].tolist()
    config = client.get_model_config("codes", as_json=True)["config"]
    assert [tensor["data_type"] for tensor in config["input"]] == ["TYPE_UINT8", "TYPE_INT8"]
    wrong = triton.InferInput("u", [2, 8], "INT32")
    wrong.set_data_from_numpy(np.zeros((2, 8), np.int32))
    with pytest.raises(InferenceServerException, match="int32"):
        client.infer("codes", [wrong, integers(raw=True)[1]])


def test_a_deadline_that_passes_is_the_clients_own_error(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
        client.infer("small", [x(4096)], client_timeout=1e-6)


def test_callbacks_get_results_and_errors(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    for model in ("small", "nobody"):
        client.async_infer(model, [x()], callback=lambda result, error, name=model: answers.put((name, result, error)))
    found = {name: (result, error) for name, result, error in (answers.get(timeout=20) for _ in range(2))}
    assert found["small"][0].as_numpy("scores").shape == (2, 4)
    assert "NOT_FOUND" in found["nobody"][1].status()
    client.async_infer(
        "small", [x(4096)], callback=lambda result, error: answers.put((result, error)), client_timeout=1e-6
    )
    result, error = answers.get(timeout=20)
    assert (result, error.status()) == (None, "StatusCode.DEADLINE_EXCEEDED")


def test_one_stream_carries_several_models_and_ends_when_told(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), compression_algorithm="deflate")
    a, b = triton.InferInput("a", [1, 8], "FP32"), triton.InferInput("b", [1, 5], "FP32")
    a.set_data_from_numpy(np.ones((1, 8), np.float32))
    b.set_data_from_numpy(np.ones((1, 5), np.float32))
    for number in range(6):
        model, inputs = (("small", [x()]), ("pair", [a, b]))[number % 2]
        client.async_stream_infer(model, inputs, request_id=str(number), sequence_id=1, sequence_start=number == 0)
    found = [answers.get(timeout=20) for _ in range(6)]
    client.stop_stream()
    assert [error for _, error in found] == [None] * 6
    assert [result.get_response().id for result, _ in found] == [str(number) for number in range(6)]
    assert [result.get_response().model_name for result, _ in found] == ["small", "pair"] * 3


def test_the_awaiting_stream_reports_what_fails_and_goes_on(address: str) -> None:
    async def talk() -> list[str]:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for model in ("small", "nobody", "small"):
                yield {"model_name": model, "inputs": [x()]}

        async with triton_aio.InferenceServerClient(address) as client:
            return [
                error.message() if error else result.get_response().model_name
                async for result, error in client.stream_infer(requests())
            ]

    first, second, third = asyncio.run(talk())
    assert (first, third) == ("small", "small")
    assert "nobody" in second


def test_a_headers_plugin_is_called(client: Any) -> None:
    seen = []

    class Plugin:
        def __call__(self, request: Any) -> None:
            seen.append(request)
            request.headers["x-plugin"] = "yes"

    plugin = Plugin()
    client.register_plugin(plugin)
    assert client.plugin() is plugin
    assert client.infer("small", [x()]).as_numpy("scores") is not None
    client.unregister_plugin()
    assert len(seen) == 1


def test_statistics_of_one_model_of_all_and_of_none(client: Any) -> None:
    assert [model.name for model in client.get_inference_statistics("pair").model_stats] == ["pair"]
    assert {model.name for model in client.get_inference_statistics().model_stats} == {"small", "pair", "codes"}
    for ask in (client.get_inference_statistics, client.get_model_config, client.get_model_metadata):
        for arguments in (("nobody",), ("small", "99")):
            with pytest.raises(InferenceServerException) as caught:
                ask(*arguments)
            assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_many_clients_of_several_kinds_at_once(address: str) -> None:
    shapes: list[Any] = []

    def ask() -> None:
        with triton.InferenceServerClient(address) as client:
            shapes.extend(client.infer("small", [x()]).as_numpy("scores").shape for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shapes == [(2, 4)] * 30
