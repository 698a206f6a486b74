"""Whether an image is for a chip: what it requires, and the profile it was compiled for."""

from __future__ import annotations

from collections.abc import Iterable

from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import ImageFeatureError
from pcmedge.image import ChipImage

_MUST_EQUAL = ("tile_rows", "tile_columns", "dac_bits", "adc_bits", "g_max_microsiemens")


def check_features(image: ChipImage, known: Iterable[str]) -> None:
    """ImageFeatureError when the image requires what a device that knows these features cannot do."""
    missing = sorted(set(image.manifest.required_features) - set(known))
    if missing:
        raise ImageFeatureError(
            f"Image '{image.name}' requires {', '.join(missing)}, which this device does not have.",
            check="required-features",
            features=",".join(missing),
        )


def differences(image: ChipImage, profile: ChipProfile) -> list[str]:
    """Fields of geometry and converters in which a chip of this profile differs from the one compiled for."""
    wanted = image.manifest.profile
    return [name for name in _MUST_EQUAL if getattr(wanted, name) != getattr(profile, name)]
