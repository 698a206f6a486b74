"""A user's own pictures become the calibration buffer by one command, against a real ``pcmedge serve`` process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from cli_process import run
from data_files import encoded, labels, parquet, pictures
from PIL import Image
from service_models import LABELS, classifier


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "small.pcmi"
    classifier().save(path)
    return path


def photos(folder: Path, count: int, classes: int = 0, seed: int = 0) -> Path:
    """Grey and coloured photos of many sizes, PNG and JPEG, flat or in class folders."""
    random = np.random.default_rng(seed)
    for index in range(count):
        place = folder / LABELS[index % classes] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        shape = (int(random.integers(5, 30)), int(random.integers(5, 30)), *([3] if index % 2 else []))
        ending = "png" if index % 3 else "jpg"
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(place / f"{index:03d}.{ending}")
    return folder


def in_python(path: str, image: Path, **options: Any) -> pcmedge.ChipImage:
    """The image the library makes of the same pictures."""
    from pcmedge.compiler import with_buffer
    from pcmedge.data import picture_samples

    opened = pcmedge.ChipImage.open(image)
    found = picture_samples(path, opened.manifest.application.preprocessing, **options)
    return with_buffer(opened, found.tensors)


def test_a_folder_of_photos_replaces_the_buffer_and_recalibration_stays_paired(
    device: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "photos", 30)
    (folder / "notes.txt").write_text("not a picture")
    result = run(capsys, "buffer", "--replace", folder, "--image", image, "--samples", "20", "--seed", "5")
    assert result.code == 0, result.err
    assert "20 samples" in result.out
    assert "with digital reference statistics" in result.out
    assert "took 20 of 30 samples" in result.err
    described = run(capsys, "buffer", "--json").document
    assert (described["source"], described["samples"]) == ("application", 20)
    assert described["has_reference_statistics"] is True
    same = run(capsys, "buffer", "--replace", folder, "--image", image, "--samples", "20", "--seed", "5", "--json")
    assert (same.document["sha256"], same.err) == (described["sha256"], "")
    other = run(capsys, "buffer", "--replace", folder, "--image", image, "--samples", "20", "--seed", "6", "--json")
    assert other.document["sha256"] != described["sha256"]
    assert run(capsys, "lab", "advance", "1d").code == 0
    recalibrated = run(capsys, "recalibrate", "--method", "adabs-paired", "--force", "--json")
    assert (recalibrated.code, recalibrated.document["samples"]) == (0, 20)


def test_class_folders_are_sampled_in_their_shares(
    device: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "classes", 40, classes=4)
    result = run(capsys, "buffer", "--replace", folder, "--image", image, "--samples", "12")
    assert result.code == 0, result.err
    assert "12 of 40 samples of 4 classes" in result.err
    appended = run(capsys, "buffer", "--append", folder, "--image", image, "--samples", "8", "--seed", "1", "--json")
    assert (appended.document["samples"], appended.document["has_reference_statistics"]) == (20, True)


def test_without_the_image_the_command_says_what_is_lost(
    device: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "photos", 6)
    result = run(capsys, "buffer", "--replace", folder)
    assert result.code == 0, result.err
    assert "without digital reference statistics" in result.out
    assert "--image" in result.err
    lost = run(capsys, "buffer", "--append", folder, "--image", image, "--json")
    assert (lost.code, lost.error["reason"]) == (5, "DEVICE_STATE")


def test_arrays_with_labels_and_raw_pictures(
    device: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    raw = random.integers(0, 256, (40, 9, 7), dtype=np.uint8)
    np.savez(tmp_path / "raw.npz", x=raw, labels=np.arange(40) % 4)
    result = run(capsys, "buffer", "--replace", tmp_path / "raw.npz", "--image", image, "--samples", "8")
    assert "8 of 40 samples of 4 classes" in result.err
    np.save(tmp_path / "ready.npy", random.random((7, 1, 6, 6)))
    found = run(capsys, "buffer", "--replace", tmp_path / "ready.npy", "--image", image, "--json").document
    assert (found["samples"], found["bytes"], found["has_reference_statistics"]) == (7, 7 * 36 * 4, True)


@pytest.mark.parametrize("form", ["parquet", "parquet folder", "class folders"])
def test_cifar_forms(form: str, device: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = pictures(20), labels(20)
    if form == "class folders":
        for part in ("train", "test"):
            for index, label in enumerate(truth):
                place = tmp_path / part / f"class{label}"
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{index}.png").write_bytes(encoded(found[index]))
    else:
        parquet(tmp_path / "train.parquet", {"image": [encoded(each) for each in found], "label": truth})
    path = tmp_path / "train.parquet" if form == "parquet" else tmp_path
    result = run(capsys, "buffer", "--replace", path, "--image", image, "--samples", "10")
    assert result.code == 0, result.err
    assert "10 of 20 samples of 10 classes" in result.err


def test_statistics_of_another_network_are_refused(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pcmi"
    classifier(seed=9).save(other)
    before = run(capsys, "buffer", "--json").document
    result = run(capsys, "buffer", "--replace", photos(tmp_path / "p", 4), "--image", other, "--json")
    assert (result.code, result.error["reason"]) == (2, "INPUT_VALUE")
    assert result.error["metadata"]["argument"] == "image"
    assert run(capsys, "buffer", "--json").document == before


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("nothing there", "FILE_MISSING"),
        ("empty folder", "FILE_MISSING"),
        ("broken picture", "INPUT_VALUE"),
        ("pictures beside folders", "INPUT_VALUE"),
        ("another shape", "INPUT_SHAPE"),
        ("other names", "INPUT_INVALID"),
    ],
)
def test_places_that_hold_no_samples_are_exit_code_2(
    what: str, reason: str, device: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    if what == "empty folder":
        place.mkdir()
    elif what == "broken picture":
        place.mkdir()
        (place / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    elif what == "pictures beside folders":
        photos(photos(place, 2) / "more", 2)
    elif what == "another shape":
        place = tmp_path / "place.npy"
        np.save(place, np.zeros((3, 1, 5, 5), np.float32))
    elif what == "other names":
        place = tmp_path / "place.npz"
        np.savez(place, a=np.zeros((3, 1, 6, 6)), b=np.zeros((3, 1, 6, 6)))
    result = run(capsys, "buffer", "--replace", place, "--image", image, "--json")
    assert (result.code, result.error["reason"]) == (2, reason), result.error


def test_options_about_inputs_need_inputs(device: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "buffer", "--image", image, "--json").code == 2
    assert run(capsys, "buffer", "--samples", "3", "--json").code == 2


def test_an_image_of_an_image_holds_ones_own_pictures(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "photos", 25, classes=4)
    made = tmp_path / "mine.pcmi"
    document = run(capsys, "rebuffer", image, folder, "-o", made, "--samples", "10", "--json").document
    assert document["path"] == str(made)
    opened = pcmedge.ChipImage.open(made)
    assert opened == in_python(str(folder), image, count=10)
    assert (opened.version, opened.manifest.calibration_buffer.samples) == (2, 10)
    text = run(capsys, "rebuffer", image, folder, "-o", made, "--image-version", "9")
    assert (text.code, "25 of 25 samples of 4 classes" in text.out) == (0, True)
    assert pcmedge.ChipImage.open(made).version == 9
    assert run(capsys, "verify", made).code == 0
    refused = run(capsys, "rebuffer", made, folder, "-o", tmp_path / "older.pcmi", "--image-version", "9", "--json")
    assert (refused.code, refused.error["reason"]) == (2, "INPUT_VALUE")
    assert not (tmp_path / "older.pcmi").exists()
