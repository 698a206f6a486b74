"""Reading the arrays, pictures and factories a user names on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pcmedge.cli.arrays import read_arrays, write_arrays
from pcmedge.cli.factories import load_source
from pcmedge.data.pictures import read_picture
from pcmedge.errors import FileMissingError, InputTypeError, InputValueError


def test_npy_and_npz_come_back_as_written(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_arrays(tmp_path / "one.npy", {"y": array})
    write_arrays(tmp_path / "two.npz", {"a": array, "b": array + 1})
    one, two = read_arrays(tmp_path / "one.npy"), read_arrays(tmp_path / "two.npz")
    assert isinstance(one, np.ndarray)
    assert isinstance(two, dict)
    np.testing.assert_array_equal(one, array)
    np.testing.assert_array_equal(two["b"], array + 1)


def test_parquet_columns_take_the_shape_of_their_metadata(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    samples = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(samples.reshape(-1)), 12)
    field = arrow.field("x", column.type, metadata={b"shape": b"3,4"})
    label = arrow.field("label", arrow.int64())
    table = arrow.Table.from_arrays([column, arrow.array([7, 8])], schema=arrow.schema([field, label]))
    parquet.write_table(table, tmp_path / "data.parquet")
    found = read_arrays(tmp_path / "data.parquet")
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["x"], samples)
    np.testing.assert_array_equal(found["label"], [7, 8])


@pytest.mark.parametrize("name", ["cut.npy", "cut.npz", "cut.parquet"])
def test_a_damaged_file_is_an_input_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'" if name.endswith("npy") else b"PK\x03\x04 and no more")
    with pytest.raises(InputValueError, match=name):
        read_arrays(path)


def test_python_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputValueError, match="Python objects"):
        read_arrays(tmp_path / "objects.npy")


def test_an_unknown_ending_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2\n")
    with pytest.raises(InputTypeError, match=r"\.npz"):
        read_arrays(tmp_path / "data.csv")
    with pytest.raises(InputTypeError, match=r"\.npz"):
        write_arrays(tmp_path / "out.csv", {"y": np.zeros(2)})
    with pytest.raises(InputTypeError, match="one array, not a, b"):
        write_arrays(tmp_path / "out.npy", {"a": np.zeros(2), "b": np.zeros(2)})


@pytest.mark.parametrize(("mode", "shape"), [("L", (5, 4)), ("RGB", (5, 4, 3)), ("RGBA", (5, 4, 3)), ("1", (5, 4))])
def test_pictures_become_grey_or_colour_bytes(mode: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    from PIL import Image

    Image.new(mode, (4, 5), 1 if mode == "1" else "white").save(tmp_path / "picture.png")
    pixels = read_picture(tmp_path / "picture.png")
    assert (pixels.shape, pixels.dtype) == (shape, np.uint8)
    assert pixels.min() == 255


def test_a_broken_picture_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"no picture")
    with pytest.raises(InputValueError, match="picture"):
        read_picture(tmp_path / "picture.png")


def test_a_factory_is_called_and_a_ready_module_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import torch\nready = torch.nn.Linear(2, 3)\ndef make():\n    return torch.nn.Linear(4, 5)\n"
    source += "def name():\n    return '/some/where'\n"
    (tmp_path / "factories_of_a_test.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_source("factories_of_a_test:make").weight.shape == (5, 4)
    assert load_source("factories_of_a_test:ready").weight.shape == (3, 2)
    with pytest.raises(InputValueError, match=r"name\(\) must return a model, found str: '/some/where'"):
        load_source("factories_of_a_test:name")
    with pytest.raises(InputValueError, match="has no 'missing'"):
        load_source("factories_of_a_test:missing")


def test_a_module_that_fails_to_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more_for_a_test.py").write_text("import not_there_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputValueError, match="not_there_at_all"):
        load_source("needs_more_for_a_test:make")
    (tmp_path / "raises_in_a_test.py").write_text("def make():\n    return 1 / 0\n")
    with pytest.raises(InputValueError, match=r"raises_in_a_test:make\(\) failed: ZeroDivisionError"):
        load_source("raises_in_a_test:make")
    with pytest.raises(FileMissingError, match="no module 'nowhere_at_all'"):
        load_source("nowhere_at_all:make")
