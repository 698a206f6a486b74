"""Log records of the standard library that carry a stable event name and fields beside their text.

An application that embeds the packages reads the text; the structured log of ``pcmedge serve`` shows name and fields,
the text as ``note`` (docs/operations.md lists the names).
"""

from __future__ import annotations

import logging
from typing import Any

_NAME, _FIELDS = "pcmedge_event", "pcmedge_fields"


def event(name: str, **fields: Any) -> dict[str, Any]:
    """``extra`` of a logging call."""
    return {_NAME: name, _FIELDS: fields}


def event_of(record: logging.LogRecord) -> tuple[str, dict[str, Any]] | None:
    """Name and fields of a record; None if it was logged without."""
    name = getattr(record, _NAME, None)
    return None if name is None else (name, getattr(record, _FIELDS))
