"""Run the real command line: in this process for speed, as a process where signals, pipes and imports matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pcmedge.cli import main as cli

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


def environment(**more: str) -> dict[str, str]:
    """This process's environment without a device, with one compute thread."""
    kept = {name: value for name, value in os.environ.items() if name != "PCMEDGE_DEVICE"}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "100", **more}


def start(*arguments: str | Path, entry: Sequence[str] = ENTRY, **more: str) -> subprocess.Popen[str]:
    command = [*entry, *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more))


def run_process(*arguments: str | Path, entry: Sequence[str] = ENTRY, timeout_s: float = 60.0, **more: str) -> Result:
    """As a process of its own."""
    with start(*arguments, entry=entry, **more) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Result(process.returncode, out, err)
