"""The floor under every gRPC call: a server of nothing but grpcio, python -m benchmarks.measuring.echo

It answers as many bytes as it is asked for, to a call and on a stream, and computes nothing; but it can be busy for as
long as an inference takes, because a processor that waited sleeps more deeply and takes longer to wake.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

SERVICE, CALL, STREAM = "floor", "Call", "Stream"


class Echo:
    """A client of the echo server: ``call`` and ``stream`` send ``request`` and wait for the answer."""

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
def running(request: bytes, reply: int, *, busy_s: float) -> Iterator[Echo]:
    """An echo server in a process of its own, ``reply`` bytes after ``busy_s`` seconds, and a client of it."""
    words = [sys.executable, "-m", "benchmarks.measuring.echo", str(reply), str(busy_s)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
            echo = Echo(channel, request)
            yield echo
            echo.close()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def main(reply: int, busy_s: float) -> None:
    answer, work = bytes(reply), bytes(1 << 14)

    def compute() -> None:
        # Without Python's lock, as an inference: nothing else of the server is held up.
        end = time.perf_counter() + busy_s
        while time.perf_counter() < end:
            zlib.crc32(work)

    def call(request: bytes, context: grpc.ServicerContext) -> bytes:
        compute()
        return answer

    def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in requests:
            compute()
            yield answer

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
    main(int(sys.argv[1]), float(sys.argv[2]))
