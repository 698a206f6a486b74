"""The device an Interpreter runs on, with its model there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pcmedge
from pcmedge.device.device import Device
from pcmedge.errors import InputTypeError, InputValueError
from pcmedge.image import ChipImage
from pcmedge.protocol.address import ENVIRONMENT
from pcmedge.tflite.images import Given, image_of, model_bytes


@dataclass(frozen=True)
class Opened:
    """A device, the name of the model on it, and whether whoever opened it has to close it."""

    device: Device
    model: str
    owned: bool


def open_device(given: Given, device: Any, emulator: Mapping[str, Any]) -> Opened:
    """The device meant, programmed with the model given; ``emulator``: physics, seed and threads of one made here."""
    if device is None and not os.environ.get(ENVIRONMENT):
        image = image_of(given)
        return Opened(pcmedge.Emulator(image, **emulator), image.name, owned=True)
    for name in ("physics", "seed"):
        if emulator[name] is not None:
            where = "device=" if device is not None else f"${ENVIRONMENT}"
            raise InputValueError(
                f"{name}: for an emulator in this process; {where} names a device, which has its own", argument=name
            )
    if not isinstance(device, Device | str | None):
        raise InputTypeError(f"device is a URL or a pcmedge.Device; found {type(device).__name__}", argument="device")
    owned = not isinstance(device, Device)
    opened = device if isinstance(device, Device) else pcmedge.connect(device)
    try:
        return Opened(opened, _placed(opened, given), owned)
    except BaseException:
        if owned:
            opened.close()
        raise


def _placed(device: Device, given: Given) -> str:
    """See that the device runs the model; its name there."""
    if "program" not in device.identity().capabilities:
        return _held(device, given)
    image = image_of(given)
    if not _active(device, image):
        device.program(image)
    return image.name


def _held(device: Device, given: Given) -> str:
    """The model of a device that takes no other; if one is given it must be this very file."""
    name = device.model_spec().name
    if given.has_model:
        digest = hashlib.sha256(model_bytes(given)).hexdigest()
        if not any(held.image_sha256 == digest and held.name == name for held in device.models()):
            raise InputValueError(
                f"{device.address} cannot be programmed and holds another model, '{name}'; give the very file it runs, "
                "or no model to take it as it is",
                argument="model_path",
            )
    return name


def _active(device: Device, image: ChipImage) -> bool:
    digest = image.sha256.hex()
    return any(held.image_sha256 == digest and held.active for held in device.models())
