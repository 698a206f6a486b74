"""Tasks on processes: what is there is not done again, and a killed worker is an error that says what to do."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from pcmedge.errors import UnavailableError
from rich.console import Console

from benchmarks.science.running import run_all


@dataclass(frozen=True)
class Writing:
    path: Path
    weight: float = 1.0

    def run(self) -> None:
        self.path.write_text(self.path.read_text() + "again" if self.path.exists() else "done")


@dataclass(frozen=True)
class Killed(Writing):
    def run(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_there_is_not_done_again(tmp_path: Path, jobs: int) -> None:
    tasks = [Writing(tmp_path / name) for name in ("a", "b", "c")]
    tasks[1].run()
    for _ in range(2):
        run_all([("write", tasks)], jobs, Console(quiet=True))
    assert [task.path.read_text() for task in tasks] == ["done"] * 3


def test_a_killed_worker_is_an_error_and_what_was_done_before_stays(tmp_path: Path) -> None:
    first, last = Writing(tmp_path / "first", 2.0), Killed(tmp_path / "last")
    with pytest.raises(UnavailableError, match="--resume"):
        run_all([("before", [first]), ("then", [last])], 2, Console(quiet=True))
    assert first.path.read_text() == "done"
    assert not last.path.exists()
