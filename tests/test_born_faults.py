"""Chips that come with faults: as many as their profile expects, or what they are told to; a seed decides where."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pcmedge
import pytest
from chip_models import digits_image
from cli_process import run, served
from confidence import quantile
from hypothesis import given
from hypothesis import strategies as st
from pcmedge.checking import expect
from pcmedge.compiler.report import expected_faults
from pcmedge.demo import compile_digits, load_digits
from pcmedge.device import Device, Fault, FaultRates
from pcmedge.device.given_faults import given_faults
from pcmedge.errors import Error, FileMissingError, InputTypeError, InputValueError, StoreError
from pcmedge.image.fault_rates import KINDS, parse_rates
from pcmedge.image.profiles import profile

WORN = profile(
    "pcm-512x512",
    name="worn",
    stuck_at_reset_share=0.002,
    dead_rows_per_tile=0.5,
    dead_columns_per_tile=0.25,
    lost_tile_share=0.1,
)


def listed(device: Device) -> list[tuple[str, int, int, int, float]]:
    return [(fault.kind, fault.tile, fault.row, fault.column, fault.amount) for fault in device.lab.faults()]


def worn(seed: int = 1, **more: object) -> Device:
    return pcmedge.Emulator(profile=WORN, clock="manual", seed=seed, **more)


# ---------------------------------------------------------------------------------------------------------- the profile


def test_a_chip_comes_with_as_many_faults_as_its_profile_expects() -> None:
    with worn() as device:
        found = listed(device)
        counted = Counter(kind for kind, *_ in found)
        tiles = device.identity().geometry.tiles
        event = next(event for event in device.events() if event.kind == "faults-injected")
    assert [fault for fault in found if fault[0] == "stuck-at-reset"] == [
        ("stuck-at-reset", tile, 0, 0, 0.002) for tile in range(tiles)
    ]
    for kind, expected in (("dead-row", 0.5 * tiles), ("dead-column", 0.25 * tiles), ("tile-lost", 0.1 * tiles)):
        assert abs(counted[kind] - expected) <= quantile() * math.sqrt(expected), kind
    assert "came with" in event.message
    assert str(len(found)) in event.message


def test_serial_and_seed_decide_which_and_nothing_else_does() -> None:
    with worn() as first, worn() as same, worn(seed=2) as other, worn(serial="another") as another:
        faults = listed(first)
        assert listed(same) == faults
        assert listed(other) != faults
        assert listed(another) != faults
        assert [fault for fault in listed(other) if fault[0] == "stuck-at-reset"] == [
            fault for fault in faults if fault[0] == "stuck-at-reset"
        ]
    without_rows = profile(WORN, dead_rows_per_tile=0.0)
    with pcmedge.Emulator(profile=without_rows, clock="manual", seed=1) as device:
        assert listed(device) == [fault for fault in faults if fault[0] != "dead-row"]


def described(folder: Path, **fields: float) -> str:
    """The path of a chip profile as a JSON file."""
    base = {"name": "described", "tile_rows": 512, "tile_columns": 512, "tiles": 256}
    base |= {"dac_bits": 8, "adc_bits": 8, "g_max_microsiemens": 25.0}
    path = folder / "profile.json"
    path.write_text(json.dumps(base | fields))
    return str(path)


def test_a_chip_that_adopts_the_profile_of_its_first_image_comes_with_its_faults(tmp_path: Path) -> None:
    image = digits_image(profile=described(tmp_path, stuck_at_g_max_share=0.05))
    with pcmedge.Emulator(clock="manual", seed=4, read_noise="off") as device:
        assert listed(device) == []
        device.program(image)
        assert len(listed(device)) == 256
        pair = device.read_tile(0)
        at_g_max = np.mean([(g == 25.0).mean() for g in (pair.g_plus_microsiemens, pair.g_minus_microsiemens)])
        cells = 2 * pair.g_plus_microsiemens.size
        assert abs(at_g_max - 0.05) <= quantile() * math.sqrt(0.05 * 0.95 / cells)
        found = device.diagnose()
        assert len(found.retired_tiles) == len(found.tiles)
    with pcmedge.Emulator(image, clock="manual", physics="ideal") as ideal:
        assert listed(ideal) == []


def test_faults_a_chip_comes_with_are_stored_and_mended_like_others(tmp_path: Path) -> None:
    with worn(store=tmp_path / "chip") as device:
        faults = device.lab.faults()
        device.lab.clear_faults([fault.tile for fault in faults[:1]])
        left = device.lab.faults()
    with pcmedge.Emulator(store=tmp_path / "chip") as again:
        assert again.lab.faults() == left
        assert again.lab.inject_faults([Fault(kind="tile-lost", tile=0)])[-1].number == len(faults) + 1


@pytest.mark.parametrize(
    "wrong", [{"lost_tile_share": 1.5}, {"stuck_at_reset_share": -0.1}, {"dead_rows_per_tile": float("nan")}]
)
def test_profiles_expect_what_can_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InputValueError, match=next(iter(wrong))):
        profile("pcm-512x512", **wrong)


def test_more_faulty_lines_than_a_tile_has_are_refused() -> None:
    with pytest.raises(InputValueError, match="512 columns"):
        pcmedge.Emulator(profile=profile(dead_columns_per_tile=600.0))


def test_the_report_and_the_expectation_reckon_with_the_profile() -> None:
    digits = load_digits().test
    clean = compile_digits()
    assert expected_faults(clean.manifest) == ""
    manifest = type(clean.manifest).FromString(clean.manifest.SerializeToString())
    manifest.profile.CopyFrom(WORN)
    devices = manifest.placement.devices
    assert expected_faults(manifest) == (
        f"{0.002 * devices:.3g} devices stuck at RESET, 3 dead rows, 1.5 dead columns, 0.6 of the 6 tiles lost"
    )
    found = [
        expect(clean, digits.tensors[:30], digits.labels[:30], chips=1, ages_s=(), faults=faults)
        for faults in (None, "stuck-at-random=0.2")
    ]
    assert [each.faults for each in found] == ["none", "stuck-at-random=0.2"]
    assert found[1].moments[0].accuracy_mean < found[0].moments[0].accuracy_mean - 0.1
    assert found[1].moments[0].output_error_mean > found[0].moments[0].output_error_mean


# -------------------------------------------------------------------------------------------------------------- told to


@given(st.dictionaries(st.sampled_from(KINDS), st.floats(0, 1), max_size=8))
def test_rates_are_read_as_they_are_written(rates: dict[str, float]) -> None:
    found = given_faults(rates)
    assert found == parse_rates(str(found))
    assert bool(found) == any(rates.values())


def test_faults_are_given_in_many_ways(tmp_path: Path) -> None:
    fault = Fault(kind="dead-column", tile=2, column=5)
    with pcmedge.Emulator(profile="hermes-256x256", clock="manual", faults=[fault]) as device:
        assert listed(device) == [("dead-column", 2, 0, 5, 0.0)]
        document = {"faults": [asdict(each) for each in device.lab.faults()]}
    (tmp_path / "faults.json").write_text(json.dumps(document))
    (tmp_path / "rates.json").write_text(json.dumps({"dead-column": 0.1}))
    for file in (str(tmp_path / "faults.json"), tmp_path / "faults.json"):
        assert given_faults(file) == (fault,)
    same = FaultRates(dead_column=0.1)
    for rates in ("dead-column=0.1", {"dead-column": 0.1}, same, tmp_path / "rates.json"):
        assert given_faults(rates) == same
    assert given_faults("none") == FaultRates()
    with worn(faults="none") as device:
        assert listed(device) == []
    with worn(faults="adc-gain=0.07") as device:
        assert {(kind, amount) for kind, _, _, _, amount in listed(device)} == {("adc-gain", 0.07)}


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ("dead-columns=1", InputValueError, "there are stuck-at-reset"),
        ("dead-column", InputValueError, "KIND=RATE"),
        ("dead-column=1,dead-column=2", InputValueError, "each kind once"),
        ("tile-lost=2", InputValueError, "at most 1"),
        ("tile-lost=-0.1", InputValueError, "0 or more"),
        ({"tile-lost": "often"}, InputTypeError, "is a number"),
        ("missing.json", FileMissingError, "cannot read"),
        (7, InputTypeError, "KIND=RATE"),
        ([Fault(kind="rust", tile=0)], InputValueError, "kind of fault is one of"),
        ([Fault(kind="tile-lost", tile=10_000)], InputValueError, "a tile from 0 to 255"),
    ],
)
def test_what_is_no_fault_is_refused(wrong: object, error: type[Error], says: str) -> None:
    with pytest.raises(error, match=says):
        worn(faults=wrong)


@pytest.mark.parametrize(
    "content", ["[", "3", '[{"kind": "tile-lost"}]', '[{"kind": "tile-lost", "tile": "0"}]', "[1]"]
)
def test_a_file_of_no_faults_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text(content)
    with pytest.raises(InputValueError, match=r"faults\.json"):
        given_faults(tmp_path / "faults.json")


def test_a_store_keeps_what_was_told(tmp_path: Path) -> None:
    with worn(store=tmp_path / "chip", faults="tile-lost=0.5") as device:
        faults = device.lab.faults()
    for faults_again in (None, "tile-lost=0.5"):
        with pcmedge.Emulator(store=tmp_path / "chip", faults=faults_again) as device:
            assert device.lab.faults() == faults
    with pytest.raises(StoreError, match="faults is another"):
        pcmedge.Emulator(store=tmp_path / "chip", faults="tile-lost=0.25")


def test_an_image_that_fails_brings_no_faults(tmp_path: Path) -> None:
    image = digits_image(profile=described(tmp_path, dead_rows_per_tile=1000.0))
    with pcmedge.Emulator(clock="manual") as device:
        with pytest.raises(InputValueError, match="512 rows"):
            device.program(image)
        assert listed(device) == []
        assert device.models() == ()
        device.program(digits_image())
        assert device.diagnose().healthy


# ---------------------------------------------------------------------------------------------------------- served ones


def test_a_served_chip_takes_them_from_the_command_line_and_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "serve.toml"
    config.write_text('faults = "dead-column=0.5"\nlab = true\nprofile = "hermes-256x256"\n')
    with served("--config", config) as (url, _):
        found = run(capsys, "lab", "faults", "list", "--device", url, "--json").document["faults"]
    assert {fault["kind"] for fault in found} == {"dead-column"}
    with pcmedge.Emulator(profile="hermes-256x256", faults="dead-column=0.5") as device:
        assert [(each.tile, each.column) for each in device.lab.faults()] == [
            (fault["tile"], fault["column"]) for fault in found
        ]
    shown = run(capsys, "serve", "--faults", "tile-lost=0.1", "--print-config", "--json")
    assert shown.document["config"]["faults"] == {"value": "tile-lost=0.1", "from": "command line"}
    monkeypatch.setenv("PCMEDGE_SERVE_FAULTS", "tile-lost=0.2")
    assert run(capsys, "serve", "--print-config", "--json").document["config"]["faults"]["value"] == "tile-lost=0.2"
    refused = run(capsys, "serve", "--faults", "rust=1", "--json")
    assert (refused.code, refused.error["reason"]) == (2, "INPUT_VALUE")
