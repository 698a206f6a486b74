"""``pcmedge inspect``: draw a chip image. Needs neither a device nor an extra."""

from __future__ import annotations

from pcmedge.cli.options import ImagePath, Json


def run(image: ImagePath, json: Json = False) -> None:
    """Draw a chip image."""
