"""What the emulated chip offers; docs/device-contract.md says what each name promises."""

from __future__ import annotations

CAPABILITIES = (
    "buffer",
    "buffer.statistics",
    "diagnose",
    "diagnose.findings",
    "diagnose.progress",
    "events",
    "events.watch",
    "images",
    "infer",
    "infer.stream",
    "lease",
    "operations",
    "policy.drift",
    "policy.interval",
    "policy.log-time",
    "policy.self-test",
    "policy.self-test-trigger",
    "program",
    "program.replace",
    "program.verify",
    "recalibrate.adabs",
    "recalibrate.gdc",
    "recalibrate.gdc-per-column",
    "recalibrate.paired",
    "recalibrate.reads",
    "rollback",
    "self-test",
    "self-test.history",
    "telemetry",
    "telemetry.health",
    "telemetry.watch",
    "tile.read",
)
LAB_CAPABILITIES = ("lab", "lab.clock", "lab.faults", "lab.noise", "lab.snapshot")
TURBO_CAPABILITY = "infer.turbo"
