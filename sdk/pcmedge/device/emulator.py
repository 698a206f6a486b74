"""An emulated chip in this process, behind the same Device as one far away."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.device._calls import Session
from pcmedge.device.device import Device
from pcmedge.device.transport import LocalTransport
from pcmedge.errors import MissingExtraError

if TYPE_CHECKING:
    from pcmedge._contract.image_pb2 import ChipProfile
    from pcmedge.image import ChipImage


def Emulator(
    image: str | os.PathLike[str] | bytes | ChipImage | None = None,
    *,
    physics: str = "pcm-90nm",
    seed: int = 0,
    serial: str = "emulator-0",
    clock: str | float = "real",
    store: str | os.PathLike[str] | None = None,
    profile: str | ChipProfile | None = None,
    converters: str = "profile",
    read_noise: str = "additive",
    engine: str = "fast",
    threads: int = 1,
) -> Device:
    """An emulated PCM chip in this process, programmed with ``image`` if one is given.

    ``physics``: device technology, "pcm-90nm", "pcm-14nm" or "ideal". ``seed``, ``serial``: together they determine
    every random draw of this chip. ``clock``: "real", "manual", or device seconds per second. ``store``: folder that
    keeps the state over restarts; None keeps it in memory. ``profile``: chip geometry; None takes the first image's.
    ``converters``: "profile", or "ideal" for none. ``read_noise``: "additive", "off" or "input-dependent".
    ``engine``: "fast" or "reference". ``threads``: processor threads per inference. Close the device, or use it as a
    context manager. Raises MissingExtraError without the extra "emulator".
    """
    try:
        from pcmedge_emulator.chip import Chip
        from pcmedge_emulator.clock import Clock
        from pcmedge_emulator.service.handlers import Handlers
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pcmedge"):
            raise
        raise MissingExtraError.for_extra("emulator", "The emulator") from error
    if isinstance(profile, str):
        from pcmedge.image.profiles import get_profile

        profile = get_profile(profile)
    chip = Chip(
        profile=profile,
        technology=physics,
        serial=serial,
        seed=seed,
        clock=Clock.parse(clock),
        store=None if store is None else Path(store),
        engine=engine,
        converters=converters,
        read_noise=read_noise,
        threads=threads,
    )
    device = Device(
        LocalTransport(Handlers(chip, lab=True), address=f"emulator {serial}", on_close=chip.close),
        session=Session(operation_timeout_s=86400.0),
    )
    if image is not None:
        try:
            device.program(image)
        except BaseException:
            device.close()
            raise
    return device
