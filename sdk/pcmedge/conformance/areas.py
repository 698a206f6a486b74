"""Which modules hold checks."""

from __future__ import annotations

from importlib import import_module

AREAS = (
    "identity",
    "errors",
    "idempotence",
    "generations",
    "leases",
    "images",
    "programming",
    "transfers",
    "operations",
    "recalibration",
    "served",
    "rollback",
    "buffers",
    "inference",
    "requests",
    "sharing",
    "ages",
    "telemetry",
    "events",
    "restart",
    "lab",
    "faults",
    "access",
    "versions",
)


def load() -> None:
    """Imports them all, which registers their checks."""
    for area in AREAS:
        import_module(f"pcmedge.conformance.{area}")
