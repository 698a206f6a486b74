"""The published experiment as one command: what it writes, that it goes on where it was stopped, that it repeats."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from science_lab import lab

from benchmarks.science.command import main
from benchmarks.science.results import ACCURACY, Table, read
from benchmarks.science.settings import METHODS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return lab(tmp_path_factory.mktemp("lab"))


def words(place: tuple[Path, Path], folder: Path, *more: str) -> list[str]:
    data, models = place
    given = ["--data", data, "--models", models, "--output", folder / "out", "--work", folder / "work", "--quick"]
    return [*map(str, given), *more]


@pytest.fixture(scope="module")
def everything(place: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All experiments, the table's on test pictures and chips 100 and 101."""
    folder = tmp_path_factory.mktemp("everything")
    main(words(place, folder, "--jobs", "1", "--part", "test", "--first-chip", "100"))
    return folder / "out"


def test_page_and_figures_are_made_of_every_experiment(everything: Path) -> None:
    page = (everything / "README.md").read_text()
    assert "--data PATH --part test --first-chip 100 --chips 2 --quick" in page
    assert "these numbers mean nothing" in page
    assert "missing: eta-0, eta-1.9, eta-7.6" in page
    for name in ("programming", "weights", "time", "eta", "buffer", "bits", "tiles", "sources"):
        assert f"({name}.png)" in page
        assert 5_000 < (everything / f"{name}.png").stat().st_size < 150_000
    for method in METHODS.values():
        assert f"| {method.label} |" in page
    assert str(everything) not in page


def test_the_table_judges_what_was_measured(everything: Path) -> None:
    rows = {row["quantity"]: row for row in read(everything / "table.parquet")[0]}
    assert rows["float baseline, %"]["estimate"] == 100.0
    assert rows["float baseline, %"]["verdict"] == "reached"
    for row in rows.values():
        assert row["low"] <= row["estimate"] <= row["high"]
    time_table = Table(read(everything / "time.parquet")[0])
    gaps, baseline = time_table.gap_of(mode="gdc", age_s=86400.0)
    assert baseline == 100.0
    assert rows["gap after 1 day, GDC"]["estimate"] == pytest.approx(gaps.mean(), abs=1e-4)
    assert rows["gap after 1 day, GDC"]["verdict"] == ("reached" if gaps.mean() <= 1.0 else "missed")


def test_rows_say_where_they_were_measured_and_which_pictures_were_right(everything: Path) -> None:
    assert pq.read_schema(everything / "time.parquet").remove_metadata() == ACCURACY
    for name, part, chips in (("time", "test", [100, 101]), ("sources", "held-out", [0])):
        rows, facts = read(everything / f"{name}.parquet")
        table = Table(rows)
        assert table.values("part") == [part]
        assert sorted(table.values("chip")) == chips
        assert facts["command"].startswith("python -m benchmarks.science --data PATH")
        for row in rows:
            right = np.unpackbits(np.frombuffer(row["correct"], np.uint8), count=row["samples"])
            assert right.mean() == pytest.approx(row["accuracy"])
            assert row["gap"] == pytest.approx(row["baseline"] - row["accuracy"])


def test_drift_is_seen_and_healed(everything: Path) -> None:
    found = Table(read(everything / "time.parquet")[0])
    year = {mode: found.gap_of(mode=mode, age_s=31536000.0)[0].mean() for mode in METHODS}
    assert year["none"] > year["gdc"] + 10
    assert year["none"] > year["paired"] + 10


def test_without_its_source_an_effect_is_gone(everything: Path) -> None:
    found = Table(read(everything / "sources.parquet")[0])
    factors = {row["source"]: row["median_drift_factor"] for row in found.where(mode="gdc", age_s=31536000.0).rows}
    assert factors["no drift"] == pytest.approx(1.0, abs=0.05)
    assert factors["everything on"] > 1.5


def run(place: tuple[Path, Path], folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.science", *words(place, folder, *more)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(
    place: tuple[Path, Path], everything: Path, tmp_path: Path
) -> None:
    some = ["--only", "sources", "--only", "tiles", "--part", "test", "--first-chip", "100"]
    process = run(place, tmp_path, *some, "--jobs", "2")
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "work" / "cells").glob("*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "with --resume goes on" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "sources.parquet").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "cells").iterdir()}
    assert kept

    main(words(place, tmp_path, *some, "--jobs", "1", "--resume"))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in ("sources", "tiles"):
        again, before = (folder / f"{name}.parquet" for folder in (tmp_path / "out", everything))
        assert read(again) == read(before)
        assert again.read_bytes() == before.read_bytes()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data", "nowhere"], "No CIFAR-10: nowhere does not exist"),
        (["--data", "nowhere", "--models", "nowhere"], "No CIFAR-10: nowhere does not exist"),
        (["--models", "nowhere"], "nowhere lacks float.pt or noise-aware.pt"),
        (["--only", "nothing"], "invalid choice"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    place: tuple[Path, Path], tmp_path: Path, more: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words(place, tmp_path, "--jobs", "1", *more))
    assert said in f"{ended.value}{capsys.readouterr().err}"


def test_a_page_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, said in (
        (["--report", "--output", str(tmp_path / "none")], "there are no results"),
        (["--quick", "--data", str(tmp_path)], "say where they go by --output"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(given)
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_measurements_are_not_overwritten_by_accident(place: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "work" / "cells").mkdir(parents=True)
    with pytest.raises(SystemExit, match="--resume"):
        main(words(place, tmp_path, "--jobs", "1"))
