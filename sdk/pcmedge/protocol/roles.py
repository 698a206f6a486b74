"""Who may make which call: one role per call of the contract, and what a role includes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from pcmedge.errors import InputValueError
from pcmedge.protocol.services import LAB_SERVICE, METHODS, Method


class Role(enum.StrEnum):
    """What the bearer of a token may do. Each role includes those before it."""

    INFER = "infer"
    """Ask for inferences, and read what the device says about itself and its models."""

    OPERATE = "operate"
    """Change the device, and read tiles back, which is reading the model."""

    LAB = "lab"
    """What only an emulator can: time, snapshots, noise, faults."""

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


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


def parse_role(text: str) -> Role:
    """InputValueError listing the roles."""
    try:
        return Role(text)
    except ValueError:
        raise InputValueError(f"a role is one of {', '.join(Role)}; found {text!r}", role=text) from None
