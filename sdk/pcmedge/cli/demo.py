"""``pcmedge demo``: five minutes to the wow."""

from __future__ import annotations

from pcmedge.cli.options import Json


def run(json: Json = False) -> None:
    """Age a digits network for a year and watch it heal itself."""
