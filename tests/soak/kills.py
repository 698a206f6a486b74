"""``python -m tests.soak.kills --moments 200``: kill -9 a served device at random moments, and look what is left.

At each moment a client changes the device, one call after another of one kind, until the process is killed under it.
The next start must find what the last acknowledged call left, or what the one under way was to leave, whole: image,
conductances, generations, policy, whether it answers, journal. Then the call that was cut off is repeated with its
request id: it must happen once. Exit code 1 if anything was lost, mixed, or done twice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pcmedge
from pcmedge.device import Device, Mutation, Policy
from pcmedge.errors import Error
from pcmedge.image import ChipImage
from pcmedge_emulator import codec
from pcmedge_emulator.crossbar.tile import program_tile
from pcmedge_emulator.physics.technology import get_technology
from pcmedge_emulator.records import ModelRecord
from pcmedge_emulator.resident import ProgrammedTile
from pcmedge_emulator.store import Store
from pcmedge_emulator.streams import Streams
from power_histories import image

ROOT = Path(__file__).resolve().parents[2]
NAME = "a"
KINDS = ("programming", "recalibration", "policy change", "journal write")
LONGEST_S = 0.25
"""A kill comes at most so long after the first call of its moment."""
PATIENCE_S = 120.0
KEPT_EVENTS = 64


@dataclass(frozen=True)
class State:
    """What a client knows of the device. Everything in it was answered to somebody."""

    version: int
    program_generation: int
    statistics_generation: int
    interval_s: float
    active: bool
    last_event: int


@dataclass(frozen=True)
class Call:
    """A change: ``after`` is the state it leads to, ``choice`` what of its kind is asked for."""

    kind: str
    request_id: str
    choice: float
    after: State


@dataclass
class Result:
    moments: Counter[str] = field(default_factory=Counter)
    between: int = 0
    old: int = 0
    new: int = 0
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)


def next_call(state: State, kind: str, number: int, draw: random.Random) -> Call:
    told = replace(state, last_event=state.last_event + 1)
    if kind == "programming":
        # 0: the policy a freshly programmed image has.
        version = 3 - state.version
        generation = state.program_generation + 1
        after = replace(told, version=version, program_generation=generation, statistics_generation=0, interval_s=0.0)
        after = replace(after, active=True)
        return Call(kind, f"call-{number}", version, after)
    if kind == "recalibration":
        after = replace(told, statistics_generation=state.statistics_generation + 1)
        return Call(kind, f"call-{number}", draw.randrange(2), after)
    if kind == "policy change":
        interval_s = float(draw.randrange(1000, 2000))
        return Call(kind, f"call-{number}", interval_s, replace(told, interval_s=interval_s))
    return Call(kind, f"call-{number}", 0.0, replace(told, active=not state.active))


def do(device: Device, call: Call, images: dict[int, ChipImage]) -> None:
    mutation = Mutation(request_id=call.request_id)
    if call.kind == "programming":
        device.program(images[int(call.choice)], mutation=mutation)
    elif call.kind == "recalibration":
        method = "gdc" if call.choice else "default"
        device.recalibrate(method, model=NAME, reads=1, force=True, mutation=mutation)
    elif call.kind == "policy change":
        device.set_policy(Policy(kind="interval", interval_s=call.choice), model=NAME, mutation=mutation)
    elif call.after.active:
        device.activate(NAME, mutation=mutation)
    else:
        device.deactivate(NAME, mutation=mutation)


def seen(device: Device) -> State:
    (model,) = device.models()
    policy = device.policy(model=NAME)
    return State(
        version=model.version,
        program_generation=model.program_generation,
        statistics_generation=model.statistics_generation,
        interval_s=policy.interval_s if policy.kind == "interval" else 0.0,
        active=model.active,
        last_event=device.events(limit=1000)[-1].sequence,
    )


def conductances(store: Path, images: dict[int, ChipImage], state: State) -> str:
    """Why the devices on the tiles are not those of one whole programming of the image; "" if they are."""
    opened = Store(store)
    try:
        (record,) = (codec.decode(value, ModelRecord) for value in opened.items("models").values())
        image, contents = images[record.version], opened.contents(record.program_generation)
        if (record.version, record.image_sha256) != (state.version, image.sha256):
            return f"the record is of version {record.version}"
        for tile, physical in zip(image.tiles(), record.physical, strict=True):
            stored = ProgrammedTile.from_bytes(contents[f"tile/{tile.tile:08d}"], image, tile, physical).devices
            rng = Streams("emulator-0", 0).programming(record.program_generation, physical)
            wanted, _ = program_tile(image.target(tile), 25.0, get_technology("pcm-90nm"), rng)
            for name in ("g_plus", "g_minus", "nu_plus", "nu_minus"):
                if not np.array_equal(getattr(stored, name), getattr(wanted, name)):
                    return f"{name} of tile {tile.tile} is of another programming"
        others = [owner for owner in range(1, record.program_generation) if opened.contents(owner)]
        return f"programmings {others} are still there" if others else ""
    finally:
        opened.close()


class Campaign:
    """One device, killed again and again. ``folder`` holds its store."""

    def __init__(self, folder: Path, images: dict[int, ChipImage], draw: random.Random) -> None:
        self._store = folder / "store"
        self._ready = folder / "ready"
        self._first = folder / "first.pcmi"
        self._images = images
        self._draw = draw
        self._number = 0
        self._journal: dict[int, str] = {}
        self.result = Result()
        images[1].save(self._first)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.serving"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PCMEDGE_NATIVE": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(PATIENCE_S)
        self._server.stdout.close()

    @contextmanager
    def _served(self, *more: str) -> Iterator[tuple[int, Device]]:
        """A started device and a client; killed at the end, if it was not before."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._ready.unlink(missing_ok=True)
        options = ("--store", self._store, "--ready-file", self._ready, "--listen", "127.0.0.1:0")
        more = (*more, "--clock", "manual", "--journal-max-events", str(KEPT_EVENTS), "--log-level", "error")
        self._server.stdin.write(json.dumps(["serve", *map(str, options), *more]) + "\n")
        self._server.stdin.flush()
        child = int(self._server.stdout.readline())
        deadline_s = time.monotonic() + PATIENCE_S
        while not (self._ready.exists() and self._ready.read_text()):
            if time.monotonic() > deadline_s:
                raise TimeoutError("the service did not become ready")
            time.sleep(0.005)
        try:
            with pcmedge.connect(json.loads(self._ready.read_text())["address"]) as device:
                yield child, device
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            assert self._server.stdout.readline() == "dead\n"

    def run(self, moments: int) -> Result:
        with self._served(str(self._first)) as (_, device):
            state = seen(device)
        for moment in range(moments):
            kind = KINDS[moment % len(KINDS)]
            state, cut = self._killed(state, kind)
            state = self._examined(state, cut, kind)
            self.result.moments[kind] += 1
        return self.result

    def _killed(self, state: State, kind: str) -> tuple[State, Call | None]:
        """(the state last acknowledged, the call that was under way) of a device that is dead now."""
        with self._served() as (child, device):
            state = replace(state, last_event=state.last_event + 1)
            timer = threading.Timer(self._draw.uniform(0.0, LONGEST_S), os.kill, (child, signal.SIGKILL))
            timer.start()
            call = None
            try:
                while True:
                    self._number += 1
                    call = next_call(state, kind, self._number, self._draw)
                    do(device, call, self._images)
                    state, call = call.after, None
                    self.result.acknowledged += 1
            except Error:
                timer.join()
        return state, call

    def _examined(self, acknowledged: State, cut: Call | None, kind: str) -> State:
        """Starts the device again; the state everybody agrees on afterwards."""
        copy = self._store.with_name("copy")
        shutil.copytree(self._store, copy)
        with self._served() as (_, device):
            # One more: the device tells that it started.
            old = replace(acknowledged, last_event=acknowledged.last_event + 1)
            new = None if cut is None else replace(cut.after, last_event=cut.after.last_event + 1)
            found = seen(device)
            if found not in (old, new):
                self._wrong(kind, f"found {asdict(found)}, expected {asdict(old)} or {new and asdict(new)}")
            self.result.old += cut is not None and found == old
            self.result.new += found == new
            self.result.between += cut is None
            if why := conductances(copy, self._images, found):
                self._wrong(kind, why)
            self._read_journal(device, kind)
            generations = found.program_generation, found.statistics_generation
            if found.active:
                answer = device.infer_detailed({"x": np.zeros((2, 8), np.float32)}, model=NAME)
                if (answer.program_generation, answer.statistics_generation) != generations:
                    self._wrong(kind, "an answer is of another generation")
            if cut is not None:
                do(device, cut, self._images)
                wanted = new if found == new else replace(cut.after, last_event=found.last_event + 1)
                again = seen(device)
                if again != wanted:
                    self._wrong(kind, f"repeated: {asdict(again)} instead of {wanted and asdict(wanted)}")
            self._read_journal(device, kind)
            state = seen(device)
        shutil.rmtree(copy)
        return state

    def _read_journal(self, device: Device, kind: str) -> None:
        events = {event.sequence: repr(replace(event, lost_before=0)) for event in device.events(limit=1000)}
        if sorted(events) != list(range(min(events), max(events) + 1)):
            self._wrong(kind, "numbers are missing in the journal")
        for number, event in events.items():
            if self._journal.setdefault(number, event) != event:
                self._wrong(kind, f"number {number} was given to two events")

    def _wrong(self, kind: str, what: str) -> None:
        self.result.wrong.append(f"moment {self.result.moments.total()}, {kind}: {what}")


def campaign(moments: int, seed: int, folder: Path) -> Result:
    run = Campaign(folder, {version: image(NAME, version) for version in (1, 2)}, random.Random(seed))
    try:
        return run.run(moments)
    finally:
        run.close()


def machine() -> str:
    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills", description=__doc__)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pcmedge-kills-") as folder:
        result = campaign(options.moments, options.seed, Path(folder))
    document: dict[str, Any] = {
        "moments": dict(result.moments),
        "seed": options.seed,
        "calls_acknowledged": result.acknowledged,
        "between_calls": result.between,
        "old_state": result.old,
        "new_state": result.new,
        "lost_or_mixed": len(result.wrong),
        "wrong": result.wrong,
        "seconds": round(time.monotonic() - started_s, 1),
        "machine": machine(),
    }
    print(json.dumps(document, indent=None if options.json else 2))
    sys.exit(bool(result.wrong))


if __name__ == "__main__":
    main()
