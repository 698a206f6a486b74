"""The capability each call of the contract belongs to; docs/device-contract.md says what the names promise."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_CALLS = {
    "program": "Program",
    "lease": "AcquireLease RenewLease ReleaseLease",
    "operations": "ListOperations WatchOperation CancelOperation",
    "images": "ListImages ActivateImage DeactivateImage EraseImage",
    "recalibrate.*": "Recalibrate",
    "rollback": "RollbackStatistics",
    "policy.*": "GetRecalibrationPolicy SetRecalibrationPolicy",
    "buffer": "ReplaceCalibrationBuffer AppendCalibrationBuffer DescribeCalibrationBuffer",
    "self-test": "SelfTest",
    "telemetry": "GetTelemetry",
    "telemetry.watch": "WatchTelemetry",
    "events": "ListEvents",
    "events.watch": "WatchEvents",
    "tile.read": "ReadTile",
    "diagnose": "Diagnose DiagnoseWithProgress",
    "infer": "ServerLive ServerReady ModelReady ServerMetadata ModelMetadata ModelInfer ModelConfig ModelStatistics "
    "RepositoryIndex RepositoryModelLoad RepositoryModelUnload",
    "infer.stream": "ModelStreamInfer",
    "lab.clock": "GetClock SetClock AdvanceTime",
    "lab.snapshot": "CreateSnapshot RestoreSnapshot ListSnapshots DeleteSnapshot",
    "lab.noise": "SetNoise",
    "lab.faults": "InjectFaults ClearFaults ListFaults",
    "lab.temperature": "SetTemperature",
}

CAPABILITY_OF_CALL: Mapping[str, str] = MappingProxyType(
    {call: capability for capability, calls in _CALLS.items() for call in calls.split()}
)
"""By the name of the call; GetIdentity belongs to none, every device has it. "policy.*": any that begins so."""
