"""An application of examples/ as a process of its own, and the JSON lines it prints."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli_process import environment, wait_for

ROOT = Path(__file__).parent.parent


class Application:
    """``documents``: what it has printed so far."""

    def __init__(self, module: str, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--json", *(str(argument) for argument in arguments)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self.documents: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.documents.append(json.loads(line))

    def of(self, event: str, after: int = 0) -> list[dict[str, Any]]:
        return [document for document in list(self.documents)[after:] if document["event"] == event]

    def wait_for(self, event: str, count: int = 1, after: int = 0, **wanted: Any) -> None:
        """Until so many documents of this event, with these values, have come since document ``after``."""

        def come() -> bool:
            found = self.of(event, after)
            assert self.process.poll() is None, (self.process.returncode, self.errors())
            return sum(all(each.get(key) == value for key, value in wanted.items()) for each in found) >= count

        wait_for(come)

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def end(self) -> int:
        """By SIGTERM; its exit code, when everything it printed has been read."""
        self.process.terminate()
        code = self.process.wait(60)
        self._reader.join(60)
        return code


@contextmanager
def application(module: str, *arguments: str | Path) -> Iterator[Application]:
    running = Application(module, *arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait(60)
        for pipe in (running.process.stdout, running.process.stderr):
            assert pipe is not None
            pipe.close()
