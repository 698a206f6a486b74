"""What the bearer of a token may do. The role of each call is in :mod:`pcmedge.protocol.permissions`."""

from __future__ import annotations

import enum

from pcmedge.errors import InputValueError


class Role(enum.StrEnum):
    """Each role includes those before it."""

    INFER = "infer"
    """Ask for inferences, and read what the device says about itself and its models."""

    OPERATE = "operate"
    """Change the device, and read tiles back, which is reading the model."""

    LAB = "lab"
    """What only an emulator can: time, snapshots, noise, faults."""

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


def parse_role(text: str) -> Role:
    """InputValueError listing the roles."""
    try:
        return Role(text)
    except ValueError:
        raise InputValueError(f"a role is one of {', '.join(Role)}; found {text!r}", role=text) from None
