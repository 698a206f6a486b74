"""Run the real command line: in this process for speed, as a process where signals, pipes and imports matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pcmedge
import pcmedge_emulator
import pytest
from pcmedge.cli import main as cli
from pcmedge_emulator.engine.native.folder import CACHE, cache_folder

PATIENCE_S = 60.0
"""How long a test waits for something that takes seconds on an idle machine."""

ENTRY = (sys.executable, "-c", "from pcmedge.cli.main import main; main()")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Exactly one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        document = self.document
        assert set(document) == {"error"}
        assert set(document["error"]) == {"reason", "message", "metadata"}
        return dict(document["error"])


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Result:
    """In this process, through the same function the installed script calls."""
    capsys.readouterr()
    code = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)


COMPILED = cache_folder()


def environment(**more: str) -> dict[str, str]:
    """This process's environment without a device, with one compute thread, and one cache of compiled code for all."""
    kept = {name: value for name, value in os.environ.items() if name != "PCMEDGE_DEVICE"}
    return {CACHE: str(COMPILED)} | kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "100", **more}


def start(
    *arguments: str | Path, entry: Sequence[str] = ENTRY, stderr: int = subprocess.PIPE, **more: str
) -> subprocess.Popen[str]:
    command = [*entry, *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment(**more), process_group=0
    )


def run_process(*arguments: str | Path, entry: Sequence[str] = ENTRY, timeout_s: float = 60.0, **more: str) -> Result:
    """As a process of its own."""
    with start(*arguments, entry=entry, **more) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Result(process.returncode, out, err)


EXTRAS = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "onnx_ir",
    "pyarrow",
    "matplotlib",
    "grpc_health",
    "prometheus_client",
    "pydantic_settings",
    "PIL",
    "ai_edge_litert",
    "cryptography",
)
EXTRAS_METADATA = ("grpcio_health_checking", "dotenv", "pillow", "ai_edge_litert")


def without_extras(folder: Path) -> tuple[str, ...]:
    """The command line of an environment that has what this one has, except what the extras would bring."""
    packages = folder / "site-packages"
    packages.mkdir()
    absent = {name.lower() for name in (*EXTRAS, *EXTRAS_METADATA)}
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0].partition(".")[0].lower() not in absent and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    homes = [str(Path(package.__path__[0]).parent) for package in (pcmedge, pcmedge_emulator)]
    script = f"import sys; sys.path += {[*homes, str(packages)]!r}; from pcmedge.cli.main import main; main()"
    return (sys.executable, "-S", "-c", script)


@contextmanager
def served(*arguments: str | Path, listen: str = "127.0.0.1:0") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A running ``pcmedge serve``: its address and process."""
    with start("serve", *arguments, "--listen", listen, "--json") as process:
        try:
            assert process.stdout is not None
            with killed_in_the_end(process):
                line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            ready = json.loads(line)
            assert ready["event"] == "ready"
            yield ready["address"], process
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def killed_in_the_end(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Whoever reads what a child prints reads its end after a minute and a half, also of a child that hangs."""
    timer = threading.Timer(1.5 * PATIENCE_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def halted(process: subprocess.Popen[Any]) -> Iterator[None]:
    """A child that accepts connections and does nothing. A signal takes effect some time after ``kill`` returns."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def wait_for(condition: Callable[[], object]) -> None:
    """Until ``condition()`` holds; fails after a minute."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"what the test waits for did not come within {PATIENCE_S:g} s"
        time.sleep(0.02)
