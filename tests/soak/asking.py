"""``python -m tests.soak.asking``: clients that ask again when they are answered; each a thread with a connection of
its own, all in this process. They wait for JSON on stdin, ask for as long as a line says, and write what they got.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from pcmedge._contract import inference_pb2
from pcmedge.device._grpc import GrpcTransport
from pcmedge.protocol import tensors
from pcmedge.protocol.address import parse_address
from pcmedge.protocol.services import METHODS

TIMEOUT_S = 30.0


@dataclass
class Got:
    """One client's answers of one block, in order, and the requests that were not answered."""

    latency_s: list[float] = field(default_factory=list)
    named: list[tuple[int, int, float]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def ask(self, transport: GrpcTransport, request: Any) -> None:
        started_s = time.perf_counter()
        try:
            reply = transport.start(METHODS["ModelInfer"], request, TIMEOUT_S)
        except grpc.RpcError as error:
            self.failed.append(f"{error.code().name}: {error.details()}")
            return
        self.latency_s.append(time.perf_counter() - started_s)
        told = reply.parameters
        self.named.append(
            (
                told["pcm_program_generation"].int64_param,
                told["pcm_statistics_generation"].int64_param,
                told["pcm_age_s"].double_param,
            )
        )
        (values,) = tensors.read_outputs(reply).values()
        self.outputs.append(values)


def block(transports: list[GrpcTransport], request: Any, seconds: float, rest_s: float) -> list[Got]:
    """All clients at once."""
    gotten = [Got() for _ in transports]
    together = threading.Barrier(len(transports) + 1)
    end_s = [0.0]

    def live(transport: GrpcTransport, got: Got) -> None:
        together.wait()
        while time.perf_counter() < end_s[0]:
            got.ask(transport, request)
            if rest_s:
                time.sleep(rest_s)

    threads = [threading.Thread(target=live, args=pair) for pair in zip(transports, gotten, strict=True)]
    for thread in threads:
        thread.start()
    end_s[0] = time.perf_counter() + seconds
    together.wait()
    for thread in threads:
        thread.join()
    return gotten


def main(address: str, model: str, name: str, samples: str, clients: str, rest_s: str) -> None:
    inputs = np.load(samples)
    request = inference_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype="FP32", shape=inputs.shape)
    request.raw_input_contents.append(np.ascontiguousarray(inputs, "<f4").tobytes())
    transports = [GrpcTransport(parse_address(address)) for _ in range(int(clients))]
    block(transports, request, 1.0, float(rest_s))
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        gotten = block(transports, request, order["seconds"], float(rest_s))
        np.savez(
            Path(order["file"]),
            latency_s=np.concatenate([each.latency_s for each in gotten]),
            named=np.array([named for each in gotten for named in each.named], np.float64).reshape(-1, 3),
            outputs=np.array([values for each in gotten for values in each.outputs], np.float32),
        )
        print(json.dumps({"failed": [text for each in gotten for text in each.failed]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
