"""CIFAR-10 is read the same from every form it comes in; splits and constants are what they say."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import class_folders, encoded, labels, parquet, pictures, planes, python2_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from pcmedge.data import (
    CIFAR10_CLASSES,
    CIFAR10_MEAN,
    CIFAR10_STD,
    load_cifar10,
    normalise,
    stratified_split,
)
from pcmedge.errors import (
    FileMissingError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    MissingExtraError,
)

FOUND = pictures(20)
TRUTH = labels(20)


def python_batches(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in range(5):
        part = slice(4 * number, 4 * number + 4)
        (folder / f"data_batch_{number + 1}").write_bytes(python2_batch(planes(FOUND[part]), TRUTH[part]))
    (folder / "test_batch").write_bytes(python2_batch(planes(FOUND[:3]), TRUTH[:3]))
    return folder


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_python_batches(tmp_path: Path, inner: str) -> None:
    python_batches(tmp_path / "data" / inner)
    seen: list[tuple[int, int]] = []
    train = load_cifar10(tmp_path / "data", "train", progress=lambda done, total: seen.append((done, total)))
    assert train.pictures.dtype == np.uint8
    np.testing.assert_array_equal(train.pictures, FOUND)
    assert train.labels.tolist() == TRUTH
    assert train.classes == CIFAR10_CLASSES
    assert seen == [(4, 20), (8, 20), (12, 20), (16, 20), (20, 20)]
    test = load_cifar10(tmp_path / "data", "test")
    np.testing.assert_array_equal(test.pictures, FOUND[:3])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(("key", "writable"), [(b"data", False), ("data", False), (b"data", True)])
def test_python_batches_that_were_saved_again(tmp_path: Path, protocol: int, key: bytes | str, writable: bool) -> None:
    rows = np.frombuffer(planes(FOUND), dtype=np.uint8).reshape(20, 3072)
    rows = rows.copy() if writable else rows  # protocol 5 writes these as a bytearray
    truth_key = "labels" if isinstance(key, str) else b"labels"
    (tmp_path / "test_batch").write_bytes(pickle.dumps({key: rows, truth_key: TRUTH}, protocol=protocol))
    found = load_cifar10(tmp_path, "test")
    np.testing.assert_array_equal(found.pictures, FOUND)
    assert found.labels.tolist() == TRUTH


def test_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", FOUND, TRUTH, list(CIFAR10_CLASSES))
    found = load_cifar10(tmp_path, "train")
    order = np.argsort(TRUTH, kind="stable")
    np.testing.assert_array_equal(found.pictures, FOUND[order])
    assert found.labels.tolist() == sorted(TRUTH)
    assert found.classes == CIFAR10_CLASSES
    alone = load_cifar10(tmp_path / "train")
    np.testing.assert_array_equal(alone.pictures, found.pictures)


def test_class_folders_of_jpeg_and_of_grey_pictures(tmp_path: Path) -> None:
    smooth = np.broadcast_to(np.arange(0, 256, 8, dtype=np.uint8)[:, None, None], (2, 32, 32, 3))
    class_folders(tmp_path / "test", smooth, [0, 1], ["a", "b"], ending="jpeg")
    (tmp_path / "test" / "b" / "grey.PNG").write_bytes(encoded(smooth[0, :, :, 0]))
    found = load_cifar10(tmp_path, "test")
    assert found.classes == ("a", "b")
    assert found.labels.tolist() == [0, 1, 1]
    assert np.abs(found.pictures.astype(int) - smooth[0].astype(int)).max() <= 4
    np.testing.assert_array_equal(found.pictures[2], smooth[0])


@pytest.mark.parametrize("form", ["bytes", "struct"])
@pytest.mark.parametrize("names", [("image", "label"), ("img", "labels")])
def test_parquet(tmp_path: Path, form: str, names: tuple[str, str]) -> None:
    cells: list[object] = [encoded(each) for each in FOUND]
    if form == "struct":
        cells = [{"bytes": each, "path": "somewhere.png"} for each in cells]
    parquet(tmp_path / "train.parquet", {names[0]: cells, names[1]: TRUTH, "source": ["x"] * 20})
    seen: list[tuple[int, int]] = []
    found = load_cifar10(tmp_path, "train", progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(found.pictures, FOUND)
    assert found.labels.tolist() == TRUTH
    assert found.labels.dtype == np.int64
    assert found.classes == CIFAR10_CLASSES
    assert seen == [(20, 20)]
    np.testing.assert_array_equal(load_cifar10(tmp_path / "train.parquet").pictures, FOUND)


def test_parquet_in_several_files(tmp_path: Path) -> None:
    for number, part in enumerate((slice(0, 12), slice(12, 20))):
        columns = {"image": [encoded(each) for each in FOUND[part]], "label": TRUTH[part]}
        parquet(tmp_path / f"train-0000{number}-of-00002.parquet", columns)
    np.testing.assert_array_equal(load_cifar10(tmp_path, "train").pictures, FOUND)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"classes": "cat, dog"}, ("cat", "dog")),
        ({"huggingface": json.dumps({"info": {"features": {"label": {"names": ["x", "y"]}}}})}, ("x", "y")),
        ({"huggingface": '{"info": 3}'}, CIFAR10_CLASSES),
        ({"huggingface": "{"}, CIFAR10_CLASSES),
    ],
)
def test_class_names_of_parquet(tmp_path: Path, metadata: dict[str, str], expected: tuple[str, ...]) -> None:
    columns = {"image": [encoded(each) for each in FOUND[:2]], "label": [0, 1]}
    assert load_cifar10(parquet(tmp_path / "a.parquet", columns, metadata)).classes == expected


def test_some_of_the_pictures(tmp_path: Path) -> None:
    found = load_cifar10(python_batches(tmp_path / "data"), "train")
    part = found[np.array([3, 1])]
    assert len(part) == 2
    assert part.labels.tolist() == [3, 1]
    np.testing.assert_array_equal(part.pictures[0], FOUND[3])
    assert len(found[:5]) == 5
    with pytest.raises(InputTypeError):
        found[3]  # type: ignore[index]


def test_where_nothing_is_the_message_says_what_to_put_there(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing", tmp_path / "notes.txt"):
        if place.suffix:
            place.write_text("hello")
        with pytest.raises(FileMissingError, match=r"(?s)data_batch_1.*train/<class>.*train\.parquet") as told:
            load_cifar10(place, None if place.suffix else "train")
        assert str(place) in told.value.message


def test_half_a_set_of_batches_is_not_taken_for_all(tmp_path: Path) -> None:
    folder = python_batches(tmp_path / "data")
    (folder / "data_batch_3").unlink()
    with pytest.raises(FileMissingError, match="data_batch_3"):
        load_cifar10(folder, "train")


def test_a_folder_of_both_parts_needs_a_choice(tmp_path: Path) -> None:
    folder = python_batches(tmp_path / "data")
    with pytest.raises(InputValueError, match="choose"):
        load_cifar10(folder)
    with pytest.raises(InputValueError, match="valid"):
        load_cifar10(folder, "valid")  # type: ignore[arg-type]
    path = parquet(tmp_path / "train.parquet", {"image": [encoded(FOUND[0])], "label": [0]})
    with pytest.raises(InputValueError, match="one file"):
        load_cifar10(path, "test")


@pytest.mark.parametrize("missing", ["pyarrow", "PIL"])
def test_without_the_extra(tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "train.parquet", {"image": [encoded(FOUND[0])], "label": [0]})
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pcmedge\[data\]'"):
        load_cifar10(path)


def test_importing_needs_numpy_only() -> None:
    code = "import sys, pcmedge.data; print([m for m in ('PIL', 'pyarrow', 'torch', 'onnx') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_normalising() -> None:
    found = normalise(FOUND[:2])
    assert found.shape == (2, 3, 32, 32)
    assert found.dtype == np.float32
    expected = (FOUND[1, 5, 7] / 255 - CIFAR10_MEAN) / CIFAR10_STD
    np.testing.assert_allclose(found[1, :, 5, 7], expected, rtol=1e-5)
    np.testing.assert_allclose(normalise(FOUND[:2], (0, 0, 0), (1, 1, 1))[0, 2], FOUND[0, :, :, 2] / 255, rtol=1e-6)
    with pytest.raises(InputTypeError):
        normalise(FOUND.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputShapeError):
        normalise(FOUND[0])
    with pytest.raises(InputShapeError):
        normalise(FOUND, mean=0.5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.data(), st.integers(0, 5))
def test_a_split_keeps_the_share_of_every_class(truth: list[int], data: st.DataObject, seed: int) -> None:
    held_out = data.draw(st.integers(0, len(truth)))
    kept, out = stratified_split(truth, held_out, seed=seed)
    assert len(out) == held_out
    assert sorted([*kept.tolist(), *out.tolist()]) == list(range(len(truth)))
    for label in set(truth):
        share = truth.count(label) * held_out / len(truth)
        assert abs([truth[index] for index in out].count(label) - share) < 1
    again = stratified_split(np.array(truth, dtype=np.int8), held_out, seed=seed)
    np.testing.assert_array_equal(again[1], out)


def test_a_split_is_the_same_everywhere() -> None:
    pinned = [10, 16, 25, 28, 29, 31, 38, 39]
    assert stratified_split(labels(40, 4), 8)[1].tolist() == pinned
    assert stratified_split(labels(40, 4), 8, seed=1)[1].tolist() != pinned


@pytest.mark.parametrize(
    ("truth", "held_out", "kind"),
    [
        ([0, 1], 3, InputValueError),
        ([0, 1], -1, InputValueError),
        ([0, 1], 0.5, InputTypeError),
        ([0.5], 1, InputTypeError),
    ],
)
def test_a_split_that_cannot_be(truth: list[float], held_out: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        stratified_split(truth, held_out)
