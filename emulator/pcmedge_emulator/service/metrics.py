"""Prometheus metrics: the contract's telemetry and statistics translated, and the calls of the service counted.

A scrape asks the device what any client may ask (GetTelemetry, ModelStatistics), so no figure is computed here. Only
calls by status and their durations, which no call of the contract tells, are counted as they end. docs/operations.md
lists every metric.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIServer

from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.errors import AddressInUseError, Error, InputValueError
from pcmedge.protocol.address import Address, parse_address
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pcmedge_emulator.service.metric_families import device_families, model_families, statistics_families
from pcmedge_emulator.service.observing import Call

Ask = Callable[[str, Any], Any]
"""Answers a call of the contract by its name."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Bounds of the latency histograms: from a small network's inference to a programming."""


class Metrics:
    """The calls of one service; an observer of it (:mod:`.observing`), and what :func:`exposed` exposes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "pcmedge_calls", "Calls that ended, by gRPC status.", ("call", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "pcmedge_call_duration_seconds",
            "Time to answer a call; of a stream, until it ended.",
            ("call",),
            buckets=SECONDS,
            registry=self.registry,
        )

    def __call__(self, call: Call) -> None:
        self._calls.labels(call.name, call.status).inc()
        self._seconds.labels(call.name).observe(call.duration_s)


class _Telemetry(Collector):
    """What the device says of itself at the moment of the scrape."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._identity = ask("GetIdentity", device_pb2.GetIdentityRequest())

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("pcmedge_up", "Whether the device answered this scrape; its log tells why not.")
        try:
            telemetry = self._ask("GetTelemetry", device_pb2.GetTelemetryRequest(include_tiles=True))
            statistics = self._ask("ModelStatistics", inference_pb2.ModelStatisticsRequest())
        except Error:
            up.add_metric((), 0.0)
            yield up
            return
        up.add_metric((), 1.0)
        yield up
        yield from device_families(self._identity, telemetry)
        yield from model_families(telemetry)
        yield from statistics_families(statistics)


def metrics_address(text: str, *, insecure: bool) -> Address:
    """``HOST:PORT`` to expose metrics at. InputValueError for what is none, or beyond this machine without insecure."""
    address = parse_address(text, listen=True)
    if address.scheme != "grpc":
        raise InputValueError(f"metrics are exposed at HOST:PORT over HTTP, found {text!r}", found=text)
    if not (address.local or insecure):
        raise InputValueError(
            f"metrics at {text} would be read by everybody who can reach it, unencrypted. Expose them at 127.0.0.1 and "
            "let a scraper on this machine or a proxy with TLS pass them on, or say --insecure.",
            found=text,
        )
    return address


@contextlib.contextmanager
def exposed(metrics: Metrics, ask: Ask, address: Address) -> Iterator[str]:
    """Answers HTTP GET at the address until the end of the block; yields its URL, with the real port.

    Raises AddressInUseError, InputValueError if this machine cannot listen there.
    """
    metrics.registry.register(_Telemetry(ask))
    server, thread = _started(metrics.registry, address)
    try:
        host = f"[{address.host}]" if ":" in address.host else address.host
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _started(registry: CollectorRegistry, address: Address) -> tuple[WSGIServer, threading.Thread]:
    try:
        return start_http_server(address.port, addr=address.host, registry=registry)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(
                f"another process already listens on {address.host}:{address.port}; expose metrics elsewhere (port 0 "
                "takes a free one)",
                address=address,
            ) from error
        raise InputValueError(f"cannot expose metrics at {address.host}: {error}", address=address) from error
