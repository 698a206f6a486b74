"""An emulated chip in this process, behind the same Device as one far away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pcmedge.device._calls import Session
from pcmedge.device._images import image_bytes
from pcmedge.device.device import Device
from pcmedge.device.given_faults import Given, given_faults
from pcmedge.device.transport import LocalTransport
from pcmedge.errors import MissingExtraError

if TYPE_CHECKING:
    from pcmedge._contract.image_pb2 import ChipProfile
    from pcmedge.image import ChipImage
    from pcmedge.image.signing import PublicKey

OPERATION_TIMEOUT_S = 86400.0
"""In process nobody waits on a line: only a day without an end is too long."""


def Emulator(
    image: str | os.PathLike[str] | bytes | ChipImage | None = None,
    *,
    physics: str | None = None,
    seed: int | None = None,
    serial: str | None = None,
    clock: str | float | None = None,
    store: str | os.PathLike[str] | None = None,
    profile: str | ChipProfile | None = None,
    converters: str = "profile",
    read_noise: str = "additive",
    engine: str = "fast",
    precision: str = "exact",
    threads: int | None = None,
    signatures: str = "off",
    trusted_keys: Sequence[str | os.PathLike[str] | PublicKey] = (),
    refuse_rollback: bool | None = None,
    faults: Given | None = None,
) -> Device:
    """An emulated PCM chip in this process, programmed with ``image`` if one is given.

    ``physics``: device technology, "pcm-90nm" (the default), "pcm-14nm" or "ideal". ``seed`` (0), ``serial``
    ("emulator-0"): together they determine every random draw of this chip. ``clock``: "real" (the default), "manual",
    or device seconds per second. ``store``: folder that keeps the state over restarts (then physics, seed, serial and
    clock left out are the stored ones, and an image that is resident already is not programmed again); None keeps it
    in memory. ``profile``: chip geometry; None takes the first image's. ``converters``: "profile", or "ideal" for none.
    ``read_noise``: "additive", "off" or "input-dependent". ``engine``: "fast" or "reference". ``precision``: "exact",
    or "turbo" for products in int8, which are faster with ``read_noise="off"``. ``threads``: processor threads per
    inference; None takes half of the processors, at most 8. ``signatures``: of images, "off", "warn" or "require";
    ``trusted_keys``: public keys or their PEM files; ``refuse_rollback``: take no version lower than the highest held
    of a model (None: with "require"). ``faults``: what a new chip comes with: rates by kind, from which serial
    and seed draw them ("dead-column=0.1,stuck-at-random=0.001", a mapping, a FaultRates), a list of
    :class:`pcmedge.device.Fault`, or a .json file of either; "none" for none; None for what the profile expects.

    Close the device, or use it as a context manager. Raises MissingExtraError without the extra "emulator",
    StoreInUseError, StoreUnwritableError, StoreCorruptError, and what :meth:`Device.program` raises.
    """
    try:
        from pcmedge_emulator.chip import Chip
        from pcmedge_emulator.clock import Clock
        from pcmedge_emulator.service.handlers import Handlers
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pcmedge"):
            raise
        raise MissingExtraError.for_extra("emulator", "The emulator") from error
    chip = Chip(
        profile=profile,
        technology=physics,
        serial=serial,
        seed=seed,
        clock=None if clock is None else Clock.parse(clock),
        store=store,
        engine=engine,
        converters=converters,
        read_noise=read_noise,
        precision=precision,
        threads=threads,
        signatures=signatures,
        trusted_keys=trusted_keys,
        refuse_rollback=refuse_rollback,
        faults=None if faults is None else given_faults(faults),
    )
    handlers = Handlers(chip, lab=True)

    def close() -> None:
        handlers.close()
        chip.close()

    name = chip.identity().serial
    device = Device(
        LocalTransport(handlers, address=f"emulator {name}", on_close=close),
        session=Session(operation_timeout_s=OPERATION_TIMEOUT_S, resident_image=chip.image),
    )
    if image is not None:
        try:
            _hold(device, image)
        except BaseException:
            device.close()
            raise
    return device


def _hold(device: Device, image: str | os.PathLike[str] | bytes | ChipImage) -> None:
    """Program the image unless exactly this one is on the chip: phase-change memory keeps what was written."""
    data = image_bytes(image)
    digest = hashlib.sha256(data).hexdigest()
    if not any(model.image_sha256 == digest for model in device.models()):
        device.program(bytes(data))
