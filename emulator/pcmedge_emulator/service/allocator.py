"""The allocators of a process that serves for long and programs, recalibrates and computes in many threads.

glibc gives threads up to eight heaps per processor and keeps what is freed in the middle of them. Conductances and
sessions of up to many megabytes come and go in all of them, so that after some minutes the process holds much more than
it uses. Two heaps, and large pieces that are mapped and unmapped one by one, cost nothing that could be measured
(docs/results/soak.md).

Arrow, which reads the tables of images, brings an allocator of its own (mimalloc, in wheels). Under mixed load what
that one held grew by 2 MiB a minute with 0.2 MiB of it in use (docs/results/soak.md). Arrow can take its memory from
the C library instead.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Of malloc.h; the same on every architecture."""

LARGE_BYTES = 256 << 10
HEAPS = 2

_ARROW_POOL = "ARROW_DEFAULT_MEMORY_POOL"
"""Arrow reads it when it first takes memory."""


def bound_allocators() -> None:
    """Of the C library and of Arrow, unless the environment says what is wanted; before the first image is read."""
    bound_allocator()
    os.environ.setdefault(_ARROW_POOL, "system")


def bound_allocator() -> bool:
    """Whether anything was set: not with another C library, nor where MALLOC_* or GLIBC_TUNABLES say what is wanted."""
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {_M_ARENA_MAX: HEAPS, _M_MMAP_THRESHOLD: LARGE_BYTES, _M_TRIM_THRESHOLD: LARGE_BYTES}
    taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)
