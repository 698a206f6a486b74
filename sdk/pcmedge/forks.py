"""Forked children (``os.fork``, multiprocessing's "fork", workers of a DataLoader).

A fork copies memory and one thread of many. What waits for the others waits for ever: a computation of a runtime whose
thread pool is gone, and its destructor at the end of the child as well. So what owns such a thing says here what
becomes of it in a child, and who uses one in a child is told instead of hanging.
"""

from __future__ import annotations

import os
import sys
from weakref import WeakKeyDictionary

# The command begins with this module too: what takes long to import is imported where it is needed.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import queue
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

_actions: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()
_grpc_was_forked = False
_survived: set[Callable[[str], bool]] = set()
_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
_PROBE_S = 3.0
"""How long gRPC may take to say that nobody listens at a socket that does not exist; usual are a few milliseconds."""


def in_children(owner: T, action: Callable[[T], None]) -> None:
    """Calls ``action(owner)`` first thing in every child forked while ``owner`` (hashable) exists."""
    import ctypes  # noqa: F401  here, not between a fork and what follows it

    _actions[owner] = action


def leak(thing: object) -> None:
    """A reference nobody will give back: not even the end of the interpreter destroys ``thing``."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def kept_in_children(thing: T) -> T:
    """``thing``, which forked children never destroy: its destructor waits for threads they do not have."""
    in_children(thing, leak)
    return thing


def check_same_process(process: int, what: str) -> None:
    """DeviceStateError unless this is the process ``what`` was made in."""
    if os.getpid() != process:
        from pcmedge.errors import DeviceStateError

        raise DeviceStateError(
            f"{what} was made in process {process} and cannot be used in its fork {os.getpid()}, which has none of its "
            "threads; make one in each process (DataLoader: in worker_init_fn), or start processes with the method "
            "'spawn'",
            process=process,
        )


def check_grpc(probe: Callable[[str], bool]) -> None:
    """DeviceStateError in a forked child in which gRPC does not work: everything would wait for ever there.

    gRPC's own support for forks is on in the releases we know, can be turned off, and does not cover ``grpc.aio`` in a
    child of a process that had an open channel of it. Whether it has worked is tried once: ``probe`` makes a call to
    the target it is given, where nobody is, and returns True; False if it knows better than to try.
    """
    if probe in _survived or not _grpc_was_forked:
        return
    if not (_supported() and _tried(probe)):
        from pcmedge.errors import DeviceStateError

        raise DeviceStateError(
            f"gRPC was in use before process {os.getpid()} was forked, and does not work in it. Connect only after the "
            "fork, start processes with the method 'spawn', or use the blocking client and leave "
            f"{_SUPPORT} at 1",
            variable=_SUPPORT,
        )
    _survived.add(probe)


def _supported() -> bool:
    """Whether gRPC was not told to ignore forks. Where it was, a try in the child would disturb the parent's calls."""
    return os.environ.get(_SUPPORT, "1").lower() not in ("0", "false", "no", "n", "f")


def _tried(probe: Callable[[str], bool]) -> bool:
    import queue
    import threading

    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        answers.put(probe("unix:/nonexistent/pcmedge-fork-probe"))

    # A daemon, and never joined: without gRPC's threads the probe does not return.
    threading.Thread(target=ask, name="pcm-fork-probe", daemon=True).start()
    try:
        return answers.get(timeout=_PROBE_S)
    except queue.Empty:
        return False


def _in_child() -> None:
    global _grpc_was_forked
    _grpc_was_forked = "grpc" in sys.modules
    _survived.clear()
    for owner, action in list(_actions.items()):
        action(owner)


os.register_at_fork(after_in_child=_in_child)
