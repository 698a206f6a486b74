"""The short form of ``python -m tests.soak.kills``."""

from __future__ import annotations

from pathlib import Path

from tests.soak.kills import KINDS, campaign


def test_a_served_device_killed_at_random_moments(tmp_path: Path) -> None:
    result = campaign(len(KINDS), seed=1, folder=tmp_path)
    assert result.wrong == []
    assert dict(result.moments) == dict.fromkeys(KINDS, 1)
    assert result.old + result.new + result.between >= len(KINDS)
