"""The version of the contract this package speaks; docs/versions.md says what it promises."""

from __future__ import annotations

from typing import Final

CONTRACT_VERSION: Final = 1
"""Of proto/pcm/device/v1 (Identity.contract_version)."""

CONTRACT_MINOR: Final = 1
"""One more with every addition to proto/ (Identity.contract_minor); tests/test_contract_additive.py sees to it."""


def spelled(version: int, minor: int) -> str:
    """ "1.2"; "1.0" is also what came before minors were counted."""
    return f"{version}.{minor}"


OURS: Final = spelled(CONTRACT_VERSION, CONTRACT_MINOR)
