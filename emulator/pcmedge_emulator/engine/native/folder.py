"""Where compiled code is kept between processes, and whether it may be loaded from there."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

CACHE = "PCMEDGE_NATIVE_CACHE"
"""The folder to keep it in. A service sets it: it writes to no other place than its store."""


def cache_folder() -> Path:
    """$PCMEDGE_NATIVE_CACHE, or one in the user's folder for what can be made again.

    That is $XDG_CACHE_HOME, or the system's own. RuntimeError without a home folder.
    """
    named, given = os.environ.get(CACHE, ""), os.environ.get("XDG_CACHE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named)
    if given and Path(given).is_absolute():
        return Path(given) / "pcmedge" / "native"
    home = Path.home()
    if not home.is_absolute():
        raise RuntimeError(f"the home folder {home} is no absolute path")
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "pcmedge" / "native"


def make(folder: Path) -> None:
    """The folder, for this user alone. OSError if it cannot be made; PermissionError if others could write to it."""
    # Asked first: root must not leave folders of its own in somebody's home.
    if (problem := not_ours_alone(folder)) is None:
        for each in (*reversed(folder.parents), folder):
            if not each.exists():
                each.mkdir(mode=0o700, exist_ok=True)
        problem = not_ours_alone(folder)
    if problem is not None:
        raise PermissionError(problem)


def not_ours_alone(path: Path) -> str | None:
    """Who else could put something in the place of this file or folder; None if nobody but this user and root.

    Code is loaded from there: whoever can write it, or rename a folder above it, could run anything as this user.
    What does not exist is left out.
    """
    place = path.resolve()
    for each in (place, *place.parents):
        try:
            found = each.stat()
        except FileNotFoundError:
            continue
        if found.st_uid not in (0, os.geteuid()):
            return f"{each} belongs to another user"
        others = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _of_one_user(found.st_gid))
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX and each != place
        if others and not sticky:
            return f"others may write to {each}"
    return None


def _of_one_user(group: int) -> bool:
    """Whether it is this user's own group, as systems give one to each user, whose umask is then often 002."""
    import grp
    import pwd

    try:
        user, found = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == user and set(found.gr_mem) <= {user}
