"""``pcmedge benchmark`` and ``pcmedge profile``: that they measure what they say, never how fast it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pcmedge
import pytest
from cli_models import Sources, write_sources
from cli_process import run
from pcmedge.device import benchmark
from pcmedge.errors import InputShapeError, InputValueError
from pcmedge.profiling import profile


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def image(sources: Sources) -> Path:
    target = sources.folder / "small.pcmi"
    pcmedge.compile(sources.model, calibration=np.load(sources.data), name="small").save(target)
    return target


def test_benchmark_asks_a_device_as_often_as_it_says(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = run(capsys, "telemetry", "--json").document["models"][0]["inferences"]
    result = run(capsys, "benchmark", "--batch", "1,3", "--calls", "4", "--warmup", "2", "--json")
    assert (result.code, result.err) == (0, "")
    found = result.document
    assert (found["model"], found["device"], found["warmup"], found["streamed"]) == ("small", device, 2, False)
    assert [(each["batch"], each["calls"]) for each in found["batches"]] == [(1, 4), (3, 4)]
    for each in found["batches"]:
        assert 0 < each["min_s"] <= each["p50_s"] <= each["p90_s"] <= each["p99_s"] <= each["max_s"]
        assert each["samples_per_s"] == pytest.approx(each["batch"] / each["mean_s"])
    assert found["best_batch"] in (1, 3)
    after = run(capsys, "telemetry", "--json").document["models"][0]["inferences"]
    assert after - before == (2 + 4) * (1 + 3)


def test_benchmark_streams(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "benchmark", "--stream", "--batch", "2", "--calls", "3", "--warmup", "0", "--json")
    assert result.code == 0
    assert result.document["streamed"] is True
    assert [each["calls"] for each in result.document["batches"]] == [3]


def test_benchmark_emulates_an_image_here(
    sources: Sources, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "speed.png"
    words = ("--batch", "2", "--calls", "2", "--warmup", "0", "--input", sources.data, "--plot", picture)
    result = run(capsys, "benchmark", image, *words)
    assert (result.code, result.err) == (0, "")
    for expected in ("small on emulator", "p99 ms", "samples/s", "speed.png"):
        assert expected in result.out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "words",
    [
        ("--batch", "0"),
        ("--batch", "many"),
        ("--batch", ","),
        ("--input", "none.npy"),
        ("--plot", "speed.txt"),
    ],
    ids=" ".join,
)
def test_a_wrong_benchmark_is_refused(words: tuple[str, ...], image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "benchmark", image, *words, "--json")
    assert result.code == 2
    assert result.error["message"]


def test_benchmark_without_a_device_says_how_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "benchmark", "--json")
    assert result.code == 2
    assert "--device" in result.error["message"]


def test_wrong_arguments_are_named(image: Path) -> None:
    with pcmedge.Emulator(image, clock="manual") as emulator:
        with pytest.raises(InputValueError, match="calls"):
            benchmark(emulator, calls=0)
        with pytest.raises(InputShapeError):
            benchmark(emulator, np.zeros((1, 2, 2), np.float32), calls=1)


def test_profile_has_every_layer_once(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "profile", image, "--batch", "40", "--runs", "3", "--json")
    assert (result.code, result.err) == (0, "")
    found, manifest = result.document, pcmedge.ChipImage.open(image).manifest
    assert [layer["layer"] for layer in found["layers"]] == [layer.name for layer in manifest.layers]
    assert found["energy_j"] == pytest.approx(sum(layer["energy_j"] for layer in found["layers"]))
    assert found["latency_s"] == pytest.approx(sum(layer["latency_s"] for layer in found["layers"]))
    assert found["mvms"] == sum(layer["mvms"] for layer in found["layers"]) == 36 + 1
    parts = [*found["layers"], *found["digital"]]
    assert sum(each["share"] for each in parts) == pytest.approx(1)
    assert sum(each["time_s"] for each in parts) == pytest.approx(found["profiled_s"])
    assert all(0 < layer["product_s"] < layer["time_s"] for layer in found["layers"])
    assert "Relu" in {each["operator"] for each in found["digital"]}
    assert all(0 <= layer["saturation"] <= 1 for layer in found["layers"])


def test_profile_draws_a_table(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    picture = tmp_path / "layers.svg"
    result = run(capsys, "profile", image, "--runs", "1", "--read-noise", "off", "--age", "1y", "--plot", picture)
    assert (result.code, result.err) == (0, "")
    for expected in ("small:", "age 1y", "classifier", "digital: Relu", "energy", "full", "layers.svg"):
        assert expected in result.out
    assert "<svg" in picture.read_text(encoding="utf-8")


def test_a_converter_driven_beyond_its_range_is_full(sources: Sources, image: Path) -> None:
    usual = profile(image, np.load(sources.data), batch=48, runs=1, physics="ideal")
    driven = profile(image, 50 * np.load(sources.data), batch=48, runs=1, physics="ideal")
    assert max(layer.saturation for layer in usual.layers) < 0.01
    assert max(layer.saturation for layer in driven.layers) > 0.05


@pytest.mark.parametrize("words", [("--age", "soon"), ("--physics", "magic"), ("--plot", "x.txt")], ids=" ".join)
def test_a_wrong_profile_is_refused(words: tuple[str, ...], image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "profile", image, *words, "--json")
    assert result.code == 2
    assert result.error["message"]
