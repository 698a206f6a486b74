"""The floor under every gRPC call: nothing but grpcio around an emulated chip, python -m benchmarks.measuring.bare

It answers a fixed number of bytes, to a call and on a stream, after the same inference that a service computes. Without
one the floor would be too low: a processor that waited has gone to sleep, and one that computed has cold caches.
"""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from pcmedge.image import ChipImage
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock

SERVICE, CALL, STREAM = "floor", "Call", "Stream"


class Client:
    """A client of that server: ``call`` and ``stream`` send ``request`` and wait for the answer."""

    def __init__(self, channel: grpc.Channel, request: bytes) -> None:
        self._request = request
        self._call = channel.unary_unary(f"/{SERVICE}/{CALL}")
        self._sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: Any = channel.stream_stream(f"/{SERVICE}/{STREAM}")(iter(self._sent.get, None))

    def call(self) -> None:
        self._call(self._request)

    def stream(self) -> None:
        self._sent.put(self._request)
        next(self._answers)

    def close(self) -> None:
        self._sent.put(None)


@contextmanager
def running(image: Path, request: bytes, reply: int, *, threads: int) -> Iterator[Client]:
    """A server in a process of its own that answers ``reply`` bytes when a picture is through, and a client of it."""
    words = [sys.executable, "-m", "benchmarks.measuring.bare", str(image), str(reply), str(threads)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
            client = Client(channel, request)
            yield client
            client.close()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def main(path: Path, reply: int, threads: int) -> None:
    answer, image = bytes(reply), ChipImage.open(path)
    chip = Chip(clock=Clock.manual(), default_policy=MANUAL, threads=threads)
    chip.program(image)
    spec = image.manifest.model.inputs[0]

    def compute(request: bytes) -> bytes:
        picture = np.frombuffer(request, np.float32).reshape(1, *spec.shape[1:])
        chip.infer(image.name, {str(spec.name): picture})
        return answer

    def call(request: bytes, context: grpc.ServicerContext) -> bytes:
        return compute(request)

    def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from map(compute, requests)

    server = grpc.server(ThreadPoolExecutor(8))
    handlers = {
        CALL: grpc.unary_unary_rpc_method_handler(call),
        STREAM: grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
