"""Talking to PCM devices: connect to one, or make an emulated one; the same :class:`Device` either way."""

from pcmedge.device._benchmark import BatchTiming, Benchmark, benchmark
from pcmedge.device._turnover import Turnover
from pcmedge.device.async_device import AsyncDevice, AsyncLab
from pcmedge.device.async_emulator import AsyncEmulator
from pcmedge.device.connecting import connect, connect_async
from pcmedge.device.device import Device, Lab
from pcmedge.device.emulator import Emulator
from pcmedge.device.fallback import FallbackDevice, FallbackResult, FallbackStatus
from pcmedge.device.results import (
    Advance,
    BufferDescription,
    Clock,
    Event,
    Fault,
    Geometry,
    Identity,
    InferResult,
    Lease,
    ModelTelemetry,
    Mutation,
    Policy,
    ProgramAndVerify,
    ProgramResult,
    Progress,
    RecalibrationResult,
    ResidentModel,
    SelfTest,
    Snapshot,
    Telemetry,
    Tensor,
    TileProgramming,
    TileReadout,
    TileTelemetry,
)

__all__ = [
    "Advance",
    "AsyncDevice",
    "AsyncEmulator",
    "AsyncLab",
    "BatchTiming",
    "Benchmark",
    "BufferDescription",
    "Clock",
    "Device",
    "Emulator",
    "Event",
    "FallbackDevice",
    "FallbackResult",
    "FallbackStatus",
    "Fault",
    "Geometry",
    "Identity",
    "InferResult",
    "Lab",
    "Lease",
    "ModelTelemetry",
    "Mutation",
    "Policy",
    "ProgramAndVerify",
    "ProgramResult",
    "Progress",
    "RecalibrationResult",
    "ResidentModel",
    "SelfTest",
    "Snapshot",
    "Telemetry",
    "Tensor",
    "TileProgramming",
    "TileReadout",
    "TileTelemetry",
    "Turnover",
    "benchmark",
    "connect",
    "connect_async",
]
