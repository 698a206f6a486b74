"""Where compiled code is kept between processes, and whether it may be loaded from there."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The user's folder for what can be made again: $XDG_CACHE_HOME, or the system's own."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and Path(given).is_absolute():
        return Path(given) / "pcmedge"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "pcmedge"


def make(folder: Path) -> None:
    """The folder, for this user alone. OSError if it cannot be made; PermissionError if others could write to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (problem := not_ours_alone(folder)) is not None:
        raise PermissionError(problem)


def not_ours_alone(path: Path) -> str | None:
    """Who else could put something in the place of this file or folder; None if nobody but this user and root.

    Code is loaded from there: whoever can write it, or rename a folder above it, could run anything as this user.
    """
    place = path.resolve()
    for each in (place, *place.parents):
        found = each.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{each} belongs to another user"
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX and each != place
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            return f"others may write to {each}"
    return None
