"""Where files are written: never in the place of something that is no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from pcmedge.drift.files import write_whole
from pcmedge.errors import FileUnwritableError
from pcmedge.image.files import write_atomically


def by_rename(path: Path, data: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_whole(path, write)


@pytest.mark.parametrize("write", [write_atomically, by_rename])
def test_a_pipe_is_not_replaced(write: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileUnwritableError, match="expected a file"):
        write(pipe, b"image")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("write", [write_atomically, by_rename])
def test_behind_a_link_the_file_itself_is_written(write: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"old")
    link.symlink_to(file)
    write(link, b"new")
    assert link.is_symlink()
    assert file.read_bytes() == b"new"
