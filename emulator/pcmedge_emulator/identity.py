"""Which device an emulator is: the one in its store, or a new one as asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import InputValueError, StoreError
from pcmedge.image.profiles import get_profile

from pcmedge_emulator.arguments import text, whole
from pcmedge_emulator.physics.technology import TECHNOLOGIES, Technology, get_technology
from pcmedge_emulator.records import DeviceRecord

MOST_SERIAL = 64
DEFAULT_SERIAL, DEFAULT_SEED, DEFAULT_TECHNOLOGY = "emulator-0", 0, "pcm-90nm"


def own_technology(technology: str | Technology | None) -> Technology | None:
    """A Technology that was given, if its name is not that of another one; None for a name."""
    if not isinstance(technology, Technology):
        return None
    preset = TECHNOLOGIES.get(technology.name)
    if preset is not None and preset != technology:
        raise InputValueError(
            f"'{technology.name}' is the name of a built-in technology with other coefficients; give yours its own: "
            "dataclasses.replace(technology, name=...).",
            technology=technology.name,
        )
    return technology


def device_as_asked(
    *,
    technology: str | Technology | None,
    serial: str | None,
    seed: int | None,
    profile: ChipProfile | str | None,
    comes_with: str = "",
) -> Callable[[DeviceRecord | None], DeviceRecord]:
    """From the stored device, if there is one, the one to be: that, or a new one where there is none.

    StoreError then when what was asked for is not the device in the store. ``comes_with``: its faults, as
    :func:`pcmedge_emulator.born.described` says them. Raises InputTypeError, InputValueError at once.
    """
    if serial is not None:
        serial = text("serial", serial, MOST_SERIAL)
    if seed is not None:
        seed = whole("seed", seed, 0, np.iinfo(np.int64).max)

    def device(stored: DeviceRecord | None) -> DeviceRecord:
        wanted = b"" if profile is None else get_profile(profile).SerializeToString(deterministic=True)
        if stored is None:
            return DeviceRecord(
                serial=DEFAULT_SERIAL if serial is None else serial,
                seed=DEFAULT_SEED if seed is None else seed,
                technology=get_technology(DEFAULT_TECHNOLOGY if technology is None else technology).name,
                profile=wanted,
                comes_with=comes_with,
            )
        named = technology.name if isinstance(technology, Technology) else technology
        asked = {"technology": named, "serial": serial, "seed": seed, "profile": wanted or None}
        _check_same(stored, asked | {"comes_with": comes_with or None})
        return stored if stored.profile or not wanted else replace(stored, profile=wanted)

    return device


def _check_same(stored: DeviceRecord, asked: Mapping[str, object]) -> None:
    for name, value in asked.items():
        found = getattr(stored, name)
        if value is None or value == found:
            continue
        if name == "profile" and not found:
            continue
        shown = f"{found!r}, not {value!r}" if name in ("technology", "serial", "seed") else "another"
        option = "faults" if name == "comes_with" else name
        raise StoreError(
            f"The store holds a device whose {option} is {shown}. Leave {option} out to use it as it is, or name "
            "another directory for another device.",
            field=option,
        )
