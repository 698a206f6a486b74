"""Chip profiles: built in, from files, varied, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import FileMissingError, InputValueError, NotFoundError
from pcmedge.image.profiles import DEFAULT_PROFILE, PROFILES, check_profile, get_profile, profile


def test_the_built_in_profiles():
    default, hermes = get_profile(DEFAULT_PROFILE), get_profile("hermes-256x256")
    assert (default.tile_rows, default.tile_columns, default.tiles, default.g_max_microsiemens) == (512, 512, 256, 25.0)
    assert (hermes.tile_rows, hermes.tile_columns, hermes.tiles, hermes.g_max_microsiemens) == (256, 256, 64, 20.7)
    for name, built_in in PROFILES.items():
        check_profile(built_in)
        assert built_in.name == name
        assert (built_in.dac_bits, built_in.adc_bits) == (8, 8)
        # Spread and IR drop are terms of the profile, off unless asked for.
        assert (built_in.ir_drop, built_in.adc_gain_spread, built_in.adc_offset_spread_codes) == (0, 0, 0)
        assert not built_in.connect_idle


def test_what_is_handed_out_is_a_copy():
    get_profile(DEFAULT_PROFILE).tiles = 1
    mine = profile(tiles=3)
    get_profile(mine).tiles = 4
    assert get_profile(DEFAULT_PROFILE).tiles == 256
    assert mine.tiles == 3


def test_a_profile_varied():
    varied = profile(tile_rows=128, tile_columns=64, adc_gain_spread=0.01)
    assert (varied.name, varied.tile_rows, varied.tile_columns) == ("pcm-512x512-custom", 128, 64)
    assert varied.g_max_microsiemens == 25.0
    assert profile("hermes-256x256", name="mine", tiles=2).name == "mine"
    assert profile() == get_profile(DEFAULT_PROFILE)


def test_a_profile_from_a_mapping_and_a_file(tmp_path: Path):
    fields = {"name": "mine", "tile_rows": 64, "tile_columns": 32, "tiles": 4, "dac_bits": 6, "adc_bits": 7,
              "g_max_microsiemens": 10.5, "connect_idle": True}  # fmt: skip
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(fields))
    expected = ChipProfile(**fields)
    assert get_profile(fields) == get_profile(path) == get_profile(str(path)) == get_profile(expected) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tile_rows", 0), ("tile_columns", 100_000), ("tiles", 0), ("dac_bits", 1), ("adc_bits", 13),
        ("g_max_microsiemens", 0.0), ("ir_drop", -1.0),
        ("adc_gain_spread", -0.5), ("wire_resistance_ohm", -0.1), ("name", ""),
    ],
)  # fmt: skip
def test_values_no_chip_has_are_refused_by_name(field: str, value: Any):
    with pytest.raises(InputValueError, match=field) as caught:
        profile(**{field: value})
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize("field", ["g_max_microsiemens", "ir_drop", "adc_gain_spread"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(field: str, value: float):
    message = profile()
    setattr(message, field, value)
    with pytest.raises(InputValueError, match=field):
        get_profile(message)
    with pytest.raises(InputValueError, match=field):
        profile(**{field: value})


@pytest.mark.parametrize("overrides", [{"rows": 3}, {"tiles": "many"}, {"tiles": -1}, {"dac_bits": 7.5}])
def test_fields_a_profile_does_not_have_are_refused_with_those_it_has(overrides: dict[str, Any]):
    with pytest.raises(InputValueError, match="g_max_microsiemens"):
        profile(**overrides)


def test_unknown_names_and_broken_files(tmp_path: Path):
    with pytest.raises(NotFoundError, match="hermes-256x256"):
        get_profile("pcm-1x1")
    with pytest.raises(FileMissingError):
        get_profile(tmp_path / "missing.json")
    with pytest.raises(FileMissingError):
        get_profile(tmp_path)
    for text, message in (("{", "not JSON"), ("[1]", "JSON object"), ('{"tiles": 1}', "tile_rows")):
        (tmp_path / "broken.json").write_text(text)
        with pytest.raises(InputValueError, match=message):
            get_profile(tmp_path / "broken.json")
