"""Scripts written for TFLite run on a PCM device when their import is changed, and say the same."""

from __future__ import annotations

import os
import runpy
import sys
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pcmedge
import pytest
from interpreter_models import (
    COLOURS,
    PITCHES,
    codes_of,
    colours_onnx,
    colours_tflite,
    normalised,
    pictures,
    pitches_onnx,
    pitches_tflite,
    tones,
)
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples" / "tflite"
IMPORTS = {
    "label_image.py": ("from pcmedge.tflite import Interpreter", "from ai_edge_litert.interpreter import Interpreter"),
    "keyword_spotting.py": ("import pcmedge.tflite as tflite", "import ai_edge_litert.interpreter as tflite"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "colours.tflite").write_bytes(colours_tflite(batch=1))
    (folder / "pitches.tflite").write_bytes(pitches_tflite(batch=1))
    pcmedge.compile(colours_onnx(), calibration=normalised(pictures()[0]), name="colours").save(folder / "colours.pcmi")
    pcmedge.compile(pitches_onnx(), calibration=tones()[0], name="pitches").save(folder / "pitches.pcmi")
    (folder / "colours.txt").write_text("\n".join(COLOURS))
    (folder / "pitches.txt").write_text("\n".join(PITCHES))
    return folder


def run(
    script: str,
    options: Mapping[str, object],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    with_tflite: bool = False,
) -> list[str]:
    """What the script prints, as it is or with its one import changed to the runtime's."""
    path = EXAMPLES / script
    if with_tflite:
        ours, theirs = IMPORTS[script]
        text = path.read_text("utf-8")
        assert text.count(ours) == 1
        path = folder / f"tflite_{script}"
        path.write_text(text.replace(ours, theirs), "utf-8")
    words = [word for name, value in options.items() for word in (f"--{name}", os.fspath(str(value)))]
    monkeypatch.setattr(sys, "argv", [script, *words])
    capsys.readouterr()
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("colour", range(3))
def test_label_image(
    colour: int, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = models / f"{colour}.png"
    Image.fromarray(pictures()[0][colour]).resize((20, 20)).save(picture)
    options = {"image": picture, "label_file": models / "colours.txt", "num_threads": 1}
    theirs = run(
        "label_image.py", {**options, "model_file": models / "colours.tflite"}, models, monkeypatch, capsys,
        with_tflite=True,
    )  # fmt: skip
    ours = run("label_image.py", {**options, "model_file": models / "colours.pcmi"}, models, monkeypatch, capsys)
    assert len(ours) == len(theirs) == 4
    score, name = theirs[0].split(": ")
    our_score, our_name = ours[0].split(": ")
    assert our_name == name == COLOURS[colour]
    assert float(our_score) == pytest.approx(float(score), abs=0.1)


def test_label_image_compiles_a_model_with_typical_inputs(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = models / "2.png"
    Image.fromarray(pictures()[0][2]).save(picture)
    np.save(models / "typical.npy", normalised(pictures()[0]))
    options = {"image": picture, "label_file": models / "colours.txt", "model_file": models / "colours.tflite"}
    typical = {"calibration": models / "typical.npy", "cache": models / "compiled"}
    ours = run("label_image.py", {**options, **typical}, models, monkeypatch, capsys)
    assert ours[0].endswith(COLOURS[2])
    assert len(list((models / "compiled").glob("*.pcmi"))) == 1


@pytest.mark.parametrize("pitch", range(3))
def test_keyword_spotting(
    pitch: int, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = np.arange(8192) / 16000
    samples = 0.4 * np.sin(2 * np.pi * (900, 4000, 7000)[pitch] * seconds)
    recording = models / f"{pitch}.wav"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    options = {"wav": recording, "label_file": models / "pitches.txt"}
    theirs = run(
        "keyword_spotting.py", {**options, "model_file": models / "pitches.tflite"}, models, monkeypatch, capsys,
        with_tflite=True,
    )  # fmt: skip
    ours = run("keyword_spotting.py", {**options, "model_file": models / "pitches.pcmi"}, models, monkeypatch, capsys)
    (name, score), (our_name, our_score) = theirs[0].split(), ours[0].split()
    assert our_name == name == PITCHES[pitch]
    assert float(our_score) == pytest.approx(float(score), abs=0.15)


def test_a_script_takes_the_device_of_the_environment(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The digital device runs the very file, so the script prints what it prints with TFLite."""
    picture = models / "picture.png"
    Image.fromarray(pictures()[0][1]).save(picture)
    options = {"image": picture, "label_file": models / "colours.txt", "model_file": models / "colours.tflite"}
    theirs = run("label_image.py", options, models, monkeypatch, capsys, with_tflite=True)
    monkeypatch.setenv("PCMEDGE_DEVICE", f"digital://{models / 'colours.tflite'}")
    ours = run("label_image.py", options, models, monkeypatch, capsys)
    assert ours[:3] == theirs[:3]


def test_the_codes_of_the_two_models_are_the_same(models: Path) -> None:
    with pcmedge.DigitalDevice(models / "pitches.tflite") as digital:
        spec = digital.manifest().model
    image = pcmedge.ChipImage.open(models / "pitches.pcmi").manifest.model
    assert spec.inputs[0].quantization == image.inputs[0].quantization
    assert spec.outputs[0].quantization == image.outputs[0].quantization
    assert codes_of(tones()[0]).dtype == np.int8
