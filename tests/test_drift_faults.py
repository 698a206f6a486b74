"""Drift studies of chips that break in the field: what breaks when, and what repair brings back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pcmedge
import pyarrow.parquet as pq
import pytest
from cli_process import run
from hypothesis import given
from hypothesis import strategies as st
from pcmedge.demo import load_digits
from pcmedge.demo.digits import MODEL_FILE
from pcmedge.device import Fault, FaultRates
from pcmedge.drift import DriftPlan, DriftStudy, run_study
from pcmedge.drift.field_faults import FieldFaults, field_faults
from pcmedge.errors import Error, FileMissingError, InputTypeError, InputValueError
from pcmedge.image import ChipImage
from pcmedge.image.profiles import profile

DAY_S, YEAR_S = 86400.0, 365 * 86400.0
TEST = load_digits().test
SOME, LABELS = TEST.tensors[:60], TEST.labels[:60]


@pytest.fixture(scope="module")
def image() -> ChipImage:
    """The demo's network for a chip that holds it twice and a little more."""
    typical = load_digits().train.tensors[:64]
    return pcmedge.compile(str(MODEL_FILE), calibration=typical, profile=profile(tiles=14), name="digits")


# ---------------------------------------------------------------------------------------------------- what breaks when


def test_text_says_rates_per_year_at_ages_and_from_the_start() -> None:
    found = field_faults("dead-column=0.5/y, tile-lost=0.1@30d,stuck-at-reset=0.01,stuck-at-random=0.2@30d")
    assert found == FieldFaults(
        per_year=FaultRates(dead_column=0.5),
        at=((0.0, FaultRates(stuck_at_reset=0.01)), (30 * DAY_S, FaultRates(tile_lost=0.1, stuck_at_random=0.2))),
    )
    assert field_faults(str(found)) == found
    assert field_faults("none") == FieldFaults()
    assert str(FieldFaults()) == "none"


def test_a_file_says_the_same_and_names_single_faults(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    document = {
        "per_year": {"dead-column": 0.5},
        "at": {"30d": {"tile-lost": 0.1}},
        "faults": [{"kind": "tile-lost", "tile": 3, "at": "1y"}, {"kind": "dead-row", "tile": 1, "row": 4}],
    }
    path.write_text(json.dumps(document))
    assert field_faults(path) == FieldFaults(
        per_year=FaultRates(dead_column=0.5),
        at=((30 * DAY_S, FaultRates(tile_lost=0.1)),),
        listed=((0.0, Fault(kind="dead-row", tile=1, row=4)), (YEAR_S, Fault(kind="tile-lost", tile=3))),
    )


@given(st.lists(st.floats(0, 3 * YEAR_S), min_size=1, max_size=6, unique=True))
def test_everything_appears_once_whatever_the_ages(ages: list[float]) -> None:
    faults = FieldFaults(
        per_year=FaultRates(dead_column=2.0, stuck_at_reset=0.1),
        at=((0.0, FaultRates(tile_lost=0.5)), (DAY_S, FaultRates(dead_row=1.0))),
        listed=((YEAR_S, Fault(kind="tile-lost", tile=0)),),
    )
    ends = sorted(ages)
    steps = list(zip([-1.0, *ends[:-1]], ends, strict=True))
    found = [rates for step in steps for rates in faults.rates(*step)]
    assert math.isclose(sum(each.dead_column for each in found), 2.0 * ends[-1] / YEAR_S, abs_tol=1e-9)
    assert sum(each.tile_lost for each in found) == 0.5
    assert sum(each.dead_row for each in found) == float(ends[-1] >= DAY_S)
    assert sum(len(faults.faults(*step)) for step in steps) == int(ends[-1] >= YEAR_S)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("dead-column=0.5/month", InputValueError),
        ("dead-column@30d", InputValueError),
        ("dead-column=1@soon", InputValueError),
        ("rust=1/y", InputValueError),
        ("missing.json", FileMissingError),
        (3, InputTypeError),
    ],
)
def test_what_breaks_nothing_is_refused(wrong: object, error: type[Error]) -> None:
    with pytest.raises(error):
        DriftPlan(faults=wrong)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"yearly": {}},
        {"at": {"30d": 1}},
        {"at": {"soon": {}}},
        {"faults": [{"tile": 1}]},
        {"per_year": {"rust": 1}},
    ],
)
def test_a_file_of_something_else_is_refused(document: object, tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text(json.dumps(document))
    with pytest.raises(InputValueError):
        DriftPlan(faults=tmp_path / "faults.json")


# --------------------------------------------------------------------------------------------------------- the studies

LOSES_A_TILE = FieldFaults(listed=((30 * DAY_S, Fault(kind="tile-lost", tile=5)),))
PLAN = DriftPlan(ages_s=("1d", "60d", "61d"), chips=2, modes=("adabs-paired",), faults=LOSES_A_TILE, repair=True)


@pytest.fixture(scope="module")
def study(image: ChipImage) -> DriftStudy:
    return run_study(image, SOME, LABELS, plan=PLAN, workers=1)


def test_a_repaired_twin_is_measured_beside_every_chip(study: DriftStudy) -> None:
    modes = ("adabs-paired", "adabs-paired+repair")
    assert [(row.chip, row.age_s, row.mode) for row in study.rows] == [
        (chip, age_s, mode) for chip in range(2) for age_s in PLAN.ages for mode in modes
    ]
    assert len(study.rows) == PLAN.rows


def test_repair_brings_back_what_a_lost_tile_took(study: DriftStudy) -> None:
    accuracy = {(one.age_s, one.mode): one.accuracy_mean for one in study.summary()}
    for age_s in PLAN.ages:
        assert accuracy[age_s, "adabs-paired+repair"] > 0.9
        assert (accuracy[age_s, "adabs-paired"] > 0.9) == (age_s < 30 * DAY_S)
    assert study.difference("adabs-paired+repair", "adabs-paired").mean > 0.5


def test_rows_count_programmings_and_retired_tiles(study: DriftStudy, tmp_path: Path) -> None:
    counts = {(row.age_s, row.mode.endswith("+repair")): (row.programmings, row.retired_tiles) for row in study.rows}
    assert counts == {
        **{(age_s, False): (1, 0) for age_s in PLAN.ages},
        **dict(zip([(age_s, True) for age_s in PLAN.ages], [(1, 0), (2, 1), (2, 1)], strict=True)),
    }
    study.to_parquet(tmp_path / "drift.parquet")
    table = pq.read_table(tmp_path / "drift.parquet")
    assert table.column("programmings").to_pylist() == [row.programmings for row in study.rows]
    assert table.column("retired_tiles").to_pylist() == [row.retired_tiles for row in study.rows]
    plan = json.loads(table.schema.metadata[b"pcmedge.plan"])
    assert plan["faults"]["listed"][0][1]["tile"] == 5


def test_faults_are_those_of_the_seed_however_the_study_is_run(image: ChipImage) -> None:
    plan = DriftPlan(ages_s=("1d", "1y"), chips=2, modes=("none",), faults="stuck-at-random=0.1/y,dead-column=20@1d")
    broken = run_study(image, SOME, LABELS, plan=plan, workers=1)
    alone = DriftPlan(**{**plan.__dict__, "chips": 1, "first_seed": 1})
    again = run_study(image, SOME, LABELS, plan=alone, workers=1)
    assert [row.accuracy for row in again.rows] == [row.accuracy for row in broken.rows if row.chip == 1]
    healthy = run_study(image, SOME, LABELS, plan=DriftPlan(**{**plan.__dict__, "faults": None}), workers=1)
    assert [row.accuracy for row in healthy.rows] != [row.accuracy for row in broken.rows]


def test_a_chip_without_other_tiles_stays_as_it_is(image: ChipImage) -> None:
    every = FieldFaults(at=((0.0, FaultRates(tile_lost=1.0)),))
    plan = DriftPlan(ages_s=("1d",), chips=1, modes=("none",), faults=every, repair=True)
    study = run_study(image, SOME, LABELS, plan=plan, workers=1)
    broken, repaired = study.rows
    assert repaired.accuracy == broken.accuracy < 0.3
    assert repaired.retired_tiles == 12
    assert repaired.programmings == 2


def test_the_command_draws_both_twins(image: ChipImage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image.save(tmp_path / "digits.pcmi")
    np.savez(tmp_path / "digits.npz", x=SOME, labels=LABELS)
    (tmp_path / "faults.json").write_text(json.dumps({"faults": [{"kind": "tile-lost", "tile": 5, "at": "30d"}]}))
    arguments = ("drift", tmp_path / "digits.pcmi", "--data", tmp_path / "digits.npz", "--chips", "1", "--times", "60d")
    arguments += ("--modes", "adabs-paired", "--workers", "1", "--repair", "--output", tmp_path / "study")
    found = run(capsys, *arguments, "--faults", tmp_path / "faults.json")
    assert found.code == 0
    assert "adabs-paired+repair" in found.out
    assert (tmp_path / "study" / "drift.png").stat().st_size > 10_000
    refused = run(capsys, *arguments, "--faults", "rust=1/y", "--json")
    assert (refused.code, refused.error["reason"]) == (2, "INPUT_VALUE")
