"""How many processors there are to use."""

from __future__ import annotations

import os
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def available_cores(quota: Path = _CPU_MAX) -> int:
    """Processors this process may use: by affinity, and by the ``quota`` of its container (rounded up)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota_cores(quota, cores))


def _quota_cores(path: Path, otherwise: int) -> int:
    """Cores a container may keep busy ("quota period" in microseconds, or "max"); ``otherwise`` without a limit."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return otherwise
