"""Who may make which call: one role per call of the contract, beside its table in :mod:`pcmedge.protocol.services`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pcmedge.protocol.roles import Role
from pcmedge.protocol.services import LAB_SERVICE, METHODS, Method

_OPERATE = frozenset(
    {
        "AcquireLease",
        "RenewLease",
        "ReleaseLease",
        "Program",
        "CancelOperation",
        "ActivateImage",
        "DeactivateImage",
        "EraseImage",
        "Recalibrate",
        "RollbackStatistics",
        "SetRecalibrationPolicy",
        "ReplaceCalibrationBuffer",
        "AppendCalibrationBuffer",
        "ReadTile",
        "Diagnose",
        "DiagnoseWithProgress",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    }
)
_INFER = frozenset(
    {
        "GetIdentity",
        "ListOperations",
        "WatchOperation",
        "ListImages",
        "GetRecalibrationPolicy",
        "DescribeCalibrationBuffer",
        "SelfTest",
        "GetTelemetry",
        "WatchTelemetry",
        "ListEvents",
        "WatchEvents",
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelConfig",
        "ModelInfer",
        "ModelStreamInfer",
        "ModelStatistics",
        "RepositoryIndex",
    }
)


def _role(method: Method) -> Role:
    if method.service == LAB_SERVICE:
        return Role.LAB
    if method.name in _INFER:
        return Role.INFER
    if method.name in _OPERATE:
        return Role.OPERATE
    raise RuntimeError(f"the call {method.name} of the contract has no role; give it one in {__name__}")


ROLES: Mapping[str, Role] = MappingProxyType({name: _role(method) for name, method in METHODS.items()})
"""The least role of every call of the contract. A call without one does not get past importing this module."""
