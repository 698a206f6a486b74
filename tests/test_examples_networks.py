"""The networks of examples/networks: their parameters, their place on the chip, their answers.

Tile counts are worked out by hand from the rules of docs/compiler.md, for tiles of 512 x 512. A row tile holds 512
inputs: 56 channels of a 3 x 3 kernel, 2 of a 16 x 16 one. A column tile holds 512 outputs. 56 channels of a 3 x 3
depthwise convolution share a tile. They do not depend on the size of the pictures, so small ones do here.
"""

from __future__ import annotations

import importlib
import json
import sys
import wave
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pcmedge
import pytest
import torch
from compiler_models import float_outputs, relative_error
from pcmedge.image import ChipImage
from torch import nn

FOLDER = Path(__file__).parent.parent / "examples" / "networks"
NAMES = ("ds-cnn", "mobilenet-v2", "vit-tiny", "lstm-lm", "resnet34")
# Size of an input here (pixels along a side, frames, words).
SIZES = {"ds-cnn": 49, "mobilenet-v2": 64, "vit-tiny": 48, "lstm-lm": 4, "resnet34": 64}


def resnet34() -> dict[str, int]:
    tiles = {"conv1": 1, "fc": 2}  # 3 x 7 x 7 = 147 rows; 512 rows x (512 + 488) columns
    for block in range(3):  # 64 channels: 56 + 8
        tiles |= {f"layer1.{block}.conv1": 2, f"layer1.{block}.conv2": 2}
    tiles |= {"layer2.0.conv1": 2, "layer2.0.downsample.0": 1, "layer2.0.conv2": 3}
    for block in range(1, 4):  # 128 channels: 56 + 56 + 16
        tiles |= {f"layer2.{block}.conv1": 3, f"layer2.{block}.conv2": 3}
    tiles |= {"layer3.0.conv1": 3, "layer3.0.downsample.0": 1, "layer3.0.conv2": 5}
    for block in range(1, 6):  # 256 channels: 4 x 56 + 32
        tiles |= {f"layer3.{block}.conv1": 5, f"layer3.{block}.conv2": 5}
    tiles |= {"layer4.0.conv1": 5, "layer4.0.downsample.0": 1, "layer4.0.conv2": 10}
    for block in range(1, 3):  # 512 channels: 9 x 56 + 8; the projection has 256 rows, its 512 columns fit
        tiles |= {f"layer4.{block}.conv1": 10, f"layer4.{block}.conv2": 10}
    return tiles


def mobilenet_v2() -> dict[str, int]:
    # Stem 27 x 32. Block 1 has no expansion. Then per block: up, depthwise, down.
    tiles = {"features.0.0": 1, "features.1.conv.0.0": 1, "features.1.conv.1": 1}
    by_hand = {
        2: (1, 2, 1),  # 16 -> 96 -> 24; 96 = 56 + 40
        3: (1, 3, 1),  # 24 -> 144 -> 24; 144 = 2 x 56 + 32
        4: (1, 3, 1),  # 24 -> 144 -> 32
        5: (1, 4, 1),  # 32 -> 192 -> 32; 192 = 3 x 56 + 24
        6: (1, 4, 1),
        7: (1, 4, 1),  # 32 -> 192 -> 64
        8: (1, 7, 1),  # 64 -> 384 -> 64; 384 = 6 x 56 + 48
        9: (1, 7, 1),
        10: (1, 7, 1),
        11: (1, 7, 1),  # 64 -> 384 -> 96
        12: (2, 11, 2),  # 96 -> 576 -> 96; 576 = 512 + 64 = 10 x 56 + 16
        13: (2, 11, 2),
        14: (2, 11, 2),  # 96 -> 576 -> 160
        15: (2, 18, 2),  # 160 -> 960 -> 160; 960 = 512 + 448 = 17 x 56 + 8
        16: (2, 18, 2),
        17: (2, 18, 2),  # 160 -> 960 -> 320
    }
    for block, (up, depthwise, down) in by_hand.items():
        stem = f"features.{block}.conv"
        tiles |= {f"{stem}.0.0": up, f"{stem}.1.0": depthwise, f"{stem}.2": down}
    # 320 -> 1280 = 2 x 512 + 256 columns; 1280 -> 1000: 3 x 2.
    return tiles | {"features.18.0": 3, "classifier.1": 6}


def ds_cnn() -> dict[str, int]:
    tiles = {"stem": 1, "classifier": 1}  # 10 x 4 = 40 rows x 64; 64 x 12
    for block in range(4):  # 64 channels: 56 + 8; 64 x 64
        tiles |= {f"blocks.{block}.depthwise": 2, f"blocks.{block}.pointwise": 1}
    return tiles


def lstm_lm() -> dict[str, int]:
    # W and R of each layer: 650 = 512 + 138 rows; 4 x 650 = 2600 = 5 x 512 + 40 columns: 2 x 6 each, 24 together.
    # Decoder: 2 row tiles; 10,000 = 19 x 512 + 272 columns: 2 x 20.
    return {"rnn": 24, "rnn_2": 24, "decoder": 40}


def vit_tiny() -> dict[str, int]:
    # Patches of 3 x 16 x 16 = 768 rows: 2 channels and 1, 192 columns. Head 192 x (512 + 488).
    tiles = {"patch_embed.proj": 2, "head": 2}
    for block in range(12):
        stem = f"blocks.{block}"
        tiles[f"{stem}.attn.qkv"] = 2  # 192 x (512 + 64)
        tiles[f"{stem}.attn.proj"] = 1  # 192 x 192
        tiles[f"{stem}.mlp.fc1"] = 2  # 192 x (512 + 256)
        tiles[f"{stem}.mlp.fc2"] = 2  # (512 + 256) x 192
    return tiles


BY_HAND = {
    "resnet34": resnet34(),
    "mobilenet-v2": mobilenet_v2(),
    "ds-cnn": ds_cnn(),
    "lstm-lm": lstm_lm(),
    "vit-tiny": vit_tiny(),
}
# 1 + 12 + 24 + 59 + 56 + 2, and so on: the sums of the tables, added up by hand too.
TOTALS = {"resnet34": 154, "mobilenet-v2": 191, "ds-cnn": 14, "lstm-lm": 88, "vit-tiny": 88}
ANALOG_WEIGHTS = {
    # Parameters without batch norms' (2 x 8,512) and the classifier's 1,000 biases.
    "resnet34": 21_797_672 - 17_024 - 1_000,
    # The same with 2 x 17,056 and 1,000.
    "mobilenet-v2": 3_504_872 - 34_112 - 1_000,
    # 40 x 64 + 4 x (9 x 64 + 64 x 64) + 64 x 12.
    "ds-cnn": 22_016,
    # 2 layers x 2 blocks x 650 x 2600, and 650 x 10,000.
    "lstm-lm": 4 * 1_690_000 + 6_500_000,
    # 768 x 192 + 12 x (192 x 576 + 192 x 192 + 2 x 192 x 768) + 192 x 1000.
    "vit-tiny": 147_456 + 12 * 442_368 + 192_000,
}


@dataclass(frozen=True)
class Case:
    model: onnx.ModelProto
    image: ChipImage
    inputs: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """The catalogue and the programs of the folder, imported as they import each other."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in ("catalogue", "run", "train_keywords")}
    finally:
        sys.path.remove(str(FOLDER))
        for name in set(sys.modules) - before:
            if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def case(example: dict[str, ModuleType], name: str) -> Case:
    from pcmedge.frontends import torch as frontend

    torch.set_num_threads(1)
    catalogue = example["catalogue"]
    module = catalogue.random_network(name, SIZES[name])
    make = catalogue.NETWORKS[name].inputs
    inputs = make(2, SIZES[name], 1, module)
    model = frontend.load(module, torch.from_numpy(inputs[:1]))
    calibration = make(3, SIZES[name], 2, module)
    image = pcmedge.compile(
        model, calibration=calibration, name=name, scaling="column", buffer="synthetic", buffer_samples=2, reference=2
    )
    return Case(model, image, {model.graph.input[0].name: inputs})


def test_tiles_as_worked_out_by_hand(case: Case, name: str) -> None:
    found = Counter(tile.layer for tile in case.image.tiles())
    assert dict(found) == BY_HAND[name]
    assert len(case.image.tiles()) == sum(BY_HAND[name].values()) == TOTALS[name]
    assert case.image.manifest.placement.analog_weights == ANALOG_WEIGHTS[name]
    assert case.image.manifest.placement.devices == 2 * ANALOG_WEIGHTS[name]


def test_with_effects_off_it_computes_what_onnx_runtime_computes(case: Case) -> None:
    expected = float_outputs(case.model, case.inputs)
    # Answers that are all alike would agree too easily.
    assert all(np.abs(value[0] - value[1]).max() > 0.01 * np.abs(value).max() for value in expected.values())
    with pcmedge.Emulator(case.image, physics="ideal", converters="ideal", read_noise="off") as device:
        found = device.infer(next(iter(case.inputs.values())))
    assert relative_error(found, next(iter(expected.values()))) <= 1e-4


def test_state_dicts_of_the_usual_libraries_fit(example: dict[str, ModuleType]) -> None:
    networks = example["catalogue"].NETWORKS
    published = {
        # Parameters, entries of the state dict, some of its names: torchvision, torchvision, timm.
        "resnet34": (21_797_672, 218, ["bn1.running_mean", "layer3.0.downsample.1.weight", "layer4.2.conv2.weight"]),
        "mobilenet-v2": (3_504_872, 314, ["features.1.conv.2.bias", "features.18.1.bias", "classifier.1.weight"]),
        "vit-tiny": (5_717_416, 152, ["cls_token", "pos_embed", "blocks.11.attn.qkv.bias", "norm.weight"]),
    }
    for name, (parameters, entries, some) in published.items():
        module: nn.Module = networks[name].make(networks[name].size, None)
        assert sum(parameter.numel() for parameter in module.parameters()) == parameters
        assert len(module.state_dict()) == entries
        assert set(some) <= set(module.state_dict())


def test_a_language_model_takes_the_size_of_its_weights(example: dict[str, ModuleType], tmp_path: Path) -> None:
    # What PyTorch's example word_language_model calls the weights of one layer of 8 units, 30 words.
    shapes = {"encoder.weight": (30, 8), "decoder.weight": (30, 8), "decoder.bias": (30,)}
    shapes |= {f"rnn.{kind}_{part}_l0": (32, 8) for kind in ("weight",) for part in ("ih", "hh")}
    shapes |= {f"rnn.bias_{part}_l0": (32,) for part in ("ih", "hh")}
    torch.manual_seed(0)
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    torch.save(weights, tmp_path / "weights.pt")
    module = example["run"].load("lstm-lm", 5, tmp_path / "weights.pt", seed=0)
    assert torch.equal(module.decoder.weight, weights["decoder.weight"])
    assert module(torch.zeros(2, 5, dtype=torch.int64)).shape == (2, 5, 30)


def recordings(folder: Path) -> None:
    """A data set in the form of Speech Commands: a tone per word, six recordings each, and some noise."""
    rng = np.random.default_rng(0)
    words = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "tree", "_background_noise_"]
    for number, word in enumerate(words):
        (folder / word).mkdir(parents=True)
        for take in range(6):
            seconds = 2.0 if word.startswith("_") else 0.9 + 0.02 * take
            time_s = np.arange(int(16_000 * seconds)) / 16_000
            tone = np.sin(2 * np.pi * 200 * (number + 1) * time_s) * (not word.startswith("_"))
            samples = 8000 * tone + 800 * rng.normal(size=len(time_s))
            with wave.open(str(folder / word / f"{take}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000)
                file.writeframes(samples.astype("<i2").tobytes())
    for part, take in (("validation", 0), ("testing", 1)):
        (folder / f"{part}_list.txt").write_text("\n".join(f"{word}/{take}.wav" for word in words[:-1]))


def test_keywords_are_trained_compiled_and_measured(
    example: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings(tmp_path / "data")
    arguments = ["--data", tmp_path / "data", "--output", tmp_path / "models", "--epochs", 40, "--batch", 8]
    example["train_keywords"].main([str(each) for each in arguments])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["test"] > 0.5  # a word in twelve by chance
    calibration = np.load(tmp_path / "models" / "calibration.npy")
    assert calibration.shape[1:] == (1, 49, 10)
    assert np.abs(calibration.mean(axis=(0, 1, 2))).max() < 0.1
    image = tmp_path / "ds-cnn.pcmi"
    files = ["--weights", tmp_path / "models" / "ds-cnn.pt", "--calibration", tmp_path / "models" / "calibration.npy"]
    example["run"].main(["ds-cnn", "--json", *map(str, files), "--output", str(image)])
    result = json.loads(capsys.readouterr().out)
    assert result["tiles"] == 14
    assert result["devices"] == 44_032
    assert result["relative_error"] <= 1e-4
    assert 0.01 < result["pcm_90nm_deviation"] < 1
    assert result["compile_peak_rss_bytes"] > result["image_bytes"] == image.stat().st_size
    assert ChipImage.open(image).name == "ds-cnn"
