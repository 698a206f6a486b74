"""``pcmedge check``, ``pcmedge expect``, and ``pcmedge compile --check --report``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pcmedge
import pytest
from cli_models import Sources, write_sources
from cli_process import run


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def image(sources: Sources) -> Path:
    target = sources.folder / "small.pcmi"
    pcmedge.compile(sources.model, calibration=np.load(sources.data)).save(target)
    return target


def test_check_measures_and_draws(
    sources: Sources, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "layers.png"
    chosen = ("check", image, "-i", sources.data, "--model", sources.model, "--samples", "20", "--plot", picture)
    result = run(capsys, *chosen, "--json")
    assert (result.code, result.err) == (0, "")
    found = result.document
    assert (found["reference"], found["samples"], found["suspect"], found["physics"]) == ("model", 20, "", "pcm-90nm")
    assert [layer["layer"] for layer in found["layers"]] == ["conv", "classifier"]
    assert found["layers"][0]["effects_off"]["alone"] < 1e-4 < found["layers"][0]["device"]["alone"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    drawn = run(capsys, *chosen)
    for expected in ("conv", "classifier", "the model as given", "seed 0", "█", "the image computes the model"):
        assert expected in drawn.out


def test_expect_says_accuracy_or_agreement(sources: Sources, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = ("--chips", "2", "--times", "1d")
    found = run(capsys, "expect", image, "--data", sources.labelled, *usual, "--json").document
    assert (found["measure"], found["seeds"], len(found["moments"])) == ("accuracy", [0, 1], 2)
    assert found["recommends_training"] == (found["drop"] > found["threshold"])
    drawn = run(capsys, "expect", image, "--input", sources.data, *usual)
    assert drawn.code == 0
    for expected in ("agreement", "pcm-90nm", "seeds 0, 1", "fresh", "1d", "noise"):
        assert expected in drawn.out


def test_compile_checks_and_reports(sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "made.pcmi"
    better = ("--scaling", "auto", "--clip-sigma", "search", "--expected-noise", "0.05", "--bias-correction")
    made = ("compile", sources.model, "-c", sources.data, "-o", target, *better, "--check", "--report", "--chips", "1")
    result = run(capsys, *made, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.document["check"]["reference"] == "model"
    assert result.document["check"]["altered"]
    assert result.document["report"]["measure"] == "agreement"
    assert pcmedge.ChipImage.open(target).sha256.hex() == result.document["check"]["image_sha256"]
    drawn = run(capsys, *made, "--data", sources.labelled)
    for expected in ("written to", "clipping and rounding", "digital ", "accuracy"):
        assert expected in drawn.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("expect", "IMAGE"), "either --data"),
        (("expect", "IMAGE", "--data", "DATA", "--input", "DATA"), "either --data"),
        (("check", "IMAGE", "-i", "DATA", "--plot", "layers.txt"), "ending"),
        (("check", "IMAGE", "-i", "DATA", "--physics", "no-such"), "no-such"),
        (("compile", "MODEL", "-c", "DATA", "--plot", "a.png"), "--check"),
        (("compile", "MODEL", "-c", "DATA", "--data", "DATA"), "--report"),
        (("compile", "MODEL", "-c", "DATA", "--clip-sigma", "some"), "standard deviations"),
        (("compile", "MODEL", "-c", "DATA", "--expected-noise", "much"), "g_max"),
    ],
)
def test_wrong_command_lines_are_refused(
    arguments: tuple[str, ...], expected: str, sources: Sources, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"IMAGE": image, "DATA": sources.data, "MODEL": sources.model}
    result = run(capsys, *(named.get(each, each) for each in arguments))
    assert result.code == 2
    assert expected in result.err
