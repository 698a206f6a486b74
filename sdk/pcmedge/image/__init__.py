"""The chip image (.pcmi): what the compiler makes and a chip is programmed with. Format: docs/image-format.md."""

from pcmedge.image.placement import Tile
from pcmedge.image.reader import ChipImage
from pcmedge.image.report import Check, VerifyReport
from pcmedge.image.writer import build_image

__all__ = ["Check", "ChipImage", "Tile", "VerifyReport", "build_image"]
