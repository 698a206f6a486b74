"""The second device of a pair, however it is named: a device, an address, or a model file that is run here."""

from __future__ import annotations

import os
from pathlib import Path

from pcmedge.device.connecting import connect
from pcmedge.device.device import Device
from pcmedge.device.emulator import Emulator
from pcmedge.errors import InputTypeError


def opened(device: Device | str | os.PathLike[str]) -> Device:
    """A device for an address (which need not answer yet) or a file.

    A ``.tflite`` or ``.onnx`` file runs digitally, a chip image on an emulated chip without any physics. Raises what
    making the device raises, and InputTypeError for anything else.
    """
    if not isinstance(device, str | os.PathLike):
        raise InputTypeError(
            f"a device is a Device, an address, or the path of a .tflite, .onnx or .pcmi file; found "
            f"{type(device).__name__}",
            found=repr(device),
        )
    text = os.fspath(device)
    match Path(text).suffix.lower() if "://" not in text else "":
        case ".pcmi":
            return Emulator(text, physics="ideal", converters="ideal", read_noise="off", serial="fallback")
        case ".onnx" | ".tflite":
            from pcmedge.digital import DigitalDevice

            return DigitalDevice(text)
    return connect(text, lazy=True)
