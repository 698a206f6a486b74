"""The names models are served under."""

from __future__ import annotations

import re

from pcmedge.errors import InputValueError

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


def model_name(name: str | None, fallback: str) -> str:
    """The served name: as given (checked), or made from the source's name."""
    if name is not None:
        if not NAME.fullmatch(name):
            raise InputValueError(
                f"name: expected 1 to 128 characters of A-Z a-z 0-9 . _ -, found {name!r}.", found=name
            )
        return name
    made = re.sub(r"[^A-Za-z0-9._-]+", "-", fallback).strip("-")[:128]
    return made or "model"
