"""Where a command writes: results on stdout (people or JSON), everything else on stderr.

With ``--json`` a command prints exactly one JSON document on stdout; commands that stream (``serve``,
``telemetry --watch``, ``events --watch``) print one JSON document per line. Errors are documents too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pcmedge.cli.plain import to_plain

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from pcmedge.device.results import Progress


class ReaderGone(Exception):
    """Nobody reads the output any more (``| head``). No OSError: typer would make those exit code 1 of its own."""


PIPE_WIDTH = 120
"""Columns of tables when nobody says how wide the reader is."""


class Screen(Console):
    """Where drawings for people go. A closed pipe ends the command quietly."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = PIPE_WIDTH

    def say(self, text: str, *, style: str | None = None) -> None:
        """A line of text as it is: no markup, no wrapping of our own."""
        self.print(text, style=style, markup=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        raise ReaderGone


class Output:
    """What one command says. ``json`` chooses documents over pictures."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    @property
    def console(self) -> Screen:
        """For people, on stdout. Made anew so that a redirected stdout is honoured."""
        return Screen()

    def result(self, document: Any, render: Callable[[Screen], None]) -> None:
        """The answer of the command: ``document`` with ``--json``, else whatever ``render`` draws."""
        if self.json:
            write_document(document, indent=2)
        else:
            render(self.console)

    def line(self, document: Any, text: str) -> None:
        """One item of a stream, flushed at once."""
        if self.json:
            write_document(document, indent=None)
        else:
            self.console.say(text)
            sys.stdout.flush()

    def note(self, text: str) -> None:
        """Something the user should know, beside the answer; on stderr."""
        Screen(stderr=True).say(text)

    @contextmanager
    def progress(self, description: str) -> Iterator[ProgressLine]:
        """A progress bar on stderr if stderr is a terminal, else nothing."""
        console = Screen(stderr=True)
        if not console.is_terminal:
            yield ProgressLine(None, description)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield ProgressLine(progress, description)


class ProgressLine:
    """Shows phase, done and total; phases follow each other on one line."""

    def __init__(self, progress: Bars | None, description: str) -> None:
        self._progress = progress
        self._description = description
        self._task: TaskID | None = None
        if progress is not None:
            self._task = progress.add_task(description, total=None)

    def show(self, progress: Progress) -> None:
        """A progress report of a device's operation."""
        self.update(progress.phase, progress.done, progress.total)

    def update(self, phase: str, done: int, total: int) -> None:
        """A progress report of the library: ``total`` 0 means unknown."""
        if self._progress is None or self._task is None:
            return
        description = f"{self._description}: {phase}" if phase else self._description
        self._progress.update(self._task, description=description, completed=done, total=total or None)


def write_document(document: Any, *, indent: int | None = 2) -> None:
    """One JSON document and a newline on stdout. No NaN: JSON has none, ``to_plain`` made them null."""
    text = json.dumps(to_plain(document), indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def write_problem(reason: str, message: str, metadata: dict[str, str], *, as_json: bool) -> None:
    """An error as ``{"error": {"reason", "message", "metadata"}}`` on stdout, or for people on stderr.

    The document is one line, because it may end a stream of JSON lines.
    """
    if as_json:
        write_document({"error": {"reason": reason, "message": message, "metadata": metadata}}, indent=None)
        return
    console = Screen(stderr=True)
    console.print("error:", style="bold red", end=" ")
    console.say(message)
