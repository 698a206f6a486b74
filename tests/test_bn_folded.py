"""Recalibration needs no batch norm: the digits network with it and with it folded away, on the same chips."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from compiler_models import float_outputs, relative_error
from pcmedge.compiler import compile
from pcmedge.drift import DriftPlan, run_study
from pcmedge.drift.result import mean_and_stderr

from benchmarks.bn_folded import compare, digits, fold_batch_norm, main

CHIPS = 6
T_99 = 3.365
"""One-sided 99 % quantile of Student's t with CHIPS - 1 degrees of freedom."""


def plan(mode: str) -> DriftPlan:
    return DriftPlan(ages_s=("1y",), chips=CHIPS, modes=(mode,), keep_correct=True)


def test_folding_leaves_the_network_as_it_was() -> None:
    subject = digits(100)
    folded = fold_batch_norm(subject.model)
    assert "BatchNormalization" not in [node.op_type for node in folded.graph.node]
    name = subject.model.graph.input[0].name
    both = [next(iter(float_outputs(model, {name: subject.inputs}).values())) for model in (subject.model, folded)]
    assert relative_error(both[1], both[0]) <= 1e-5
    image = compile(folded, calibration=subject.calibration)
    assert [entry.statistics_node for entry in image.manifest.layers[:-1]] == [
        f"{entry.name}/statistics" for entry in image.manifest.layers[:-1]
    ]
    assert not image.manifest.layers[-1].statistics_node


def test_after_a_year_the_folded_network_is_not_worse_by_a_point() -> None:
    """99 % confidence (one-sided t over chips) that paired recalibration loses less than one point by folding."""
    subject = digits()
    accuracies = []
    for model in (subject.model, fold_batch_norm(subject.model)):
        image = compile(model, calibration=subject.calibration, name=subject.name)
        study = run_study(image, subject.inputs, subject.labels, plan=plan("adabs-paired"), workers=1)
        accuracies.append(np.array([row.accuracy for row in study.rows]))
    difference = accuracies[1] - accuracies[0]
    mean, stderr = mean_and_stderr(difference.tolist())
    assert stderr is not None
    assert mean - T_99 * stderr >= -0.01
    assert accuracies[1].mean() >= 0.975


@pytest.mark.parametrize("mode", ["gdc", "adabs-paired"])
def test_with_a_scale_per_column_folding_changes_nothing(mode: str) -> None:
    """Folding multiplies columns by factors, and a column's own scale divides them out: the targets are the same."""
    (line,) = compare(digits(200), plan(mode), scaling="column")
    assert math.isclose(line.folded, line.with_batch_norm, abs_tol=0.0025)


def test_the_command_prints_its_lines_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--chips", "2", "--samples", "20", "--ages", "1d", "--json", "--work", str(tmp_path)])
    lines = json.loads(capsys.readouterr().out)
    assert [line["method"] for line in lines] == ["none", "gdc", "adabs", "adabs-paired"]
    for line in lines:
        assert line["difference"]["estimate"] == pytest.approx(line["folded"] - line["with_batch_norm"])


def test_the_command_asks_for_the_data_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--network", "resnet32"])
    assert "needs --data PATH" in capsys.readouterr().err
