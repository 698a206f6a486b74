"""A ``pcmedge serve`` process on a real port, whose log is kept in a file so that its pipe never fills."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S = STOP_S = 60.0


@dataclass(frozen=True)
class Served:
    """Where a device answers, its process, and the file of its log."""

    address: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def errors(self) -> list[str]:
        """Entries of the log that tell of something unforeseen, with their tracebacks."""
        entries = re.split(r"\n(?=\d{4}-\d\d-\d\dT)", self.log.read_text(errors="replace"))
        return [entry for entry in entries if "failed unexpectedly" in entry or "Traceback" in entry]


def environment() -> dict[str, str]:
    """This process's, with the checkout's packages and one thread per computation."""
    home = os.pathsep.join([str(ROOT), str(ROOT / "sdk"), str(ROOT / "emulator"), os.environ.get("PYTHONPATH", "")])
    kept = {name: value for name, value in os.environ.items() if name != "PCMEDGE_DEVICE"}
    return kept | {"PYTHONPATH": home.rstrip(os.pathsep), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def served(folder: Path, *words: str | Path) -> Iterator[Served]:
    """A device with these options of ``pcmedge serve``; RuntimeError with the end of its log if it does not start."""
    log = folder / "serve.log"
    command = [sys.executable, "-c", "from pcmedge.cli.main import main; main()", "serve", "--listen", "127.0.0.1:0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, "--json", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(),
            process_group=0,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            ready = json.loads(line) if line else {}
            if ready.get("event") != "ready":
                raise RuntimeError(f"'pcmedge serve' did not start: {line}{log.read_text()[-2000:]}")
            yield Served(str(ready["address"]), process, log)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
