"""The benchmarks run from end to end, judge what they measured, and say what they could not measure. Never how fast."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from data_files import encoded, labels, parquet, pictures

from benchmarks import device, engine, precision, serving
from benchmarks.measuring.goals import Goal, judged
from benchmarks.measuring.rounds import Contender, Spread, ratio, take_turns


def taken(name: str, main: Callable[[Sequence[str]], Any], folder: Path, *words: str) -> dict[str, Any]:
    """The document that a quick run writes; random weights, no peer."""
    main(["--quick", "--weights", "random", "--output", str(folder), *words])
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert document["benchmark"] == name
    assert document["settings"]["quick"] is True
    assert document["settings"]["threads"] == 1
    assert {"processor", "flags", "cores", "versions", "commit", "load"} <= set(document["machine"])
    for goal in document["goals"]:
        # What was measured is judged, and what was not says why.
        assert goal["verdict"] in ("reached", "missed", "not measured")
        assert (goal["found"] is None) == (goal["verdict"] == "not measured") == bool(goal["why"])
    return document


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {goal["what"]: goal["why"] for goal in document["goals"]}


def test_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = taken("engine", engine.main, tmp_path, "--peers", sys.executable)
    seconds = document["seconds"]
    assert set(seconds) == {"1", "8"}
    for contenders in seconds.values():
        assert {engine.TORCH, engine.FLOAT, engine.INT8, engine.EXACT, engine.NOISY} <= set(contenders)
        assert all(len(runs) == 2 and min(runs) > 0 for runs in contenders.values())
    # The same network in a single place: every contender and every operator of the profile.
    assert {engine.FLOAT, engine.EXACT, engine.NOISY} <= set(document["profile"])
    assert document["profile"][engine.EXACT]["Conv"] > 0
    assert document["rates"]["macs_per_s"] > 0
    # This environment has no aihwkit, which is said, not hidden.
    against = [why for what, why in verdicts(document).items() if "aihwkit" in what]
    assert len(against) == 4
    assert all("aihwkit" in why or "turbo" in why for why in against)
    shown = capsys.readouterr().out
    assert "these numbers only prove that everything runs" in shown
    assert engine.NOISY in shown


def test_serving(tmp_path: Path) -> None:
    document = taken("serving", serving.main, tmp_path)
    assert set(document["seconds"]) == {
        serving.IN_PROCESS,
        serving.GRPC,
        serving.UNIX,
        serving.STREAM,
        serving.PIPELINE,
        serving.FLOOR,
        serving.STREAM_FLOOR,
    }
    assert len(document["images_per_s"][serving.ALONE]) == 2
    for used in document["memory_mib"].values():
        assert 0 < used["resident"] <= used["peak"]
    assert len(document["goals"]) == 5


def test_device(tmp_path: Path) -> None:
    document = taken("device", device.main, tmp_path, "--peers", str(tmp_path / "none"), "--workers", "1")
    contenders = {device.PROGRAM, device.PROGRAM_VERB, device.AGE, device.PLAIN, device.ADABS, device.PAIRED}
    assert set(document["seconds"]) == contenders
    assert document["settings"]["adabs_images"] == 13 * 4
    assert document["study"]["exact"] > 0
    assert document["study"]["aihwkit"] == []
    assert set(document["profile"]) == {device.PROGRAM_VERB, device.AGE, device.ADABS}
    assert any("no peers' Python" in why for why in verdicts(document).values())


def test_precision(tmp_path: Path) -> None:
    """Both arithmetics on the same chips and pictures; what is judged is the farther end of the interval."""
    parquet(tmp_path / "test.parquet", {"image": [encoded(each) for each in pictures(16)], "label": labels(16)})
    document = taken("precision", precision.main, tmp_path, "--data", str(tmp_path), "--workers", "1")
    assert document["settings"]["samples"] == 16
    for age in precision.AGES:
        found = document["difference_points"][age]
        assert found["low"] <= found["estimate"] <= found["high"]
    assert [goal["found"]["median"] for goal in document["goals"]] == [
        max(abs(found["low"]), abs(found["high"])) for found in document["difference_points"].values()
    ]


def test_contenders_take_turns_and_each_begins_as_often() -> None:
    order: list[str] = []

    def contender(name: str, seconds: float) -> Contender:
        def run() -> float:
            order.append(name)
            return seconds

        return Contender(name, run)

    found = take_turns([contender("a", 2.0), contender("b", 1.0)], rounds=2, warm_up=1)
    assert found == {"a": [2.0, 2.0], "b": [1.0, 1.0]}
    assert order == ["b", "a", "a", "b", "b", "a"]
    spread = ratio(found, "a", "b")
    assert spread is not None
    assert (spread.median, spread.low, spread.high, spread.runs) == (2.0, 2.0, 2.0, 2)
    assert ratio(found, "a", "c") is None


def test_a_goal_is_judged_by_the_median() -> None:
    at_most, at_least = Goal(what="time", limit=1.4, stretch=1.1), Goal(what="speed", limit=20, direction=">=")
    fast, slow = Spread.of([1.0, 1.05, 9.0]), Spread.of([1.3, 1.5, 1.6])
    assert (judged(at_most, fast).verdict, judged(at_most, fast).stretched) == ("reached", True)
    assert (judged(at_most, slow).verdict, judged(at_most, slow).stretched) == ("missed", False)
    assert judged(at_least, Spread.of([20.0])).verdict == "reached"
    absent = judged(at_least, None, "nobody there")
    assert (absent.verdict, absent.why) == ("not measured", "nobody there")


@pytest.mark.parametrize("words", [("--threads", "0"), ("--weights", "none.pt"), ("--rounds", "many")], ids=" ".join)
def test_a_wrong_command_line_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        engine.arguments(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err
