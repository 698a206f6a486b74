"""Injected faults do to conductances, converters and answers what physics says, stay, and can be cleared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pcmedge
import pytest
from chip_models import INPUT, accuracy, digits, digits_image
from confidence import quantile
from hypothesis import given, settings
from hypothesis import strategies as st
from pcmedge.device import Device, Fault, ProgramAndVerify, TileReadout
from pcmedge.errors import DeviceStateError, InputTypeError, InputValueError
from pcmedge_emulator.crossbar import tile_faults
from pcmedge_emulator.injected import Fault as TileFault
from pcmedge_emulator.injected import FaultKind
from pcmedge_emulator.physics import failed_devices, stream, stuck_conductances
from service_devices import WAYS, device_by
from service_models import classifier, pictures

G_MAX = 25.0
PICTURES, LABELS = digits()[2][:100], digits()[3][:100]


@pytest.fixture
def device() -> Iterator[Device]:
    with pcmedge.Emulator(clock="manual", seed=5, read_noise="off") as made:
        made.program(digits_image())
        made.set_policy("manual")
        yield made


def scores(device: Device) -> np.ndarray:
    return np.asarray(device.infer({INPUT: PICTURES}))


def both(readout: TileReadout) -> np.ndarray:
    return np.stack([readout.g_plus_microsiemens, readout.g_minus_microsiemens])


# ------------------------------------------------------------------------------------------------------------- physics


@pytest.mark.parametrize("share", [0.0, 0.003, 0.2, 1.0])
def test_devices_fail_one_by_one_with_the_share_asked_for(share: float) -> None:
    count = 200_000
    failed = failed_devices(share, count, stream("faults", 0, "share"))
    off = abs(len(failed) - share * count)
    assert off <= quantile() * np.sqrt(share * (1 - share) * count)
    assert len(np.unique(failed)) == len(failed)


def test_devices_are_stuck_where_they_are_said_to_be() -> None:
    rng = stream("faults", 0, "stuck")
    assert (stuck_conductances("reset", 9, rng) == 0).all()
    assert (stuck_conductances("g-max", 9, rng) == 1).all()
    g = stuck_conductances("random", 50_000, rng)
    assert abs(g.mean() - 0.5) <= quantile(3) * np.sqrt(1 / 12 / g.size)
    # Kolmogorov-Smirnov against the uniform distribution, 99.9 %.
    assert np.abs(np.sort(g) - (np.arange(g.size) + 0.5) / g.size).max() <= 1.95 / np.sqrt(g.size)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 19), st.integers(0, 19), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_stuck_device_is_found_at_its_place_of_the_block_diagonal(
    groups: int, rows: int, columns: int, row: int, column: int, minus: bool
) -> None:
    fault = TileFault(kind=FaultKind.STUCK_AT_G_MAX, tile=0, row=row, column=column, minus=minus)
    g = np.ones((groups, rows, columns), np.float32)
    held = tile_faults([fault], 20, 20, lambda number: stream("faults", 0, "place", number)).hold(g, g.copy(), G_MAX)
    on_tile = np.zeros((2, 20, 20))
    for device, block in enumerate(held):
        for group in range(groups):
            at = (slice(group * rows, (group + 1) * rows), slice(group * columns, (group + 1) * columns))
            on_tile[(device, *at)] = block[group]
    inside = row // rows == column // columns and row // rows < groups
    assert np.count_nonzero(on_tile == G_MAX) == int(inside)
    assert not inside or on_tile[int(minus), row, column] == G_MAX
    assert (g == 1).all()


# ---------------------------------------------------------------------------------------------------------- the device


@pytest.mark.parametrize(("kind", "stuck_at"), [("stuck-at-reset", 0.0), ("stuck-at-g-max", G_MAX)])
def test_stuck_devices_hold_one_conductance_through_programming_and_a_year(
    device: Device, kind: str, stuck_at: float
) -> None:
    # Only what no healthy device reads by itself: 0 where a good deal was programmed, exactly g_max anywhere.
    telling = both(device.read_tile(0)) > 3.0
    device.lab.inject_faults([Fault(kind=kind, tile=0, amount=0.05)])
    fresh = both(device.read_tile(0))
    stuck = telling & (fresh == stuck_at)
    assert abs(stuck.sum() / telling.sum() - 0.05) <= quantile() * np.sqrt(0.05 * 0.95 / telling.sum())
    device.lab.advance("1y")
    aged = both(device.read_tile(0))
    device.erase("digits")
    device.program(digits_image())
    again = both(device.read_tile(0))
    for reading in (aged, again):
        assert (reading[stuck] == stuck_at).all()
        assert (reading[telling & ~stuck] != fresh[telling & ~stuck]).all()


def test_random_ones_stay_where_they_are(device: Device) -> None:
    healthy = both(device.read_tile(0))
    device.lab.inject_faults([Fault(kind="stuck-at-random", tile=0, amount=0.1)])
    first, second = both(device.read_tile(0)), both(device.read_tile(0))
    # Two reads draw other 1/f noise for what is not stuck (and is not cut off at 0).
    same = (first == second) & (first > 0)
    assert abs(same.sum() / healthy.size - 0.1) < quantile() * np.sqrt(0.1 * 0.9 / healthy.size)
    assert abs(first[same].mean() / G_MAX - 0.5) < quantile() * np.sqrt(1 / 12 / same.sum())


def test_dead_lines_carry_no_current(device: Device) -> None:
    device.lab.inject_faults([Fault(kind="dead-row", tile=1, row=3), Fault(kind="dead-column", tile=1, column=5)])
    g = both(device.read_tile(1))
    assert not g[:, 3].any()
    assert not g[:, :, 5].any()
    rest = np.delete(np.delete(g, 3, axis=1), 5, axis=2).max(axis=0)
    assert (rest > 0).mean() > 0.9


def test_the_next_answer_sees_a_fault_and_the_one_after_clearing_does_not(device: Device) -> None:
    before = scores(device)
    faults = device.lab.inject_faults([Fault(kind="stuck-at-g-max", tile=2, row=1, column=7)])
    assert [(fault.kind, fault.tile, fault.number) for fault in faults] == [("stuck-at-g-max", 2, 1)]
    moved = scores(device) - before
    # The classifier's input 1 is never negative, and its weight for class 7 is now about the largest there is.
    assert moved[:, 7].max() > 0
    assert not np.delete(moved, 7, axis=1).any()
    assert device.lab.clear_faults() == ()
    np.testing.assert_array_equal(scores(device), before)


def test_a_lost_tile_answers_zero(device: Device) -> None:
    device.lab.inject_faults([Fault(kind="tile-lost", tile=2)])
    assert np.ptp(scores(device), axis=0).max() == 0


def test_converter_faults_move_codes_of_their_column_alone(device: Device) -> None:
    before = scores(device)
    steps = np.diff(np.unique(before[:, 4]))
    code = steps[steps > 1e-6].min()
    device.lab.inject_faults([Fault(kind="adc-offset", tile=2, column=4, amount=6.0)])
    moved = scores(device) - before
    assert np.median(moved[:, 4]) == pytest.approx(6 * code, rel=1e-3)
    assert not np.delete(moved, 4, axis=1).any()
    device.lab.clear_faults([2])
    device.lab.inject_faults([Fault(kind="adc-gain", tile=2, column=4, amount=-1.0)])
    dead = scores(device)
    assert np.ptp(dead[:, 4]) == 0
    np.testing.assert_array_equal(np.delete(dead, 4, axis=1), np.delete(before, 4, axis=1))


def test_a_spread_of_gains_is_drawn_once_per_column(device: Device) -> None:
    before = scores(device)
    device.lab.inject_faults([Fault(kind="adc-gain", tile=2, amount=0.3, spread=True)])
    ratios = (scores(device) * before).sum(axis=0) / np.square(before).sum(axis=0)
    assert len(np.unique(np.round(ratios, 3))) == 10
    # Chi-square with 10 degrees of freedom at 99.9 %: between 1.26 and 31.4.
    assert 1.26 * 0.09 < np.square(ratios - 1).sum() < 31.4 * 0.09
    np.testing.assert_array_equal(scores(device), scores(device))


def test_program_and_verify_reports_what_it_cannot_move(device: Device) -> None:
    device.erase("digits")
    device.lab.inject_faults([Fault(kind="stuck-at-g-max", tile=0, amount=0.1)])
    result = device.program(digits_image(), program_and_verify=ProgramAndVerify())
    healthy, faulty = result.tiles[1], result.tiles[0]
    assert healthy.converged_fraction > 0.99
    assert faulty.converged_fraction == pytest.approx(0.9, abs=0.01)
    assert faulty.rms_error_microsiemens > 5 * healthy.rms_error_microsiemens


def test_many_stuck_devices_cost_accuracy(device: Device) -> None:
    assert accuracy(scores(device), LABELS) > 0.85
    device.lab.inject_faults([Fault(kind="stuck-at-random", tile=tile, amount=0.3) for tile in range(3)])
    assert accuracy(scores(device), LABELS) < 0.7


def test_faults_survive_restarts_and_snapshots_and_are_the_same_devices(tmp_path: Path) -> None:
    faults = [
        Fault(kind="stuck-at-random", tile=1, amount=0.1),
        Fault(kind="adc-offset", tile=2, amount=4, spread=True),
    ]

    def opened() -> Device:
        return pcmedge.Emulator(clock="manual", seed=2, read_noise="off", store=tmp_path / "chip")

    with opened() as device:
        device.program(digits_image())
        device.lab.snapshot("healthy")
        device.lab.inject_faults(faults)
        broken, listed = scores(device), device.lab.faults()
    with opened() as device:
        assert device.lab.faults() == listed
        np.testing.assert_array_equal(scores(device), broken)
        # Silicon does not heal when a state is put back onto it.
        device.lab.restore("healthy")
        assert device.lab.faults() == listed
        np.testing.assert_array_equal(scores(device), broken)
        kinds = [event.kind for event in device.events()]
        assert kinds.count("faults-injected") == 1


def test_the_journal_counts_faults_in_words_that_fit_none_and_one() -> None:
    with pcmedge.Emulator(profile="hermes-256x256") as device:
        device.lab.inject_faults([])
        device.lab.inject_faults([Fault(kind="dead-row", tile=1, row=3)])
        device.lab.clear_faults()
        told = [event.message for event in device.events() if event.kind.startswith("faults-")]
    assert told == [
        "Faults injected: none.",
        "Faults injected: 1, on tiles 1 (dead-row).",
        "Faults cleared: 1, left: 0.",
    ]


@pytest.mark.parametrize("way", WAYS)
def test_faults_come_back_as_they_were_asked_for_by_every_way(way: str) -> None:
    wanted = [
        Fault(kind="stuck-at-g-max", tile=1, row=2, column=1, minus=True),
        Fault(kind="adc-gain", tile=0, amount=0.1, spread=True),
        Fault(kind="dead-row", tile=3, row=255),
    ]
    with device_by(way, classifier()) as device:
        found = device.lab.inject_faults(wanted)
        assert [fault.number for fault in found] == [1, 2, 3]
        assert device.lab.faults() == found
        for fault, asked in zip(found, wanted, strict=True):
            assert (fault.kind, fault.tile, fault.row, fault.column) == (
                asked.kind,
                asked.tile,
                asked.row,
                asked.column,
            )
            assert (fault.amount, fault.spread, fault.minus) == (asked.amount, asked.spread, asked.minus)
        assert [fault.tile for fault in device.lab.clear_faults([0])] == [1, 3]
        assert "lab.faults" in device.identity().capabilities
        assert device.infer(pictures(2)).shape[0] == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(kind="dead-row", tile=256), "a tile from 0 to 255"),
        (Fault(kind="dead-row", tile=0, row=512), "a row from 0 to 511"),
        (Fault(kind="dead-row", tile=0, column=1), "no column"),
        (Fault(kind="dead-column", tile=0, column=1, amount=0.5), "no amount"),
        (Fault(kind="stuck-at-reset", tile=0, amount=1.5), "a share of devices from 0 to 1"),
        (Fault(kind="stuck-at-reset", tile=0, amount=0.5, row=1), "a share or one device"),
        (Fault(kind="stuck-at-reset", tile=0, amount=float("nan")), "a finite amount"),
        (Fault(kind="adc-offset", tile=0), "an amount other than 0"),
        (Fault(kind="adc-gain", tile=0, amount=-1.5), "at least -1"),
        (Fault(kind="adc-gain", tile=0, amount=0.1, spread=True, column=1), "not both"),
        (Fault(kind="tile-lost", tile=0, spread=True), "no spread"),
        (Fault(kind="melted", tile=0), "a fault's kind"),
    ],
)
def test_faults_no_tile_can_have_are_refused_and_none_is_injected(device: Device, fault: Fault, says: str) -> None:
    with pytest.raises(InputValueError, match=says):
        device.lab.inject_faults([Fault(kind="tile-lost", tile=0), fault])
    assert device.lab.faults() == ()


def test_a_chip_without_a_profile_has_nothing_to_break() -> None:
    with pcmedge.Emulator(clock="manual") as device:
        with pytest.raises(DeviceStateError, match="profile"):
            device.lab.inject_faults([Fault(kind="tile-lost", tile=0)])
        with pytest.raises(InputTypeError, match=r"pcmedge\.device\.Fault"):
            device.lab.inject_faults(["tile-lost"])  # type: ignore[list-item]


def test_int8_products_have_the_same_faults() -> None:
    faults = [Fault(kind="dead-column", tile=1, column=5), Fault(kind="adc-offset", tile=2, column=4, amount=6.0)]
    answers = []
    for precision in ("exact", "turbo"):
        with pcmedge.Emulator(clock="manual", seed=5, read_noise="off", precision=precision) as device:
            device.program(digits_image())
            device.lab.inject_faults(faults)
            answers.append(scores(device))
            device.lab.inject_faults([Fault(kind="tile-lost", tile=2)])
            assert np.ptp(scores(device), axis=0).max() == 0
    assert np.mean(answers[0].argmax(axis=1) == answers[1].argmax(axis=1)) > 0.95
