"""``pcmedge drift``: how accuracy holds over time, for any image and labelled data."""

from __future__ import annotations

from pcmedge.cli.options import Json


def run(json: Json = False) -> None:
    """Study the accuracy of an image over time."""
