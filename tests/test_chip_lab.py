"""What only an emulator can do: move time, keep and restore snapshots, switch noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chip_models import INPUT, OUTPUT, digits, digits_image
from pcmedge.errors import CancelledError, ClockError, InputValueError, NotFoundError
from pcmedge_emulator.calibration.policy import MANUAL, Policy, PolicyKind
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.outcomes import Method, Mutation


def new_chip(**options: object) -> Chip:
    return Chip(**{"clock": Clock.manual(), "default_policy": MANUAL, "seed": 1} | options)  # type: ignore[arg-type]


@pytest.fixture
def chip() -> Iterator[Chip]:
    with new_chip(read_noise="off") as made:
        made.program(digits_image())
        yield made


def scores(chip: Chip) -> np.ndarray:
    return np.asarray(chip.infer("digits", {INPUT: digits()[2][:50]}).outputs[OUTPUT])


def test_a_manual_advance_gives_exact_ages(chip: Chip) -> None:
    for by_s, age_s in ((0.0, 0.0), (1.5, 1.5), (1e-3, 1.501), (1e7, 1e7 + 1.501)):
        assert chip.advance(by_s).clock.device_time_s == pytest.approx(age_s)
        assert chip.infer("digits", {INPUT: digits()[2][:1]}).age_s == pytest.approx(age_s)
    assert chip.models()[0].age_s == pytest.approx(1e7 + 1.501)


def test_advancing_stops_between_recalibrations_when_cancelled(tmp_path: Path) -> None:
    policy = Policy(kind=PolicyKind.INTERVAL, interval_s=3600.0, method=Method.GDC)
    asked = iter([False, False, False, True])
    with new_chip(read_noise="off", store=tmp_path / "store") as chip:
        chip.program(digits_image())
        chip.set_policy("digits", policy)
        with pytest.raises(CancelledError, match="10800 of 360000 s") as caught:
            chip.advance(100 * 3600.0, cancelled=lambda: next(asked), mutation=Mutation(request_id="long"))
        assert caught.value.metadata == {"advanced_s": "10800.0", "recalibrations": "3"}
        assert chip.clock().device_time_s == 3 * 3600.0
        assert chip.infer("digits", {INPUT: digits()[2][:1]}).age_s == 3 * 3600.0
        last = chip.events()[-1]
        assert (last.kind, last.details["advanced_s"]) == ("cancelled", "10800.0")
        before = scores(chip)
    with new_chip(read_noise="off", store=tmp_path / "store") as chip:
        assert chip.clock().device_time_s == 3 * 3600.0
        np.testing.assert_array_equal(scores(chip), before)
        # A failed call is not remembered: the same id advances again, by all of it.
        assert chip.advance(3600.0, mutation=Mutation(request_id="long")).recalibrations == 1


def test_an_advance_that_only_moves_the_clock_is_not_cut_short(chip: Chip) -> None:
    assert chip.advance(60.0, cancelled=lambda: True).clock.device_time_s == 60.0


def test_clock_modes_change_and_a_real_one_is_not_advanced(chip: Chip) -> None:
    chip.advance(100.0)
    reading = chip.set_clock("accelerated", 1000.0)
    assert (reading.mode, reading.rate) == ("accelerated", 1000.0)
    assert reading.device_time_s >= 100.0
    chip.advance(100.0)
    assert chip.set_clock("real").device_time_s >= 200.0
    with pytest.raises(ClockError):
        chip.advance(1.0)
    with pytest.raises(InputValueError, match="clock mode"):
        chip.set_clock("sundial")
    with pytest.raises(InputValueError, match="rate"):
        chip.set_clock("accelerated", -1.0)
    stopped_s = chip.set_clock("manual").device_time_s
    assert chip.infer("digits", {INPUT: digits()[2][:1]}).age_s == pytest.approx(stopped_s)


def test_conductances_follow_a_running_clock_in_steps() -> None:
    with new_chip(clock=Clock.accelerated(1e6)) as chip:
        chip.program(digits_image())
        ages = set()
        while len(ages) < 4:
            ages.add(chip.infer("digits", {INPUT: digits()[2][:1]}).age_s)
        now_s = chip.models()[0].age_s
        assert max(ages) <= now_s
        assert sorted(ages) == sorted(ages, key=float)


@pytest.mark.parametrize("stored", [True, False])
def test_a_snapshot_brings_back_values_and_ages_but_not_time(tmp_path: Path, stored: bool) -> None:
    with new_chip(read_noise="off", store=tmp_path if stored else None) as chip:
        chip.program(digits_image())
        chip.advance(1e6)
        chip.recalibrate("digits")
        before, policy = scores(chip), Policy(log_time_ratio=7.0)
        chip.set_policy("digits", policy)
        taken = chip.snapshot("healthy")
        assert (taken.models, taken.device_time_s) == (("digits",), 1e6)
        assert taken.bytes > digits_image().size
        chip.set_policy("digits", MANUAL)
        chip.advance(1e7)
        chip.recalibrate("digits")
        chip.program(digits_image("other"))
        chip.erase("digits")
        assert chip.snapshots() == (taken,)
        assert chip.restore("healthy") == taken
        assert [model.name for model in chip.models()] == ["digits"]
        assert chip.models()[0].age_s == pytest.approx(1e6)
        assert chip.clock().device_time_s == pytest.approx(1.1e7)
        assert chip.models()[0].statistics_generation == 3
        assert np.array_equal(scores(chip), before)
        assert chip.policy("digits")[0] == policy
        assert chip.identity().geometry.free_tiles == chip.identity().geometry.tiles - 3
        chip.program(digits_image("other"))
        assert [model.program_generation for model in chip.models()] == [1, 3]


def test_snapshots_survive_a_restart_and_are_deleted(tmp_path: Path) -> None:
    with new_chip(store=tmp_path) as chip:
        chip.program(digits_image())
        chip.snapshot("a", mutation=Mutation(request_id="s"))
        chip.erase("digits")
    with new_chip(store=tmp_path) as chip:
        assert [snapshot.name for snapshot in chip.snapshots()] == ["a"]
        assert chip.snapshot("a", mutation=Mutation(request_id="s")).models == ("digits",)
        chip.restore("a")
        assert [model.name for model in chip.models()] == ["digits"]
        for _ in range(2):
            chip.delete_snapshot("a", mutation=Mutation(request_id="d"))
        assert chip.snapshots() == ()
        for verb in (chip.restore, chip.delete_snapshot):
            with pytest.raises(NotFoundError, match="none"):
                verb("a")


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, "ä"])
def test_names_of_snapshots_are_checked(chip: Chip, name: str) -> None:
    with pytest.raises(InputValueError):
        chip.snapshot(name)


def test_noise_is_switched_for_comparison() -> None:
    with new_chip() as chip:
        chip.program(digits_image())
        assert chip.noise() == "additive"
        assert not np.array_equal(scores(chip), scores(chip))
        for noise in ("input-dependent", "off"):
            assert chip.set_noise(noise) == noise
            assert chip.infer("digits", {INPUT: digits()[2][:1]}).noise is (noise != "off")
        assert np.array_equal(scores(chip), scores(chip))
        with pytest.raises(InputValueError):
            chip.set_noise("loud")


def test_read_realisations_differ_and_come_back(chip: Chip) -> None:
    first = scores(chip)
    chip.set_read_realisation(1)
    assert not np.array_equal(scores(chip), first)
    chip.set_read_realisation(0)
    assert np.array_equal(scores(chip), first)
