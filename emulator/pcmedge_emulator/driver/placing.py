"""Whether an image fits a chip, and which tiles it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pcmedge.errors import CapacityError, ImageFeatureError, ImageProfileError
from pcmedge.image import ChipImage

from pcmedge_emulator.driver.hardware import Description
from pcmedge_emulator.driver.residents import Model
from pcmedge_emulator.tile_allocator import TileAllocator

_MUST_EQUAL = ("tile_rows", "tile_columns", "dac_bits", "adc_bits", "g_max_microsiemens")


def check_fit(known: Description, image: ChipImage) -> None:
    """ImageFeatureError or ImageProfileError for an image that is not for this chip."""
    if missing := sorted(set(image.manifest.required_features) - set(known.image_features)):
        raise ImageFeatureError(
            f"Image '{image.name}' requires {', '.join(missing)}, which this device does not have.",
            features=",".join(missing),
        )
    wanted = image.manifest.profile
    different = [name for name in _MUST_EQUAL if getattr(wanted, name) != getattr(known.profile, name)]
    if different:
        raise ImageProfileError(
            f"Image '{image.name}' was compiled for the profile '{wanted.name}', this chip is "
            f"'{known.profile.name}'; they differ in {', '.join(different)}. Compile it for this chip.",
            different=",".join(different),
        )


def allocator(known: Description, models: Mapping[str, Model], without: Sequence[str] = ()) -> TileAllocator:
    """Which physical tiles are taken, by all models but the named ones."""
    found = TileAllocator(known.profile.tiles)
    for name, model in models.items():
        if name not in without:
            found.reserve(name, model.record.tiles)
    return found


def place(
    known: Description, models: Mapping[str, Model], image: ChipImage, over: bool
) -> tuple[tuple[int, ...], list[str]]:
    """(physical tiles, models that go): beside the residents if there is room, else over them if ``over``.

    CapacityError, ImageTooLargeError.
    """
    same = [image.name] if image.name in models else []
    count = len(image.tiles())
    attempts: list[tuple[Sequence[str], list[str]]] = [((), same)]
    if over:
        attempts += [(same, same), (list(models), list(models))]
    for number, (without, gone) in enumerate(attempts, 1):
        try:
            return allocator(known, models, without).allocate(f"{image.name} (new)", count), gone
        except CapacityError:
            if number == len(attempts):
                raise
    raise AssertionError("unreachable: the last attempt raises")
