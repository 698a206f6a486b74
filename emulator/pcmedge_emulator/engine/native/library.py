"""The compiled library of native operators: found in the user's cache, or made there in the background.

It is an optimisation that nobody has to know of: without a compiler, where it fails, where the cache cannot be written
or others could write to it, and with ``PCMEDGE_NATIVE=0`` in the environment, sessions are of the plain graph.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pcmedge_emulator.engine.native.compiler import CompilerFailed, compile_to, compiler, key
from pcmedge_emulator.engine.native.folder import cache_folder, make, not_ours_alone

SWITCH = "PCMEDGE_NATIVE"

Status = Literal["in use", "off", "unavailable", "in the making"]

_LOG = logging.getLogger("pcmedge_emulator.engine.native")
_PROBE_S = 60.0
_ABANDONED_S = 3600.0


@dataclass(frozen=True)
class State:
    """Whether sessions opened now use native operators, and why not. ``library``: the file, if they do."""

    status: Status
    why: str = ""
    library: Path | None = None


_lock = threading.Lock()
_states: dict[Path | None, State] = {}
_makers: dict[Path | None, threading.Thread] = {}
_loaded: dict[Path, ctypes.CDLL] = {}


def state(*, wait: bool = False) -> State:
    """What this process does now. The first call looks for the library and, if there is none, begins to make it, which
    takes a few seconds; ``wait`` for that. Never raises."""
    if os.environ.get(SWITCH, "").strip().lower() in ("0", "no", "off", "false"):
        return State("off", f"{SWITCH}={os.environ[SWITCH]}")
    try:
        folder = cache_folder() / "native"
    except RuntimeError as error:  # no home folder
        return State("unavailable", str(error))
    with _lock:
        if folder not in _states:
            _states[folder] = _found(folder)
            if _states[folder].status == "in the making":
                # Not a daemon: a process that ends meanwhile leaves nothing half made, and the next finds it.
                _makers[folder] = threading.Thread(target=_make, args=(folder,), name="pcmedge-native")
                _makers[folder].start()
        maker = _makers.get(folder)
    if wait and maker is not None:
        maker.join()
    with _lock:
        return _states[folder]


def _after_fork() -> None:
    """In a forked child: a lock nobody will release, and a maker that is not there, are forgotten."""
    global _lock
    _lock = threading.Lock()
    for folder in _makers:
        _states.pop(folder, None)
    _makers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _found(folder: Path) -> State:
    if sys.platform not in ("linux", "darwin"):
        return State("unavailable", f"not made for {sys.platform}")
    found = compiler()
    if found is None:
        return State("unavailable", "no C compiler")
    try:
        made = folder / f"read-out-{key(found)}.so"
        if made.is_file():
            return _load(made)
        failed = made.with_suffix(".failed")
        if failed.is_file():
            return State("unavailable", failed.read_text(encoding="utf-8", errors="replace").strip())
        make(folder)
    except OSError as error:
        return State("unavailable", str(error))
    return State("in the making")


def _load(library: Path) -> State:
    if (problem := not_ours_alone(library)) is not None:
        return State("unavailable", problem)
    try:
        # Kept loaded for good: ONNX Runtime unloads what it loaded, with sessions' operators in it.
        _loaded.setdefault(library, ctypes.CDLL(str(library)))
    except OSError as error:
        return State("unavailable", str(error))
    return State("in use", library=library)


def _make(folder: Path) -> None:
    """Compile, compare with the standard operators in a process of its own, and only then put in place."""
    try:
        found = compiler()
        if found is None:
            raise CompilerFailed("no C compiler")
        library = folder / f"read-out-{key(found)}.so"
        _tidy(folder)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as place:
            fresh = Path(place) / "read-out.so"
            try:
                compile_to(fresh, found)
                _probe(fresh)
            except CompilerFailed as error:
                _note(library.with_suffix(".failed"), str(error), Path(place))
                raise
            os.chmod(fresh, 0o500)
            os.replace(fresh, library)
        made = _load(library)
    except (CompilerFailed, OSError) as error:
        made = State("unavailable", str(error))
    except Exception as error:  # nothing here may disturb whoever computes
        made = State("unavailable", f"{type(error).__name__}: {error}")
    _LOG.debug("native operators: %s %s", made.status, made.why)
    with _lock:
        _states[folder] = made


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


def _probe(library: Path) -> None:
    command = [sys.executable, "-P", "-m", "pcmedge_emulator.engine.native.probe", str(library)]
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_S,
            check=False,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, SWITCH: "0"},
        )
    except subprocess.TimeoutExpired as error:
        raise CompilerFailed("the compiled library did not answer") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CompilerFailed(f"the compiled library failed its test, status {done.returncode}: {last}")
