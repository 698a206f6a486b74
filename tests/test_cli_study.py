"""``pcmedge drift`` and ``pcmedge demo``."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pyarrow.parquet as parquet
import pytest
from cli_models import LABELS, Sources, write_sources
from cli_process import killed_in_the_end, run, run_process, start, wait_for


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def image(sources: Sources) -> Path:
    target = sources.folder / "small.pcmi"
    pcmedge.compile(sources.model, calibration=np.load(sources.data)).save(target)
    return target


def study(sources: Sources, image: Path, output: Path, *more: str) -> tuple[str | Path, ...]:
    return ("drift", image, "--data", sources.labelled, "--times", "1h,25s", "--output", output, *more)


def test_drift_measures_every_chip_age_and_mode(
    sources: Sources, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("--chips", "2", "--modes", "none,gdc", "--workers", "1", "--json")
    result = run(capsys, *study(sources, image, tmp_path / "out", *chosen))
    assert (result.code, result.err) == (0, "")
    rows = result.document["rows"]
    assert [(row["age_s"], row["mode"]) for row in rows] == [(25, "none"), (25, "gdc"), (3600, "none"), (3600, "gdc")]
    assert all(row["chips"] == 2 and 0 <= row["accuracy_mean"] <= 1 for row in rows)
    table = parquet.read_table(result.document["files"]["parquet"])
    assert table.num_rows == 2 * 2 * 2
    assert Path(result.document["files"]["png"]).read_bytes().startswith(b"\x89PNG")


def test_drift_draws_a_table(
    sources: Sources, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(capsys, "drift", image, "--data", sources.labelled, "--times", "1d", "--chips", "1", "--workers", "1")
    assert result.code == 0
    for expected in ("1d", "none", "gdc", "adabs-paired", "digital baseline", "small-net-drift/drift.parquet"):
        assert expected in result.out
    assert (tmp_path / "small-net-drift" / "drift.png").is_file()


@pytest.fixture(scope="module")
def picture_image(sources: Sources) -> Path:
    target = sources.folder / "pictures.pcmi"
    picture = json.loads(sources.preprocessing.read_text())
    pcmedge.compile(sources.model, calibration=np.load(sources.data), labels=LABELS, preprocessing=picture).save(target)
    return target


def write_pictures(folder: Path, pictures: np.ndarray, names: Sequence[str]) -> None:
    from PIL import Image

    for number, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / name / f"{number:03}.png")


def test_drift_reads_pictures_as_it_reads_arrays(
    sources: Sources, picture_image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = np.random.default_rng(3).integers(0, 256, (24, 6, 6), dtype=np.uint8)
    labels = np.arange(24) % len(LABELS)
    # Alphabetical folders are another order than the image's labels.
    write_pictures(tmp_path / "place" / "test", pictures, [LABELS[label] for label in labels])
    write_pictures(tmp_path / "place" / "train", 255 - pictures, [LABELS[label] for label in labels])
    np.savez(tmp_path / "arrays.npz", x=(pictures / np.float32(255)).astype(np.float32)[:, None], labels=labels)
    usual = ("--times", "1d", "--chips", "1", "--modes", "gdc", "--workers", "1", "--json")

    def measured(data: Path, *more: str) -> dict[str, Any]:
        result = run(capsys, "drift", picture_image, "--data", data, "--output", tmp_path / "out", *usual, *more)
        assert (result.code, result.err) == (0, "")
        return {name: result.document[name] for name in ("digital_accuracy", "rows")}

    expected = measured(tmp_path / "arrays.npz")
    assert measured(tmp_path / "place")["digital_accuracy"] == expected["digital_accuracy"]
    assert measured(tmp_path / "place" / "test")["digital_accuracy"] == expected["digital_accuracy"]
    assert measured(tmp_path / "place", "--part", "train") != measured(tmp_path / "place")
    assert measured(tmp_path / "place", "--samples", "8")["digital_accuracy"] * 8 % 1 == 0


def test_drift_refuses_pictures_of_other_or_no_classes(
    sources: Sources, picture_image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = np.zeros((4, 6, 6), np.uint8)
    write_pictures(tmp_path / "others", pictures, ["zero", "one", "nine", "nine"])
    write_pictures(tmp_path, pictures, ["flat"] * 4)
    for folder, expected in (("others", "found nine"), ("flat", "a folder per class")):
        result = run(capsys, "drift", picture_image, "--data", tmp_path / folder, "--output", tmp_path / "out")
        assert result.code == 2
        assert expected in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--modes", "magic"), 2),
        (("--times", "soon"), 2),
        (("--label-name", "unheard-of"), 2),
        (("--physics", "no-such-physics", "--workers", "1"), 2),
        (("--output", __file__), 8),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_study_leaves_nothing_behind(
    more: tuple[str, ...],
    code: int,
    sources: Sources,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = run(capsys, *study(sources, image, tmp_path / "out", *more, "--json"))
    assert result.code == code
    assert result.error["message"]
    assert not (tmp_path / "out").exists()


def test_data_without_labels_names_what_is_there(
    sources: Sources, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "odd.npz", pictures=np.zeros((3, 1, 6, 6), np.float32), truth=np.zeros(3, np.int64))
    result = run(capsys, "drift", image, "--data", tmp_path / "odd.npz", "--json")
    assert result.code == 2
    assert "pictures, truth" in result.error["message"]


def test_ctrl_c_during_a_study_leaves_nothing_behind(sources: Sources, image: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = study(sources, image, output, "--chips", "500", "--workers", "2", "--json")
    with start(*command) as process:
        while not output.exists():
            assert process.poll() is None
        # As a terminal does it: to the whole process group, the workers too.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["error"]["reason"] == "CANCELLED"
    assert err == ""
    assert not output.exists()


def test_a_study_goes_on_where_ctrl_c_stopped_it(
    sources: Sources, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    with start(*study(sources, image, output, "--chips", "500", "--workers", "1")) as process:
        while not list(output.glob("measured/chip-*.json")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = len(list(output.glob("measured/chip-*.json")))
    assert kept >= 1
    assert f"{kept} measured chip" in err
    assert "--resume" in err

    few = study(sources, image, output, "--chips", str(kept + 1), "--workers", "1", "--json")
    resumed = run(capsys, *few, "--resume")
    assert resumed.code == 0
    assert sorted(each.name for each in output.iterdir()) == ["drift.parquet", "drift.png"]
    whole = (output / "drift.parquet").read_bytes()
    assert run(capsys, *few).code == 0
    assert (output / "drift.parquet").read_bytes() == whole


IMPORTS_THAT_MISTAKE_CTRL_C = """
import os, signal, sys, time

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            except KeyboardInterrupt:
                {answer}

sys.meta_path.insert(0, Finder())
from pcmedge.cli.main import main
main()
"""


@pytest.mark.parametrize("answer", ['raise ImportError("failed to import") from None', "pass"], ids=["misread", "lost"])
def test_ctrl_c_while_a_package_is_imported_ends_the_command(
    answer: str, sources: Sources, image: Path, tmp_path: Path
) -> None:
    entry = (sys.executable, "-c", IMPORTS_THAT_MISTAKE_CTRL_C.format(answer=answer))
    result = run_process(*study(sources, image, tmp_path / "out", "--chips", "500", "--json"), entry=entry)
    assert (result.code, result.err) == (130, "")
    assert result.error["reason"] == "CANCELLED"
    assert not (tmp_path / "out").exists()


def test_ctrl_c_in_generated_code_ends_python_m_with_the_code_too(
    sources: Sources, image: Path, tmp_path: Path
) -> None:
    """As when the methods of a dataclass are being made."""
    answer = "exec('raise KeyboardInterrupt')"
    (tmp_path / "interrupted.py").write_text(IMPORTS_THAT_MISTAKE_CTRL_C.format(answer=answer))
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    entry = (sys.executable, "-m", "interrupted")
    command = study(sources, image, tmp_path / "out", "--chips", "500", "--json")
    result = run_process(*command, entry=entry, PYTHONPATH=paths)
    assert (result.code, result.err) == (130, "")
    assert result.error["reason"] == "CANCELLED"


LOSING = """
import os, signal, time, weakref
from pcmedge.cli.interrupts import remembered

class Held:
    pass

def lose(reference):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

try:
    with remembered():
        held = Held()
        reference = weakref.ref(held, lose)
        del held
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_lost_in_a_callback_is_raised_again_without_a_report() -> None:
    found = run_process(entry=(sys.executable, "-c", LOSING))
    assert (found.code, found.out.split(), found.err) == (0, ["interrupted"], "")


CLEANING_UP = """
import os, signal, time
from pcmedge.cli.interrupts import remembered
try:
    with remembered():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        finally:
            time.sleep(1)
            print("tidy")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_once_does_not_disturb_what_tidies_up_after_it() -> None:
    found = run_process(entry=(sys.executable, "-c", CLEANING_UP))
    assert (found.code, found.out.split(), found.err) == (0, ["tidy", "interrupted"], "")


def test_demo_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "demo", "--chips", "1", "--times", "25s,1d", "--output", tmp_path / "demo", "--json")
    assert (result.code, result.err) == (0, "")
    document = result.document
    assert {"age_s", "mode", "accuracy_mean", "accuracy_stderr", "chips"} <= set(document["rows"][0])
    assert {row["age_s"] for row in document["rows"]} == {25.0, 86400.0}
    assert document["requests_served"] > 0
    assert document["requests_failed"] == 0
    assert all(Path(path).is_file() for path in document["files"].values())


def test_ctrl_c_during_the_demo_leaves_nothing_running(tmp_path: Path) -> None:
    with start("demo", "--chips", "1", "--output", tmp_path / "demo") as process:
        assert process.stderr is not None
        with killed_in_the_end(process):
            assert any("programming" in line for line in process.stderr)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert not list((tmp_path / "demo").glob("*"))
    wait_for(lambda: not anybody_in(process.pid))


def anybody_in(group: int) -> bool:
    """Whether a process of this group is there, or has ended and waits for its parent to hear of it."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
