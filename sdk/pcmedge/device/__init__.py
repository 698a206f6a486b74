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
    BufferDescription,
    Fault,
    Identity,
    InferResult,
    ModelTelemetry,
    Policy,
    ProgramResult,
    Progress,
    RecalibrationResult,
    ResidentModel,
    Telemetry,
    Tensor,
    TileReadout,
)
from pcmedge.image.fault_rates import FaultRates
from pcmedge.protocol.values import (
    Advance,
    Clock,
    Diagnosis,
    Event,
    FaultFinding,
    Geometry,
    Lease,
    Mutation,
    ProgramAndVerify,
    SelfTest,
    SelfTestRecord,
    Snapshot,
    TileDiagnosis,
    TileProgramming,
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
    "Diagnosis",
    "Emulator",
    "Event",
    "FallbackDevice",
    "FallbackResult",
    "FallbackStatus",
    "Fault",
    "FaultFinding",
    "FaultRates",
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
    "SelfTestRecord",
    "Snapshot",
    "Telemetry",
    "Tensor",
    "TileDiagnosis",
    "TileProgramming",
    "TileReadout",
    "TileTelemetry",
    "Turnover",
    "benchmark",
    "connect",
    "connect_async",
]
