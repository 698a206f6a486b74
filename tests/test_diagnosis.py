"""Diagnosis finds what is broken, names it, seldom finds what is not, and the next programming goes around it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pcmedge
import pytest
from chip_models import INPUT, accuracy, digits, digits_image
from confidence import NORMAL
from pcmedge._contract import device_pb2
from pcmedge.device import Device, Fault, Mutation, Progress
from pcmedge.errors import (
    CancelledError,
    CapacityError,
    GenerationMismatchError,
    InputValueError,
    ModelNotFoundError,
    UnimplementedError,
)
from pcmedge.image.profiles import profile
from pcmedge_emulator.calibration.gdc import read_cells
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.crossbar import conductances, converter_spread, program_tile
from pcmedge_emulator.diagnosis import SCATTERED_TAIL, Limits, healthy_cells, judge_tile
from pcmedge_emulator.outcomes import Diagnosis
from pcmedge_emulator.physics import get_technology, stream
from pcmedge_emulator.service import serve
from pcmedge_emulator.service.device_handlers import DeviceHandlers
from pcmedge_emulator.service.metric_families import device_families, model_families
from service_devices import WAYS, device_by
from service_models import classifier

AGES_S = {"1s": 1.0, "1d": 86400.0, "1y": 365 * 86400.0}


@pytest.fixture
def device() -> Iterator[Device]:
    with pcmedge.Emulator(clock="manual", seed=6) as made:
        made.program(digits_image())
        made.set_policy("manual")
        yield made


def weights(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    return np.rint(32767 * np.clip(rng.normal(0, 0.3, shape), -1, 1)).astype(np.int16)


# --------------------------------------------------------------------------------------------- bound on false alarms


@pytest.mark.parametrize("technology", ["pcm-90nm", "pcm-14nm"])
@pytest.mark.parametrize("age", AGES_S)
def test_limits_are_left_as_often_as_they_say(technology: str, age: str) -> None:
    """A tail of 0.0005 on either side, in 200,000 cells of targets from 0 to 1, at 99.9 % confidence."""
    physics, age_s, rng = get_technology(technology), AGES_S[age], stream("diagnosis", 0, "targets")
    target = (rng.random((1, 500, 400)) * 32767).astype(np.int16)
    devices, _ = program_tile(target, physics.g_max_microsiemens, physics, stream("diagnosis", 0, "program"))
    g_plus, g_minus = conductances(devices, age_s, physics, stream("diagnosis", 0, "read"))
    y = (g_plus - g_minus) / physics.g_max_microsiemens
    healthy = healthy_cells(physics, age_s, (SCATTERED_TAIL,), reads=1, noisy=False)
    magnitude = target / 32767
    error = NORMAL.inv_cdf(1 - 0.0005 / 12) * np.sqrt(SCATTERED_TAIL / y.size)
    for outside in (y < healthy.at(healthy.low[SCATTERED_TAIL], magnitude),
                    y > healthy.at(healthy.high[SCATTERED_TAIL], magnitude)):  # fmt: skip
        # Sampled limits are off by their own error; 1.3 is what the count of scattered cells allows for.
        assert outside.mean() <= 1.3 * SCATTERED_TAIL + error
        assert outside.mean() >= 0.4 * SCATTERED_TAIL
    mean = healthy.at(healthy.mean, magnitude)
    assert y.mean() == pytest.approx(mean.mean(), rel=0.005)


@pytest.mark.parametrize("age", AGES_S)
def test_healthy_tiles_alarm_no_more_often_than_the_rate(age: str) -> None:
    """100 tiles at a rate of 10 %: up to 20 alarms with 99.9 % confidence if the rate is just kept."""
    physics, age_s, share = get_technology("pcm-90nm"), AGES_S[age], 0.1 / 5
    shape, alarms = (1, 40, 30), 0
    cell_tail = share / (2 * np.prod(shape))
    healthy = healthy_cells(physics, age_s, (float(cell_tail), SCATTERED_TAIL), reads=4, noisy=True)
    for chip in range(100):
        target = weights(stream("alarms", chip, "targets"), shape)
        devices, _ = program_tile(target, 25.0, physics, stream("alarms", chip, "program"))
        gain, offset = converter_spread(0.02, 1.0, 30, stream("alarms", chip, "converters"))
        rng = stream("alarms", chip, "read")
        g_plus, g_minus = conductances(devices, age_s, physics, rng)
        reading = read_cells(
            g_plus, g_minus, 25.0, physics, dac_levels=255, adc_bits=8, rng=rng, gain=gain, offset=offset
        )
        quantum = reading.step / 255
        limits = Limits(
            cells=healthy, cell_tail=float(cell_tail), lines=2 * share, offsets=share, scattered=share,
            quantum=quantum, gain_spread=0.02, offset_spread=1.0,
        )  # fmt: skip
        alarms += bool(judge_tile(reading.codes * quantum, reading.zeros, target, limits).findings)
    assert alarms <= 20


@pytest.mark.parametrize("physics", ["pcm-90nm", "pcm-14nm", "ideal"])
def test_a_healthy_chip_is_healthy_at_every_age(physics: str) -> None:
    with pcmedge.Emulator(clock="manual", seed=8, physics=physics) as device:
        device.program(digits_image())
        device.set_policy("manual")
        for age in AGES_S:
            device.lab.advance(age)
            found = device.diagnose()
            assert found.healthy
            assert (len(found.tiles), found.retired_tiles, found.false_alarm_rate) == (3, (), 0.001)
        device.lab.set_noise("off")
        assert device.diagnose().healthy
        assert [event.kind for event in device.events()].count("diagnosed") == 4
        assert device.telemetry().retired_tiles == 0


# ------------------------------------------------------------------------------------------------------------ detection


@pytest.mark.parametrize("age", AGES_S)
@pytest.mark.parametrize(
    ("fault", "kind", "row", "column"),
    [
        (Fault(kind="tile-lost", tile=1), "tile-lost", None, None),
        (Fault(kind="dead-column", tile=1, column=11), "dead-column", None, 11),
        (Fault(kind="dead-row", tile=1, row=23), "dead-row", 23, None),
        (Fault(kind="adc-offset", tile=1, column=9, amount=-3), "adc-offset", None, 9),
        (Fault(kind="adc-gain", tile=1, column=9, amount=1.5), "column-response", None, 9),
        (Fault(kind="stuck-at-g-max", tile=1, row=20, column=30), "cell", 20, 30),
    ],
)
def test_a_fault_is_found_and_named(
    device: Device, age: str, fault: Fault, kind: str, row: int | None, column: int | None
) -> None:
    device.lab.advance(age)
    device.lab.inject_faults([fault])
    found = device.diagnose()
    bad = [tile for tile in found.tiles if tile.findings]
    assert [(tile.tile, tile.layer) for tile in bad] == [(1, "dense1")]
    worst = bad[0].findings[0]
    assert (worst.kind, worst.row, worst.column) == (kind, row, column)
    assert abs(worst.measured - worst.expected) >= worst.bound
    event = device.events()[-1]
    assert (event.kind, event.model, event.details["tile"], event.details["layer"]) == (
        "fault-detected", "digits", "1", "dense1",
    )  # fmt: skip
    assert kind in event.message


@pytest.mark.parametrize("kind", ["stuck-at-reset", "stuck-at-g-max", "stuck-at-random"])
@pytest.mark.parametrize("age", ["1s", "1y"])
def test_a_share_of_stuck_devices_is_found_and_retires_the_tile(device: Device, age: str, kind: str) -> None:
    device.lab.advance(age)
    device.lab.inject_faults([Fault(kind=kind, tile=0, amount=0.03)])
    found = device.diagnose()
    assert [tile.tile for tile in found.tiles if tile.findings] == [0]
    assert found.retired_tiles == (0,)


def test_a_few_faulty_cells_are_tolerated_when_asked(device: Device) -> None:
    device.lab.inject_faults([Fault(kind="stuck-at-g-max", tile=0, row=2, column=2)])
    found = device.diagnose(tolerated_cells=0.0001)
    assert (found.tiles[0].faulty_cells, found.retired_tiles) == (1, (0,))
    # A diagnosis is the verdict on what it looked at: what it finds fit is taken back.
    found = device.diagnose(tolerated_cells=0.01)
    assert (found.tiles[0].faulty_cells, found.retired_tiles, found.healthy) == (1, (), False)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_tells_the_same(way: str) -> None:
    with device_by(way, classifier()) as device:
        assert "diagnose" in device.identity().capabilities
        assert device.diagnose(false_alarm_rate=0.01).false_alarm_rate == 0.01
        device.lab.inject_faults([Fault(kind="tile-lost", tile=0)])
        found = device.diagnose(mutation=Mutation(request_id="once"))
        assert (found.tiles[0].findings[0].kind, found.retired_tiles) == ("tile-lost", (0,))
        device.lab.clear_faults()
        assert device.diagnose(mutation=Mutation(request_id="once")) == found
        with pytest.raises(GenerationMismatchError):
            device.diagnose(mutation=Mutation(expected_program_generation=99))
        for wrong in ({"false_alarm_rate": 1.0}, {"false_alarm_rate": -0.1}, {"tolerated_cells": 1.1}):
            with pytest.raises(InputValueError):
                device.diagnose(**wrong)
        with pytest.raises(ModelNotFoundError):
            device.diagnose(model="nobody")


# --------------------------------------------------------------------------------------------------------------- repair


def test_programming_again_leaves_bad_tiles_and_brings_the_accuracy_back(device: Device) -> None:
    pictures, labels = digits()[2][:200], digits()[3][:200]

    def now() -> float:
        return accuracy(np.asarray(device.infer({INPUT: pictures})), labels)

    healthy = now()
    device.lab.inject_faults([Fault(kind="stuck-at-random", tile=tile, amount=0.3) for tile in (0, 1)])
    broken = now()
    assert broken < healthy - 0.1
    assert device.diagnose().retired_tiles == (0, 1)
    seen = device.telemetry(tiles=True)
    assert seen.retired_tiles == 2
    assert [tile.retired for tile in seen.models[0].tiles] == [True, True, False]
    assert "program it again" in seen.degraded_reasons[0]
    device.program(digits_image())
    seen = device.telemetry(tiles=True)
    assert not any(tile.retired or tile.tile in (0, 1) for tile in seen.models[0].tiles)
    assert (seen.retired_tiles, seen.free_tiles, seen.degraded_reasons) == (2, 256 - 5, ())
    assert device.diagnose().healthy
    assert now() >= healthy - 0.04


def test_without_other_tiles_programming_says_so_and_may_use_retired_ones(tmp_path: Path) -> None:
    image = digits_image(profile="pcm-512x512")
    small = profile("pcm-512x512", tiles=4, name="four tiles")
    with pcmedge.Emulator(clock="manual", seed=6, profile=small, store=tmp_path / "chip") as device:
        device.program(image)
        device.lab.inject_faults([Fault(kind="tile-lost", tile=0), Fault(kind="dead-column", tile=2, column=3)])
        assert device.diagnose().retired_tiles == (0, 2)
    with pcmedge.Emulator(store=tmp_path / "chip") as device:
        assert device.telemetry().retired_tiles == 2
        with pytest.raises(CapacityError, match="2 are retired") as caught:
            device.program(image, replace=True)
        assert caught.value.metadata["tiles_retired"] == "2"
        assert device.models()[0].program_generation == 1
        device.program(image, replace=True, use_retired=True)
        assert device.models()[0].program_generation == 2
        device.erase("digits")
        assert device.identity().geometry.free_tiles == 2
        device.lab.clear_faults()
        assert device.identity().geometry.free_tiles == 4
        device.program(image)
        assert device.diagnose().healthy


# ---------------------------------------------------------------------------------- progress, what is remembered


@pytest.mark.parametrize("way", WAYS)
def test_progress_is_told_tile_by_tile(way: str) -> None:
    with device_by(way, classifier()) as device:
        device.lab.inject_faults([Fault(kind="tile-lost", tile=0)])
        seen: list[Progress] = []
        found = device.diagnose(progress=seen.append, mutation=Mutation(request_id="once"))
        assert found.retired_tiles == (0,)
        assert device.diagnose(mutation=Mutation(request_id="once")) == found
        told = [(each.phase, each.done, each.total, each.unit) for each in seen if each.phase == "diagnose"]
        assert told[-1] == ("diagnose", len(found.tiles), len(found.tiles), "tiles")
        assert [done for _, done, _, _ in told] == sorted(done for _, done, _, _ in told)
        assert {each.kind for each in seen} == {"diagnose"}
        assert ("diagnose", "succeeded") in [(each.kind, each.state) for each in device.operations()]
        with pytest.raises(ModelNotFoundError):
            device.diagnose(model="nobody", progress=seen.append)


class Deliberate(Chip):
    """Diagnoses only when it has been told to stop; until then it does nothing but report."""

    def diagnose(self, name: str, **asked: Any) -> Diagnosis:
        asked["progress"]("diagnose", 0, 3)
        while not asked["cancelled"]():
            time.sleep(0.01)
        return super().diagnose(name, **asked)


def test_an_interrupted_diagnosis_retires_nothing() -> None:
    def interrupt(update: Progress) -> None:
        if update.phase == "diagnose":
            raise KeyboardInterrupt

    with Deliberate(clock=Clock.manual()) as chip, serve(chip, "127.0.0.1:0", lab=True) as server:
        chip.program(classifier())
        with pcmedge.connect(server.address) as device:
            device.lab.inject_faults([Fault(kind="tile-lost", tile=0)])
            with pytest.raises(KeyboardInterrupt):
                device.diagnose(progress=interrupt)
            (operation,) = device.operations()
            assert [update.state for update in device.watch_operation(operation.operation_id)][-1] == "cancelled"
            assert device.telemetry().retired_tiles == 0
            assert not {"diagnosed", "fault-detected"} & {event.kind for event in device.events()}


def test_a_diagnosis_stops_between_tiles() -> None:
    with Chip(clock=Clock.manual()) as chip:
        chip.program(digits_image())
        looked_at: list[int] = []
        with pytest.raises(CancelledError, match="no tile was retired"):
            chip.diagnose(
                "digits",
                progress=lambda phase, done, total: looked_at.append(done),
                cancelled=lambda: len(looked_at) > 1,
            )
        assert looked_at == [0, 1]


def test_a_device_without_progress_is_diagnosed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(self: DeviceHandlers, request: object, context: object) -> NoReturn:
        raise UnimplementedError("no such call")

    monkeypatch.setattr(DeviceHandlers, "diagnose_with_progress", unknown)
    with Chip(clock=Clock.manual()) as chip, serve(chip, "127.0.0.1:0") as server:
        chip.program(classifier())
        with pcmedge.connect(server.address) as device:
            seen: list[Progress] = []
            assert device.diagnose(progress=seen.append).healthy
            assert seen == []


def test_telemetry_remembers_what_was_found_until_it_is_mended(tmp_path: Path) -> None:
    with pcmedge.Emulator(digits_image(), clock="manual", seed=6, store=tmp_path / "chip") as device:
        device.lab.inject_faults([Fault(kind="dead-column", tile=1, column=7), Fault(kind="tile-lost", tile=2)])
        assert not any(tile.findings for tile in device.telemetry(tiles=True).models[0].tiles)
        found = device.diagnose()
        told = [(tile.findings, tile.faulty_cells) for tile in device.telemetry(tiles=True).models[0].tiles]
        assert told == [(tile.findings, tile.faulty_cells) for tile in found.tiles]
        assert found.tiles[1].findings[0].place == "dead-column, column 7"
    with pcmedge.Emulator(store=tmp_path / "chip") as device:
        tiles = device.telemetry(tiles=True).models[0].tiles
        assert [tile.findings for tile in tiles] == [tile.findings for tile in found.tiles]
        device.lab.clear_faults([1])
        tiles = device.telemetry(tiles=True).models[0].tiles
        assert [bool(tile.findings) for tile in tiles] == [False, False, True]
        device.lab.inject_faults([Fault(kind="dead-row", tile=0, row=0)])
        assert device.diagnose().tiles[0].findings
        device.lab.clear_faults()
        assert not any(tile.findings for tile in device.telemetry(tiles=True).models[0].tiles)


def test_metrics_name_layer_tile_and_column(tmp_path: Path) -> None:
    with Chip(clock=Clock.manual(), seed=6) as chip, serve(chip, f"unix://{tmp_path}/s", lab=True) as server:
        chip.program(digits_image())
        with pcmedge.connect(server.address) as device:
            device.lab.inject_faults([Fault(kind="dead-column", tile=1, column=7)])
            found = device.diagnose().tiles[1]
            identity = server.ask("GetIdentity", device_pb2.GetIdentityRequest())
            telemetry = server.ask("GetTelemetry", device_pb2.GetTelemetryRequest(include_tiles=True))
    families = [*device_families(identity, telemetry), *model_families(telemetry)]
    samples = {(each.name, tuple(sorted(each.labels.items()))): each.value for f in families for each in f.samples}
    place = {"model": "digits", "layer": found.layer, "tile": "1"}
    assert samples["pcmedge_tiles_retired", ()] == 1
    assert samples["pcmedge_tile_retired", tuple(sorted(place.items()))] == 1
    finding = place | {"kind": "dead-column", "row": "", "column": "7"}
    assert samples["pcmedge_tile_finding", tuple(sorted(finding.items()))] == found.findings[0].measured
    assert sum(name == "pcmedge_tile_retired" for name, _ in samples) == 1
