"""Chip profiles: the geometry and circuits an image is compiled for.

A profile says nothing about what the devices do over time; that is the physics of the emulated (or real) chip. It does
say which faults a chip of this kind is expected to come with, since reports and expectations reckon with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import json_format

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import FileMissingError, InputTypeError, InputValueError, NotFoundError

DEFAULT_PROFILE: Final = "pcm-512x512"

# pcm-512x512: 25 uS is aihwkit's g_max for the pcm-90nm fit; 256 tiles hold a ResNet-34 (about 155). The wire segment
# of 0.35 ohm is aihwkit's default and counts only if ir_drop is switched on.
# hermes-256x256: 64 cores of 256 x 256 (Le Gallo et al. 2023), 8-bit converters, 20.7 uS (the two-device fit).
_BUILT_IN: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": DEFAULT_PROFILE,
        "tile_rows": 512,
        "tile_columns": 512,
        "tiles": 256,
        "dac_bits": 8,
        "adc_bits": 8,
        "g_max_microsiemens": 25.0,
        "wire_resistance_ohm": 0.35,
    },
    {
        "name": "hermes-256x256",
        "tile_rows": 256,
        "tile_columns": 256,
        "tiles": 64,
        "dac_bits": 8,
        "adc_bits": 8,
        "g_max_microsiemens": 20.7,
        "wire_resistance_ohm": 0.35,
    },
)
PROFILES: Final[Mapping[str, ChipProfile]] = MappingProxyType(
    {fields["name"]: ChipProfile(**fields) for fields in _BUILT_IN}
)

_LARGEST: Final = {"tile_rows": 65536, "tile_columns": 65536, "tiles": 65536}
_NOT_NEGATIVE: Final = (
    *("adc_gain_spread", "adc_offset_spread_codes", "ir_drop", "wire_resistance_ohm"),
    *("dead_rows_per_tile", "dead_columns_per_tile"),
)
_SHARES: Final = ("stuck_at_reset_share", "stuck_at_g_max_share", "stuck_at_random_share", "lost_tile_share")


def get_profile(profile: str | PathLike[str] | ChipProfile | Mapping[str, Any]) -> ChipProfile:
    """A checked copy of a chip profile.

    ``profile`` is the name of a built-in one (a key of ``PROFILES``), a ChipProfile, a mapping with the fields of
    ChipProfile as keys (see ``profile``), or the path of a JSON file that holds such a mapping. Raises NotFoundError
    for an unknown name, FileMissingError for a missing file and InputValueError for values no chip can have.
    """
    found = ChipProfile()
    if isinstance(profile, ChipProfile):
        found.CopyFrom(profile)
        return _checked(found)
    if isinstance(profile, Mapping):
        return _from_mapping(profile)
    if isinstance(profile, str) and profile in PROFILES:
        found.CopyFrom(PROFILES[profile])
        return found
    if isinstance(profile, str) and not profile.endswith(".json"):
        raise NotFoundError(
            f"no chip profile {profile!r}; there are {', '.join(PROFILES)}, or give the path of a .json file",
            profile=profile,
        )
    if not isinstance(profile, str | PathLike):
        raise InputTypeError(
            f"a chip profile is a name, a ChipProfile, a mapping of its fields or the path of a .json file; found "
            f"{profile!r}"
        )
    return _from_file(Path(profile))


def profile(base: str | ChipProfile = DEFAULT_PROFILE, /, **overrides: Any) -> ChipProfile:
    """A variant of a profile: ``profile(tile_rows=128, tile_columns=128, tiles=16)``.

    Without ``name`` among the overrides it is called "<base>-custom". Raises InputValueError.
    """
    origin = get_profile(base)
    fields = {field.name: getattr(origin, field.name) for field in ChipProfile.DESCRIPTOR.fields}
    if overrides:
        fields["name"] = f"{origin.name}-custom"
    return _from_mapping({**fields, **overrides})


def check_profile(profile: ChipProfile) -> None:
    """Raise InputValueError, naming the field, if no chip can have these values."""
    for name in ("tile_rows", "tile_columns", "tiles"):
        value = getattr(profile, name)
        if not 1 <= value <= _LARGEST[name]:
            raise _bad(profile, name, f"1 to {_LARGEST[name]}", value)
    for name in ("dac_bits", "adc_bits"):
        value = getattr(profile, name)
        if not 2 <= value <= 12:
            raise _bad(profile, name, "2 to 12 bits", value)
    if not (math.isfinite(profile.g_max_microsiemens) and profile.g_max_microsiemens > 0):
        raise _bad(profile, "g_max_microsiemens", "a positive number", profile.g_max_microsiemens)
    for name in _NOT_NEGATIVE:
        value = getattr(profile, name)
        if not (math.isfinite(value) and value >= 0):
            raise _bad(profile, name, "zero or a positive number", value)
    for name in _SHARES:
        value = getattr(profile, name)
        if not 0 <= value <= 1:
            raise _bad(profile, name, "a share from 0 to 1", value)
    if not profile.name:
        raise _bad(profile, "name", "a name", profile.name)


def _checked(profile: ChipProfile) -> ChipProfile:
    check_profile(profile)
    return profile


def _bad(profile: ChipProfile, field: str, expected: str, value: object) -> InputValueError:
    return InputValueError(
        f"chip profile {profile.name!r}: expected {field} to be {expected}, found {value!r}", field=field, value=value
    )


def _from_file(path: Path) -> ChipProfile:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileMissingError(f"no chip profile file {path}", path=path) from None
    except OSError as error:
        raise FileMissingError(f"cannot read chip profile {path}: {error.strerror}", path=path) from error
    except ValueError as error:
        raise InputValueError(f"chip profile {path} is not JSON: {error}", path=path) from error
    if not isinstance(fields, dict):
        raise InputValueError(f"chip profile {path}: expected a JSON object, found {type(fields).__name__}", path=path)
    return _from_mapping(fields)


def _from_mapping(fields: Mapping[str, Any]) -> ChipProfile:
    try:
        found: ChipProfile = json_format.ParseDict(dict(fields), ChipProfile())
    except json_format.ParseError as error:
        known = ", ".join(field.name for field in ChipProfile.DESCRIPTOR.fields)
        raise InputValueError(f"not a chip profile: {error}. Its fields are {known}") from error
    return _checked(found)
