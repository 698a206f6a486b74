"""pcmedge: deploy neural networks to an analog phase-change-memory (PCM) inference chip.

The names below are the whole public face; each is imported on first use, so ``import pcmedge`` needs neither torch nor
onnx and takes milliseconds.
"""

from __future__ import annotations

import os as _os
from importlib import import_module

from pcmedge import forks as _forks  # noqa: F401  from now on forks are noticed

# Not typing's, which takes longer to import than all of this: the command pcmedge begins here, deaf to Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pcmedge.compiler import compile
    from pcmedge.device import AsyncDevice, AsyncEmulator, Device, Emulator, FallbackDevice, connect, connect_async
    from pcmedge.digital import AsyncDigitalDevice, DigitalDevice
    from pcmedge.errors import Error
    from pcmedge.image import ChipImage
    from pcmedge.training import noise_aware

    __version__: str

# ONNX Runtime's own packages report sessions to their maker, and keep an identifier of the machine in the user's home,
# unless this is set before they are first imported. Nothing of a device is anybody else's business.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "AsyncDevice": "pcmedge.device",
    "AsyncDigitalDevice": "pcmedge.digital",
    "AsyncEmulator": "pcmedge.device",
    "ChipImage": "pcmedge.image",
    "Device": "pcmedge.device",
    "DigitalDevice": "pcmedge.digital",
    "Emulator": "pcmedge.device",
    "Error": "pcmedge.errors",
    "FallbackDevice": "pcmedge.device",
    "compile": "pcmedge.compiler",
    "connect": "pcmedge.device",
    "connect_async": "pcmedge.device",
    "noise_aware": "pcmedge.training",
}

__all__ = [
    "AsyncDevice",
    "AsyncDigitalDevice",
    "AsyncEmulator",
    "ChipImage",
    "Device",
    "DigitalDevice",
    "Emulator",
    "Error",
    "FallbackDevice",
    "__version__",
    "compile",
    "connect",
    "connect_async",
    "noise_aware",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("pcmedge")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pcmedge' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
