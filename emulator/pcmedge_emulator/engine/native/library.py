"""The compiled library of native operators: found in the user's cache, or made there in the background.

It is an optimisation that nobody has to know of: without a compiler, where it fails, where the cache cannot be written
or others could write to it, and with ``PCMEDGE_NATIVE=0`` in the environment, sessions are of the plain graph.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pcmedge_emulator.engine.native.child import Failed, Interrupted, run
from pcmedge_emulator.engine.native.compiler import compile_to, compiler, key
from pcmedge_emulator.engine.native.folder import cache_folder, make, not_ours_alone

SWITCH = "PCMEDGE_NATIVE"

Status = Literal["in use", "off", "unavailable", "in the making"]

_LOG = logging.getLogger("pcmedge_emulator.engine.native")
_PROBE_S = 60.0
# A Ctrl-C ends it at once: some packages that are being imported swallow a KeyboardInterrupt.
_PROBE = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
import sys
from pcmedge_emulator.engine.native.probe import main
main(sys.argv[1])
"""
_ABANDONED_S = 3600.0
_GIVING_UP_S = 5.0


@dataclass(frozen=True)
class State:
    """Whether sessions opened now use native operators, and why not. ``library``: the file, if they do."""

    status: Status
    why: str = ""
    library: Path | None = None


class _Making:
    """One library in the making. ``over``: this process ends, and it is given up. ``done``: nothing runs any more."""

    def __init__(self) -> None:
        self.over, self.done = threading.Event(), threading.Event()


_lock = threading.Lock()
_states: dict[Path, State] = {}
_makings: dict[Path, _Making] = {}
_loaded: dict[Path, ctypes.CDLL] = {}


def state(*, wait: bool = False) -> State:
    """What this process does now. The first call looks for the library and, if there is none, begins to make it, which
    takes a few seconds; ``wait`` for that. Never raises."""
    if os.environ.get(SWITCH, "").strip().lower() in ("0", "no", "off", "false"):
        return State("off", f"{SWITCH}={os.environ[SWITCH]}")
    try:
        folder = cache_folder()
    except RuntimeError as error:  # no home folder
        return State("unavailable", str(error))
    with _lock:
        if folder not in _states:
            _states[folder] = _begun(folder)
        making = _makings.get(folder)
    if wait and making is not None:
        making.done.wait()
    with _lock:
        # An interrupted one is begun again by the next who asks.
        return _states.get(folder) or State("unavailable", "interrupted while it was made")


def _begun(folder: Path) -> State:
    try:
        found = _found(folder)
        if found.status == "in the making":
            making = _makings[folder] = _Making()
            # A daemon, which _finish waits for: threading's own waiting answers a Ctrl-C with a traceback.
            threading.Thread(target=_make, args=(folder, making), name="pcmedge-native", daemon=True).start()
    except Exception as error:  # nothing here may disturb whoever computes
        _makings.pop(folder, None)
        return State("unavailable", f"{type(error).__name__}: {error}")
    return found


def give_up() -> None:
    """For a process that is told to end: what is still in the making is not waited for."""
    for making in list(_makings.values()):
        making.over.set()


@atexit.register
def _finish() -> None:
    """A process that ends meanwhile leaves nothing half made, and the next finds it; Ctrl-C gives it up."""
    for making in _makings.values():
        try:
            making.done.wait()
        except KeyboardInterrupt:
            making.over.set()
            with contextlib.suppress(KeyboardInterrupt):
                making.done.wait(_GIVING_UP_S)


def _after_fork() -> None:
    """In a forked child: a lock nobody will release, and a maker that is not there, are forgotten."""
    global _lock
    _lock = threading.Lock()
    for folder in _makings:
        _states.pop(folder, None)
    _makings.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _found(folder: Path) -> State:
    if sys.platform not in ("linux", "darwin"):
        return State("unavailable", f"not made for {sys.platform}")
    found = compiler()
    if found is None:
        return State("unavailable", "no C compiler")
    try:
        name = key(found)
        for made in folder.glob(f"read-out-{name}-*.so"):
            if not _damaged(made):
                return _load(made)
            made.unlink()
        failed = _failed(folder, name)
        if failed.is_file():
            return State("unavailable", failed.read_text(encoding="utf-8", errors="replace").strip())
        make(folder)
    except OSError as error:
        return State("unavailable", str(error))
    return State("in the making")


def _failed(folder: Path, name: str) -> Path:
    return folder / f"read-out-{name}.failed"


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]


def _damaged(library: Path) -> bool:
    """Whether it is not what its name says: loading a file that is too short would end the process."""
    return library.stem.rpartition("-")[2] != _digest(library)


def _load(library: Path) -> State:
    if (problem := not_ours_alone(library)) is not None:
        return State("unavailable", problem)
    try:
        # Kept loaded for good: ONNX Runtime unloads what it loaded, with sessions' operators in it.
        _loaded.setdefault(library, ctypes.CDLL(str(library)))
    except OSError as error:
        return State("unavailable", str(error))
    return State("in use", library=library)


def _make(folder: Path, making: _Making) -> None:
    """Compile, compare with the standard operators in a process of its own, and only then put in place."""
    made: State | None = None
    try:
        made = _load(_made(folder, making.over))
    except Interrupted as problem:
        _LOG.debug("native operators: %s", problem)
    except (Failed, OSError) as error:
        made = State("unavailable", str(error))
    except Exception as error:  # nothing here may disturb whoever computes
        made = State("unavailable", f"{type(error).__name__}: {error}")
    with _lock:
        if made is None:
            _states.pop(folder, None)
        else:
            _LOG.debug("native operators: %s %s", made.status, made.why)
            _states[folder] = made
    making.done.set()


def _made(folder: Path, over: threading.Event) -> Path:
    found = compiler()
    if found is None:
        raise Failed("no C compiler")
    name = key(found)
    _tidy(folder)
    # Not TemporaryDirectory: a forked child that ends would remove it.
    place = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    try:
        fresh = place / "read-out.so"
        try:
            compile_to(fresh, found, over)
            _probe(fresh, over)
        except Failed as error:
            _note(_failed(folder, name), str(error), place)
            raise
        os.chmod(fresh, 0o500)
        library = folder / f"read-out-{name}-{_digest(fresh)}.so"
        os.replace(fresh, library)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return library


def _tidy(folder: Path) -> None:
    """Remove what processes that were killed have left half made."""
    for place in folder.glob(".making-*"):
        with contextlib.suppress(OSError):
            if time.time() - place.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(place, ignore_errors=True)


def _note(failed: Path, why: str, place: Path) -> None:
    """So that the next process does not try again what failed."""
    fresh = place / "failed"
    fresh.write_text(why + "\n", encoding="utf-8")
    os.replace(fresh, failed)


def _probe(library: Path, over: threading.Event) -> None:
    command = [sys.executable, "-P", "-c", _PROBE, str(library)]
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    status, said = run(command, _PROBE_S, over, PYTHONPATH=paths, **{SWITCH: "0"})
    if status:
        last = (said.strip().splitlines() or ["no message"])[-1]
        raise Failed(f"the compiled library failed its test, status {status}: {last}")
