"""kill -9 at random moments: afterwards the old or the new state, whole, and the age intact."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chip_models import OUTPUT, digits_image
from cli_process import wait_for
from pcmedge_emulator import codec
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.crossbar.tile import program_tile
from pcmedge_emulator.physics.technology import get_technology
from pcmedge_emulator.records import ModelRecord
from pcmedge_emulator.resident import ProgrammedTile
from pcmedge_emulator.store import Store
from pcmedge_emulator.streams import Streams

KILLS = 20


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    digits_image(version=1).save(tmp_path / "v1.pcmi")
    digits_image(version=2, targets="float32").save(tmp_path / "v2.pcmi")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("chip_victim.py")), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    with process:
        yield process
        process.kill()


def notes(store: Path) -> list[list[str]]:
    return [line.split() for line in (store / "log").read_text().splitlines()] if (store / "log").exists() else []


State = tuple[str, ...]
EMPTY: State = ("0", "0", "")


def reachable(lines: list[list[str]], before: State) -> tuple[State, State | None]:
    """(the state last confirmed, the state a change was on its way to when the process died)."""
    confirmed, coming = before, None
    for line in lines:
        if line[0] == "begin":
            coming = tuple(line[1:])
        elif line[0] == "end":
            confirmed, coming = tuple(line[1:]), None
    return confirmed, coming


def check(store: Path, confirmed: State, coming: State | None) -> State:
    """The state in the store is the old or the new one, all of it is there, and its age is right."""
    with Chip(store=store, default_policy=MANUAL) as chip:
        before_s, models, after_s = time.time(), chip.models(), time.time()
        device_s = chip.clock().device_time_s
        if not models:
            assert confirmed == EMPTY
            return EMPTY
        model = models[0]
        found = (str(model.program_generation), str(model.statistics_generation), model.image_sha256.hex())
        assert found in (confirmed, coming)
        assert len(models) == 1
        assert before_s - 0.5 <= model.age_s + model.programmed_at_unix_s <= after_s + 0.5
        assert model.age_s <= device_s
        image = chip.image("digits")
        inputs, outputs = image.reference_set()
        answer = chip.infer("digits", inputs)
        assert np.mean(answer.outputs[OUTPUT].argmax(1) == outputs[OUTPUT].argmax(1)) >= 0.75
        assert answer.statistics_generation == model.statistics_generation
        geometry = chip.identity().geometry
        assert geometry.free_tiles == geometry.tiles - model.tiles
    opened = Store(store)
    try:
        record = codec.decode(opened.items("models")["digits"], ModelRecord)
        contents = opened.contents(record.program_generation)
        for tile, physical in zip(image.tiles(), record.physical, strict=True):
            stored = ProgrammedTile.from_bytes(contents[f"tile/{tile.tile:08d}"], image, tile, physical).devices
            rng = Streams("emulator-0", 0).programming(record.program_generation, physical)
            wanted, _ = program_tile(image.target(tile), 25.0, get_technology("pcm-90nm"), rng)
            for name in ("g_plus", "g_minus", "nu_plus", "nu_minus"):
                assert np.array_equal(getattr(stored, name), getattr(wanted, name))
        assert not opened.contents(record.program_generation - 1)
    finally:
        opened.close()
    return found


def test_twenty_kills(victims: subprocess.Popen[str], tmp_path: Path) -> None:
    assert victims.stdin is not None
    assert victims.stdout is not None
    draw = random.Random()
    store = tmp_path / "store"
    store.mkdir()
    state, done, old, new, longest_s = EMPTY, 0, 0, 0, 0.4
    for kill in range(KILLS):
        victims.stdin.write(f"{store} {kill}\n")
        victims.stdin.flush()
        child = int(victims.stdout.readline())
        wait_for(lambda: any(line[0] == "ready" for line in notes(store)[done:]))  # noqa: B023
        moment_s = draw.uniform(0.0, longest_s)
        time.sleep(moment_s)
        os.kill(child, signal.SIGKILL)
        assert victims.stdout.readline() == "dead\n"
        confirmed, coming = reachable(notes(store)[done:], state)
        if confirmed == state:
            # Nothing was finished: a slow machine is given longer.
            longest_s *= 1.2
        done = len(notes(store))
        state = check(store, confirmed, coming)
        old += coming is not None and state == confirmed
        new += state == coming
        print(f"kill {kill}: {moment_s * 1000:.0f} ms after the start, {confirmed[:2]} -> {coming}: {state[:2]}")
    print(f"{old} times the old state in the middle of a change, {new} times the new one")
    assert int(state[0]) >= 1


def test_a_manual_clock_stands_still_while_killed(victims: subprocess.Popen[str], tmp_path: Path) -> None:
    """The state of a manual clock does not age by downtime, whoever ended the process."""
    store = tmp_path / "manual"
    with Chip(store=store, clock=Clock.manual(), default_policy=MANUAL) as chip:
        chip.program(digits_image())
        chip.advance(1234.5)
    assert victims.stdin is not None
    assert victims.stdout is not None
    victims.stdin.write(f"{store} 1\n")
    victims.stdin.flush()
    child = int(victims.stdout.readline())
    wait_for(lambda: any(line[0] == "end" for line in notes(store)))
    os.kill(child, signal.SIGKILL)
    assert victims.stdout.readline() == "dead\n"
    with Chip(store=store) as chip:
        assert chip.clock().mode == "manual"
        assert chip.clock().device_time_s == 1234.5
