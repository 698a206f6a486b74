"""Whether an image fits the hardware."""

from __future__ import annotations

from pcmedge.errors import ImageProfileError
from pcmedge.image import ChipImage

from pcmedge_emulator.driver.hardware import Description
from pcmedge_emulator.fit import check_features, differences


def check_fit(known: Description, image: ChipImage) -> None:
    """ImageFeatureError or ImageProfileError for an image that is not for this chip."""
    check_features(image, known.image_features)
    if different := differences(image, known.profile):
        raise ImageProfileError(
            f"Image '{image.name}' was compiled for the profile '{image.manifest.profile.name}', this chip is "
            f"'{known.profile.name}'; they differ in {', '.join(different)}. Compile it for this chip.",
            different=",".join(different),
        )
