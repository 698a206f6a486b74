"""Many mutants through child processes: a process per batch, a watchdog per file, a new process where one is lost."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEFECTS = ("wrong", "untyped", "memory", "crash", "hang")
OUTCOMES = ("refused", "right", "read", "same", *DEFECTS)


@dataclass(frozen=True)
class Limits:
    """Per file: seconds on the wall clock (``start_s`` more for the first of a process). Per process: files, GiB."""

    file_s: float = 30.0
    start_s: float = 60.0
    batch: int = 500
    memory_gib: float = 4.0


@dataclass
class Finding:
    """One file that was no refusal and no right result."""

    index: int
    source: str
    kind: str
    outcome: str
    detail: str


@dataclass
class Outcome:
    """Counts by outcome and by (mutation, outcome), and everything that went wrong."""

    format: str
    seed: int
    counts: dict[str, int] = field(default_factory=dict)
    by_kind: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    most_grown_mib: int = 0

    @property
    def files(self) -> int:
        return sum(self.counts.values())

    @property
    def defects(self) -> int:
        return sum(self.counts.get(name, 0) for name in DEFECTS)

    def add(self, report: dict[str, Any]) -> None:
        outcome, kind = report["outcome"], report["kind"]
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        kinds = self.by_kind.setdefault(kind, {})
        kinds[outcome] = kinds.get(outcome, 0) + 1
        self.most_grown_mib = max(self.most_grown_mib, report["grown_mib"])
        if outcome in DEFECTS:
            self.findings.append(Finding(report["index"], report["source"], kind, outcome, report["detail"]))


def run(
    format: str,
    corpus: Path,
    *,
    seed: int,
    start: int,
    stop: int,
    limits: Limits = Limits(),
    progress: Callable[[int, Outcome], None] = lambda done, outcome: None,
) -> Outcome:
    """Mutants ``start`` to ``stop`` (exclusive) of a format; ``corpus`` as :func:`hostile.corpus.write` made it."""
    outcome = Outcome(format, seed)
    while start < stop:
        start = _batch(outcome, corpus, start, min(stop, start + limits.batch), limits, progress)
    return outcome


def _batch(
    outcome: Outcome, corpus: Path, start: int, stop: int, limits: Limits, progress: Callable[[int, Outcome], None]
) -> int:
    """One process; returns the first index that is still to do."""
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), outcome.format, str(corpus),
               str(outcome.seed), str(start), str(stop), str(limits.memory_gib)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        assert process.stdout is not None
        lines = _Lines(process.stdout.fileno())
        index, wait = start, limits.start_s + limits.file_s
        try:
            while index < stop:
                line = lines.next(wait)
                if line is None:
                    _lost(outcome, corpus, index, "hang", f"no answer within {wait:.0f} s")
                    return index + 1
                if not line:
                    _lost(outcome, corpus, index, "crash", _cause(process, errors))
                    return index + 1
                report = json.loads(line)
                if "outcome" in report:
                    outcome.add(report)
                    index, wait = index + 1, limits.file_s
                    progress(index, outcome)
                else:
                    wait = limits.file_s
            return stop
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _lost(outcome: Outcome, corpus: Path, index: int, what: str, detail: str) -> None:
    from .corpus import read
    from .mutants import mutant

    made = mutant(outcome.format, read(corpus, outcome.format), outcome.seed, index)
    report = {"index": index, "source": made.source, "kind": made.kind, "outcome": what, "detail": detail}
    outcome.add({**report, "grown_mib": 0})


def _cause(process: subprocess.Popen[bytes], errors: Any) -> str:
    code = process.wait()
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 3000))
    name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"{name}\n{errors.read().decode('utf-8', 'replace')}"


class _Lines:
    """Lines of a pipe with a limit on the wait for each: None when it is over, empty at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = b""

    def next(self, seconds: float) -> bytes | None:
        while b"\n" not in self._held:
            ready, _, _ = select.select([self._descriptor], [], [], seconds)
            if not ready:
                return None
            read = os.read(self._descriptor, 65536)
            if not read:
                return b""
            self._held += read
        line, _, self._held = self._held.partition(b"\n")
        return line
