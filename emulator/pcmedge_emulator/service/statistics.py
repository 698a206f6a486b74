"""Counts and times of inference requests since start, as the Open Inference Protocol's statistics extension."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from pcmedge._contract import inference_pb2

_MOST_BATCH_SIZES = 1024
"""Clients choose how many samples they send; sizes that come later than this many others are not told apart."""


@dataclass
class _Durations:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def message(self) -> inference_pb2.StatisticDuration:
        return inference_pb2.StatisticDuration(count=self.count, ns=self.ns)


@dataclass
class _Model:
    samples: int = 0
    last_unix_ms: int = 0
    success: _Durations = field(default_factory=_Durations)
    fail: _Durations = field(default_factory=_Durations)
    queue: _Durations = field(default_factory=_Durations)
    compute_input: _Durations = field(default_factory=_Durations)
    compute_infer: _Durations = field(default_factory=_Durations)
    compute_output: _Durations = field(default_factory=_Durations)
    executions: int = 0
    batches: dict[int, _Durations] = field(default_factory=dict)


class InferenceStatistics:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}

    def succeeded(self, model: str, samples: int, input_ns: int, queue_ns: int, infer_ns: int, output_ns: int) -> None:
        """One request: time to read its tensors, to wait for its turn, to compute, and to write the reply. Nanoseconds.

        ``infer_ns`` is the time of the whole run of the engine, whoever shared it.
        """
        with self._lock:
            entry = self._models.setdefault(model, _Model())
            entry.samples += samples
            entry.last_unix_ms = time.time_ns() // 1_000_000
            entry.queue.add(queue_ns)
            entry.compute_input.add(input_ns)
            entry.compute_infer.add(infer_ns)
            entry.compute_output.add(output_ns)
            entry.success.add(input_ns + queue_ns + infer_ns + output_ns)

    def executed(self, model: str, samples: int, ns: int) -> None:
        """One run of the engine, for one request or for several together."""
        with self._lock:
            entry = self._models.setdefault(model, _Model())
            entry.executions += 1
            if samples in entry.batches or len(entry.batches) < _MOST_BATCH_SIZES:
                entry.batches.setdefault(samples, _Durations()).add(ns)

    def failed(self, model: str, ns: int) -> None:
        with self._lock:
            self._models.setdefault(model, _Model()).fail.add(ns)

    def message(self, model: str, version: str) -> inference_pb2.ModelStatistics:
        with self._lock:
            entry = self._models.get(model, _Model())
            return inference_pb2.ModelStatistics(
                name=model,
                version=version,
                last_inference=entry.last_unix_ms,
                inference_count=entry.samples,
                execution_count=entry.executions,
                inference_stats=inference_pb2.InferStatistics(
                    success=entry.success.message(),
                    fail=entry.fail.message(),
                    queue=entry.queue.message(),
                    compute_input=entry.compute_input.message(),
                    compute_infer=entry.compute_infer.message(),
                    compute_output=entry.compute_output.message(),
                ),
                batch_stats=[
                    inference_pb2.InferBatchStatistics(batch_size=size, compute_infer=entry.batches[size].message())
                    for size in sorted(entry.batches)
                ],
            )
