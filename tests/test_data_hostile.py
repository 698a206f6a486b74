"""Damaged and hostile data files fail with a typed error, and never run anything."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from data_files import encoded, labels, parquet, pictures, planes, python2_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from pcmedge.data import load_cifar10
from pcmedge.errors import Error, InputShapeError, InputTypeError, InputValueError

FOUND = pictures(4)
TRUTH = labels(4)
PICTURE = encoded(FOUND[0])
BATCH = python2_batch(planes(FOUND), TRUTH)


def read_batch(tmp_path: Path, data: bytes) -> Any:
    (tmp_path / "test_batch").write_bytes(data)
    return load_cifar10(tmp_path, "test")


class Runs:
    """Unpickled in the usual way, it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_wants_to_run_a_command(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "was-here"
    for bomb in (Runs(os.system, f"touch {mark}"), Runs(os.mkdir, str(mark)), Runs(eval, f"open({str(mark)!r}, 'w')")):
        with pytest.raises(InputValueError, match="test_batch"):
            read_batch(tmp_path, pickle.dumps({b"data": bomb, b"labels": TRUTH}, protocol=protocol))
        assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        b"cnumpy\nload\n", b"cnumpy\nfromfile\n", b"cos\nsystem\n", b"cbuiltins\neval\n", b"cnumpy.core\nmultiarray\n",
        b"c_codecs\ndecode\n", b"cnumpy\nndarray.__class__\n",
    ],
)  # fmt: skip
def test_names_that_do_not_belong_into_one(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(InputValueError, match="does not belong"):
        read_batch(tmp_path, b"\x80\x02" + name + b".")


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nndarray\n}(U\x08__call__K\x01ub.",  # changes a name
        b"cnumpy\nndarray\nN}(U\x06_knownU\x05dtypeu\x86b.",  # changes it by slots
        b"cnumpy\nndarray\n(K\x01tR.",  # calls one that is no function here
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00rottR.",  # another codec
        b"r\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x00.",  # a bytearray of 2^56 bytes
        b"T\xff\xff\xff\x7f.",  # a string longer than the file
        b"U\x05abcdeQ.",  # a persistent id
        b"\x82\x01.",  # an extension code
        b"(" * 50_000 + b".",
        b"]" * 50_000 + b"a" * 49_999 + b".",
        b"}.",
        b"]q\x01h\x01a.",  # a list that holds itself
        b"K\x01.",
        b"",
        b"not a pickle at all",
    ],
)
def test_programs_that_these_files_are_not(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(InputValueError, match="test_batch"):
        read_batch(tmp_path, b"\x80\x02" + program)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (python2_batch(planes(FOUND), TRUTH, shape=(5, 3072)), InputValueError),
        (python2_batch(planes(FOUND), TRUTH, shape=(-4, -3072)), InputValueError),
        (python2_batch(planes(FOUND), TRUTH, shape=(8, 1536)), InputShapeError),
        (python2_batch(planes(FOUND), TRUTH, kind=b"O8"), InputValueError),
        (python2_batch(planes(FOUND), TRUTH, kind=b"f4"), InputValueError),
        (python2_batch(planes(FOUND), TRUTH[:3], shape=(4, 3072)), InputShapeError),
        (python2_batch(planes(FOUND), [0, 1, 2, 10]), InputValueError),
        (BATCH[:-2000], InputValueError),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, True]}), InputValueError),
        (pickle.dumps({b"data": np.array([print], dtype=object), b"labels": [0]}), InputValueError),
        (pickle.dumps([1, 2]), InputValueError),
    ],
)
def test_batches_that_do_not_add_up(tmp_path: Path, data: bytes, kind: type[Error]) -> None:
    with pytest.raises(kind, match="test_batch"):
        read_batch(tmp_path, data)


def test_a_batch_larger_than_any_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "test_batch").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(InputValueError, match="larger than 64 MiB"):
        load_cifar10(tmp_path, "test")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(BATCH) - 1), st.binary(min_size=1, max_size=6))
def test_any_damage_to_a_batch_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    at %= 400 if at % 2 else len(BATCH)  # half of the damage near the beginning, where the program is
    damaged = BATCH[:at] + junk + BATCH[at + len(junk) :]
    found = None
    with contextlib.suppress(Error):  # anything else that is raised fails the test
        found = read_batch(tmp_path_factory.mktemp("batch"), damaged)
    assert found is None or found.pictures.shape == (len(found.labels), 32, 32, 3)
    assert found is None or set(found.labels.tolist()) <= set(range(10))


def giant_png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + PICTURE[33:]


@pytest.mark.parametrize(
    ("cell", "kind", "shown"),
    [
        (b"", InputValueError, "row 2"),
        (b"hello", InputValueError, "68 65 6c 6c 6f"),
        (PICTURE[: len(PICTURE) // 2], InputValueError, "row 2"),
        (encoded(FOUND[0], "BMP"), InputValueError, "not an intact PNG or JPEG"),
        (encoded(FOUND[0], "GIF"), InputValueError, "not an intact PNG or JPEG"),
        (encoded(np.zeros((16, 32, 3), np.uint8)), InputShapeError, "32 x 16"),
        (giant_png(20_000, 20_000), InputValueError, "row 2"),
        (giant_png(9_500, 9_500), InputValueError, "row 2"),
        (giant_png(1_000, 1_000), InputShapeError, "1000 x 1000"),
    ],
)
def test_cells_that_are_no_pictures(tmp_path: Path, cell: bytes, kind: type[Error], shown: str) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [PICTURE, PICTURE, cell], "label": [0, 1, 2]})
    with pytest.raises(kind, match=shown):
        load_cifar10(path)


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"picture": [PICTURE], "label": [0]}, InputTypeError),
        ({"image": [PICTURE]}, InputTypeError),
        ({"image": ["text"], "label": [0]}, InputTypeError),
        ({"image": [[1, 2]], "label": [0]}, InputTypeError),
        ({"image": [{"path": "a.png"}], "label": [0]}, InputTypeError),
        ({"image": [{"bytes": "text"}], "label": [0]}, InputTypeError),
        ({"image": [PICTURE], "label": [0.5]}, InputTypeError),
        ({"image": [PICTURE], "label": ["cat"]}, InputTypeError),
        ({"image": [PICTURE], "label": [10]}, InputValueError),
        ({"image": [PICTURE], "label": [-1]}, InputValueError),
        ({"image": [PICTURE], "label": pa.array([2**63], pa.uint64())}, InputValueError),
        ({"image": [PICTURE, None], "label": [0, 1]}, InputValueError),
        ({"image": [PICTURE, PICTURE], "label": [0, None]}, InputValueError),
        ({"image": [{"bytes": PICTURE}, None], "label": [0, 1]}, InputValueError),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int8())}, InputValueError),
    ],
)
def test_columns_that_are_not_what_they_should_be(tmp_path: Path, columns: Any, kind: type[Error]) -> None:
    with pytest.raises(kind):
        load_cifar10(parquet(tmp_path / "a.parquet", columns))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_parquet(tmp_path: Path, share: float) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [PICTURE] * 4, "label": TRUTH})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputValueError, match=r"a\.parquet is damaged or not Parquet"):
        load_cifar10(path)


def test_parquet_whose_pages_are_overwritten(tmp_path: Path) -> None:
    columns = {"image": [encoded(each) for each in FOUND], "label": TRUTH}
    path = parquet(tmp_path / "a.parquet", columns)
    data = bytearray(path.read_bytes())
    data[4:3000] = bytes(2996)
    path.write_bytes(data)
    with pytest.raises(InputValueError, match=r"a\.parquet"):
        load_cifar10(path)


def test_class_folders_with_damage(tmp_path: Path) -> None:
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(PICTURE)
    (tmp_path / "test" / "dog").mkdir()
    with pytest.raises(InputValueError, match="dog"):
        load_cifar10(tmp_path, "test")
    (tmp_path / "test" / "dog" / "1.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputValueError, match=r"1\.png is not an intact"):
        load_cifar10(tmp_path, "test")
    (tmp_path / "test" / "dog" / "1.png").write_bytes(PICTURE + bytes(2 << 20))
    with pytest.raises(InputValueError, match="larger"):
        load_cifar10(tmp_path, "test")
