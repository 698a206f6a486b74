"""Cuts a history short at every operation, starts the device again, and says what was lost or mixed.

Every distinct disk is opened by the product's own store and read as a whole; a state is the digest of all its rows. The
states there ever were are those found when nothing is lost (a state is what one transaction left). After a cut it must
be the one of the last acknowledged call, or a later one. Every distinct state is then started as a device, which must
be what its last acknowledged call left, in whatever it shows, and must answer that call's request id with the first
answer.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lost_power import MODELS, Cut, Operation, Recorder, Tree, cuts, lay_out
from pcmedge.errors import Error
from pcmedge_emulator.outcomes import Mutation
from pcmedge_emulator.store import DATABASE, Store
from power_histories import STEPS, View, start, view
from sqlite_files import Unsynced, watched

STORE = Path("new", "store")
"""Where the device lies below the folder: two directories the device has to make itself."""


@dataclass(frozen=True)
class Recorded:
    """A history as it went. ``views[n]``: the device when its ``n`` first calls were acknowledged."""

    names: tuple[str, ...]
    operations: tuple[Operation, ...]
    views: tuple[View, ...]
    answers: tuple[Any, ...]


@dataclass
class Findings:
    """``wrong``: one line per lost or mixed state, or disk that was refused."""

    cuts: Counter[str] = field(default_factory=Counter)
    disks: int = 0
    states: int = 0
    old: int = 0
    new: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.cuts += other.cuts
        for name in ("disks", "states", "old", "new", "wrong"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def _mutation(number: int) -> Mutation:
    return Mutation(request_id=f"call-{number}")


def record(names: Sequence[str], folder: Path) -> Recorded:
    """Runs a history once. A call that is refused (an erased model, say) is part of it: it changes nothing."""
    folder.mkdir()
    recorder, views, answers = Recorder(folder), list[View](), list[Any]()
    with recorder.recording():
        chip = start(folder / STORE)
        try:
            for number, name in enumerate(["start", *names]):
                if name == "restart":
                    chip.close()
                    chip = start(folder / STORE)
                answer = None
                if name in STEPS:
                    try:
                        answer = STEPS[name].do(chip, _mutation(number))
                    except Error as error:
                        answer = error
                recorder.mark(number)
                answers.append(answer)
                views.append(view(chip))
        finally:
            chip.close()
    return Recorded(("start", *names), tuple(recorder.operations), tuple(views), tuple(answers))


def digest(store: Path) -> str:
    """Of every row of a store; opens it as the product does. Raises what the product raises."""
    opened = Store(store)
    try:
        database = sqlite3.connect(store / DATABASE)
        try:
            rows = [
                *database.execute("SELECT space, collection, key, crc, value FROM records ORDER BY 1, 2, 3"),
                *database.execute("SELECT owner, part, crc, value FROM contents ORDER BY 1, 2"),
            ]
        finally:
            database.close()
    finally:
        opened.close()
    found = hashlib.sha256()
    for row in rows:
        for value in row:
            found.update(repr(value).encode() if not isinstance(value, bytes) else value)
            found.update(b"\0")
    return found.hexdigest()


def _fingerprint(tree: Tree) -> bytes:
    found = hashlib.sha256()
    for path, data in sorted(tree.items()):
        found.update(f"{path} {-1 if data is None else len(data)}\n".encode())
        found.update(data or b"")
    return found.digest()


@contextmanager
def throwaway() -> Iterator[None]:
    """Disks that are opened within are never synced: nobody pulls their plug."""
    with patch.object(os, "fsync", lambda descriptor: None), watched(Unsynced()):
        yield


class Examination:
    """Of one recorded history; ``folder`` is for the disks that are laid out."""

    def __init__(self, recorded: Recorded, folder: Path) -> None:
        self._recorded = recorded
        self._folder = folder
        self._numbers = itertools.count()
        self._digests: dict[bytes, str] = {}
        self._judged: dict[tuple[str, int], list[str]] = {}
        self.findings = Findings()

    @contextmanager
    def _laid_out(self, tree: Tree) -> Iterator[Path]:
        folder = self._folder / str(next(self._numbers))
        lay_out(tree, folder)
        try:
            with throwaway():
                yield folder / STORE
        finally:
            shutil.rmtree(folder)

    def _state(self, tree: Tree) -> str:
        key = _fingerprint(tree)
        if key not in self._digests:
            self.findings.disks += 1
            with self._laid_out(tree) as store:
                try:
                    self._digests[key] = digest(store)
                except Error as error:
                    self._digests[key] = f"refused: {error.reason}: {error.message}"
        return self._digests[key]

    def run(self, examined: Iterable[int] | None = None, seed: int = 0) -> Findings:
        """``examined``: cut at these operations only (all of them are replayed). Returns the findings."""
        wanted = None if examined is None else set(examined)
        with self._laid_out({}) as nothing:
            nothing.parent.mkdir()
            empty = digest(nothing)
        order, acknowledged, marks = [empty], 0, 0
        for cut in cuts(self._recorded.operations, seed=seed):
            if cut.model != "everything" and wanted is not None and cut.before not in wanted:
                continue
            state = self._state(cut.tree)
            if cut.model == "everything":
                if state != order[-1]:
                    order.append(state)
                if cut.marks != marks:
                    acknowledged, marks = len(order) - 1, cut.marks
            self.findings.cuts[cut.model] += 1
            self._judge(cut, state, order, acknowledged)
        self.findings.states = len(order)
        return self.findings

    def _judge(self, cut: Cut, state: str, order: list[str], acknowledged: int) -> None:
        allowed = order[acknowledged:]
        where = f"before operation {cut.before}, {cut.marks} calls acknowledged, {cut.model}: "
        if state not in allowed:
            what = f"state {order.index(state)} of {acknowledged} to {len(order) - 1}" if state in order else state
            self.findings.wrong.append(where + what)
            return
        self.findings.old += state == allowed[0] and len(allowed) > 1
        self.findings.new += state != allowed[0]
        key = (state, cut.marks)
        if key not in self._judged:
            with self._laid_out(cut.tree) as store:
                self._judged[key] = self._as_a_device(store, cut.marks, exactly=state == allowed[0])
        self.findings.wrong += [where + what for what in self._judged[key]]

    def _as_a_device(self, store: Path, marks: int, *, exactly: bool) -> list[str]:
        """What is wrong with the device that starts there. ``exactly``: it is the one of the last acknowledged call."""
        store.parent.mkdir(exist_ok=True)
        try:
            with start(store) as chip:
                found = view(chip)
                if not exactly or not marks:
                    return []
                wrong = self._recorded.views[marks - 1].changed_in(found)
                name, answer = self._recorded.names[marks - 1], self._recorded.answers[marks - 1]
                if not wrong and answer is not None and not isinstance(answer, Error):
                    if STEPS[name].do(chip, _mutation(marks - 1)) != answer:
                        return [f"'{name}' repeated with its request id got another answer"]
                    wrong = [f"{each}, by a repetition" for each in found.changed_in(view(chip))]
                    wrong += ["one more event"] * (len(found.events) != len(view(chip).events))
        except Error as error:
            return [f"refused: {error.reason}: {error.message}"]
        return [f"not as acknowledged: {', '.join(wrong)}"] if wrong else []


def interrupted_start(tree: Tree, folder: Path, seed: int = 0) -> Findings:
    """A cut while the device starts after a cut: ``tree`` is what the first one left. Its state must be found again."""
    findings = Findings()
    first = folder / "first"
    lay_out(tree, first)
    recorder = Recorder(first)
    with recorder.recording():
        start(first / STORE).close()
    shutil.rmtree(first)
    seen: dict[bytes, str] = {}
    for cut in cuts(recorder.operations, start=tree, seed=seed):
        findings.cuts[cut.model] += 1
        key = _fingerprint(cut.tree)
        if key in seen:
            continue
        second = folder / "second"
        lay_out(cut.tree, second)
        try:
            with throwaway(), start(second / STORE) as chip:
                seen[key] = repr((chip.models(), chip.snapshots(), chip.clock().device_time_s, chip.faults()))
        except Error as error:
            seen[key] = f"refused: {error.reason}: {error.message}"
        shutil.rmtree(second)
    findings.disks = len(seen)
    if len(set(seen.values())) > 1:
        findings.wrong.append(f"different devices after a cut during the start: {sorted(set(seen.values()))}")
    return findings


__all__ = ["MODELS", "Examination", "Findings", "Recorded", "interrupted_start", "record"]
