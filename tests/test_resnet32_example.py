"""The published network: its size, its place on the chip, its numbers; its training, which may be stopped."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from compiler_models import ideal_chip, relative_error
from data_files import encoded, labels, parquet, pictures
from pcmedge._contract.image_pb2 import BIAS_PLACEMENT_ROW
from pcmedge.compiler import compile
from pcmedge.data import normalise
from pcmedge.image import ChipImage
from pcmedge.image.application import preprocess
from pcmedge.image.synthetic import synthetic_buffer
from torch import nn

FOLDER = Path(__file__).parent.parent / "examples" / "resnet32_cifar10"
MODULES = ("augmentation", "compile_image", "judging", "network", "phase", "train")


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """The example's modules, imported as they import each other."""
    import importlib

    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def network(example: dict[str, ModuleType]) -> nn.Module:
    """Random weights, and batch norm statistics that differ from their initial ones."""
    torch.manual_seed(0)
    model: nn.Module = example["network"].ResNet32()
    with torch.no_grad():
        model(torch.from_numpy(normalise(pictures(16, seed=3))))
    return model.eval()


@pytest.fixture(scope="module")
def image(network: nn.Module) -> ChipImage:
    calibration = normalise(pictures(8, seed=1))
    return compile(network, torch.from_numpy(calibration[:1]), calibration=calibration, buffer_samples=4, reference=4)


def test_it_has_the_published_number_of_parameters(network: nn.Module) -> None:
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert sum(module.weight.numel() for module in layers) == 361_712
    assert sum(value.numel() for module in layers for value in module.parameters()) == 361_722
    assert len([module for module in layers if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]) == 31


def test_the_image_holds_a_pair_of_devices_per_weight(image: ChipImage) -> None:
    weights = sum(tile.groups * tile.rows * tile.columns for tile in image.tiles())
    assert weights == 361_712
    assert image.manifest.placement.analog_weights == 361_712
    assert image.manifest.placement.devices == 723_424


def test_with_its_biases_on_a_row_it_has_the_published_number_of_devices(network: nn.Module) -> None:
    calibration = normalise(pictures(8, seed=1))
    example = torch.from_numpy(calibration[:1])
    image = compile(network, example, calibration=calibration, buffer_samples=4, reference=4, bias="row")
    weights = sum(tile.groups * tile.rows * tile.columns for tile in image.tiles())
    assert weights == image.manifest.placement.analog_weights == 361_722
    assert image.manifest.placement.devices == 723_444
    # The classifier is the only layer with a bias; the row needs no tile of its own.
    assert [layer.name for layer in image.manifest.layers if layer.bias == BIAS_PLACEMENT_ROW] == ["classifier"]
    assert len(image.tiles()) == 34
    assert (image.tiles()[-1].rows, image.tiles()[-1].columns) == (57, 10)
    inputs = normalise(pictures(4, seed=2))
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs)).numpy()
    (name,) = (each.name for each in image.manifest.model.inputs)
    (found,) = ideal_chip(image, {name: inputs}).values()
    assert relative_error(found, expected) <= 1e-4


def test_tiles_as_worked_out_by_hand(image: ChipImage) -> None:
    # 512 rows hold 56 channels of 3 x 3, and no layer has more than 56 channels (504 rows): one tile per layer.
    # Stem 1; stage one 10; stage two 10 and a projection; stage three 10 and a projection; classifier 1.
    sizes = sorted((tile.rows, tile.columns) for tile in image.tiles())
    by_hand = [(27, 16)] + [(144, 16)] * 10
    by_hand += [(144, 28)] + [(252, 28)] * 9 + [(16, 28)]
    by_hand += [(252, 56)] + [(504, 56)] * 9 + [(28, 56)]
    by_hand += [(56, 10)]
    assert sizes == sorted(by_hand)
    assert len(image.tiles()) == 34


def test_without_effects_it_computes_what_torch_computes(network: nn.Module, image: ChipImage) -> None:
    inputs = normalise(pictures(4, seed=2))
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs)).numpy()
    (name,) = (each.name for each in image.manifest.model.inputs)
    (found,) = ideal_chip(image, {name: inputs}).values()
    assert relative_error(found, expected) <= 1e-4


@pytest.fixture(scope="module")
def published() -> ChipImage:
    return ChipImage.open(FOLDER / "models" / "resnet32.pcmi")


def test_the_published_image_is_the_published_network(example: dict[str, ModuleType], published: ChipImage) -> None:
    assert published.verify().complete
    assert published.manifest.placement.devices == 723_444
    # uint8 pictures in, through the preprocessing in the image.
    inputs = normalise(pictures(4, seed=2))
    with torch.no_grad():
        expected = example["network"].load(FOLDER / "models" / "noise-aware.pt")(torch.from_numpy(inputs)).numpy()
    (found,) = ideal_chip(published, {"x": inputs}).values()
    # Clipped and rounded weights; nothing else stands between the checkpoint and the chip.
    assert relative_error(found, expected) <= 1e-3
    assert (found.argmax(1) == expected.argmax(1)).all()
    made = preprocess(published.manifest.application.preprocessing, pictures(1, seed=2)[0])
    np.testing.assert_allclose(made, normalise(pictures(1, seed=2)), atol=1e-6)


def test_the_published_image_carries_no_pictures(published: ChipImage) -> None:
    described = published.manifest.calibration_buffer
    assert (described.kind, described.samples) == ("synthetic", 64)
    again = synthetic_buffer(
        described.generator,
        described.seed + 1,
        512,
        (3, 32, 32),
        np.float32,
        described.inputs[0].mean,
        described.inputs[0].std,
        described.inputs[0].minimum,
        described.inputs[0].maximum,
    )
    reference = published.reference_set()[0]["x"]
    assert len(reference) == 16
    # Brought to the calibration set's mean and deviation together with other samples, so alike but for that.
    alike = np.corrcoef(reference.reshape(16, -1), again.reshape(512, -1))[:16, 16:]
    assert (alike.max(axis=1) > 0.999).all()


def test_an_image_is_made_again_from_weights_and_data(
    example: dict[str, ModuleType],
    network: nn.Module,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = tmp_path / "weights.pt"
    torch.save(network.state_dict(), weights)
    given = ["compile_image.py", "--data", str(data), "--weights", str(weights), "--output"]
    for name in ("one.pcmi", "two.pcmi"):
        monkeypatch.setattr(sys, "argv", [*given, str(tmp_path / name)])
        example["compile_image"].main()
    assert (tmp_path / "one.pcmi").read_bytes() == (tmp_path / "two.pcmi").read_bytes()
    assert ChipImage.open(tmp_path / "one.pcmi").manifest.application.labels[9] == "truck"
    monkeypatch.setattr(sys, "argv", [*given[:2], "nowhere", *given[3:], str(tmp_path / "none.pcmi")])
    with pytest.raises(SystemExit, match="data_batch_1"):
        example["compile_image"].main()
    assert not (tmp_path / "none.pcmi").exists()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for part, count in (("train", 20), ("test", 10)):
        cells = [encoded(each) for each in pictures(count, seed=count)]
        parquet(folder / f"{part}.parquet", {"image": cells, "label": labels(count, 2)})
    return folder


def train(example: dict[str, ModuleType], data: Path, output: Path, *more: str) -> None:
    given = ["--data", data, "--output", output, "--epochs", 2, "--fine-tune-epochs", 2, "--batch", 8]
    example["train"].main([*map(str, given), "--device", "cpu", *more])


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    example: dict[str, ModuleType], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(example, data, tmp_path / "whole")
    assert "noise-aware 2/2" in capsys.readouterr().out
    for stop in ("1", "2", "-1"):  # inside each phase once
        assert not (tmp_path / "parts" / "result.json").exists()
        with contextlib.nullcontext() if stop == "-1" else pytest.raises(SystemExit, match="0"):
            train(example, data, tmp_path / "parts", "--resume", "--stop-after", stop)
    for name in ("float.pt", "noise-aware.pt"):
        whole, parts = (torch.load(tmp_path / each / name, weights_only=True) for each in ("whole", "parts"))
        assert list(whole) == list(parts)
        for key, value in whole.items():
            assert torch.equal(value, parts[key]), key
    assert _weights_differ(tmp_path / "whole")
    whole, parts = ((tmp_path / each / "result.json").read_bytes() for each in ("whole", "parts"))
    assert whole == parts

    with pytest.raises(SystemExit, match="complete"):
        train(example, data, tmp_path / "whole", "--resume")
    with pytest.raises(SystemExit, match="holds a checkpoint already"):
        train(example, data, tmp_path / "whole")
    (tmp_path / "whole" / "result.json").unlink()
    with pytest.raises(SystemExit, match="other settings"):
        train(example, data, tmp_path / "whole", "--resume", "--eta", "0.05")


def test_training_in_bfloat16_keeps_float32_weights(example: dict[str, ModuleType], data: Path, tmp_path: Path) -> None:
    short = ("--epochs", "1", "--fine-tune-epochs", "1", "--dac-bits", "0", "--adc-bits", "0")
    train(example, data, tmp_path / "bfloat16", *short, "--precision", "bfloat16")
    train(example, data, tmp_path / "float32", *short, "--precision", "float32")
    reduced, whole = (
        torch.load(tmp_path / each / "noise-aware.pt", weights_only=True) for each in ("bfloat16", "float32")
    )
    assert all(value.dtype == whole[key].dtype for key, value in reduced.items())
    difference = (reduced["stem.weight"] - whole["stem.weight"]).norm() / whole["stem.weight"].norm()
    assert 0.0 < difference < 0.1


def test_fine_tuning_from_a_trained_network(example: dict[str, ModuleType], data: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.pt"
    torch.manual_seed(5)
    torch.save(example["network"].ResNet32().state_dict(), start)
    train(example, data, tmp_path / "out", "--start-from", str(start), "--eta", "0", "--fine-tune-epochs", "1")
    given, found = (torch.load(each, weights_only=True) for each in (start, tmp_path / "out" / "float.pt"))
    assert all(torch.equal(given[key], found[key]) for key in given)
    tuned = example["network"].load(tmp_path / "out" / "noise-aware.pt")
    for name, module in tuned.named_modules():
        if isinstance(module, nn.Conv2d):
            # Clipped at 2.0 standard deviations, which clipping itself lowers a little.
            assert float(module.weight.detach().abs().max() / module.weight.detach().std()) < 2.2, name


def test_the_first_phase_continues_from_a_trained_network(
    example: dict[str, ModuleType], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tmp_path / "start.pt"
    torch.manual_seed(5)
    given = example["network"].ResNet32().state_dict()
    torch.save(given, start)
    short = ("--epochs", "1", "--fine-tune-epochs", "1")
    train(example, data, tmp_path / "out", *short, "--continue-from", str(start))
    found = torch.load(tmp_path / "out" / "float.pt", weights_only=True)["stem.weight"].flatten()
    assert torch.corrcoef(torch.stack([found, given["stem.weight"].flatten()]))[0, 1] > 0.9
    assert not torch.equal(found, given["stem.weight"].flatten())

    with pytest.raises(SystemExit):
        train(example, data, tmp_path / "both", *short, "--continue-from", str(start), "--start-from", str(start))
    assert "give one of them" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train(example, data, tmp_path / "none", *short, "--continue-from", str(tmp_path / "nowhere.pt"))
    assert "no such file" in capsys.readouterr().err


def test_what_cannot_be_done_is_said_in_a_line(
    example: dict[str, ModuleType], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "checkpoint.pt").write_text("no checkpoint")
    with pytest.raises(SystemExit, match=r"checkpoint\.pt is damaged"):
        train(example, data, damaged, "--resume")
    torch.save({"weights": 1}, damaged / "checkpoint.pt")
    with pytest.raises(SystemExit, match=r"checkpoint\.pt is no checkpoint"):
        train(example, data, damaged, "--resume")
    for name in ("README.md", "models/resnet32.pcmi"):
        with pytest.raises(SystemExit, match="is damaged, or was not written by this script"):
            train(example, data, tmp_path / "out", "--start-from", str(FOLDER / name))
    with pytest.raises(SystemExit, match="does not hold the weights of this network"):
        train(example, data, tmp_path / "out", "--start-from", str(damaged / "checkpoint.pt"))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SystemExit, match="is no folder"):
        train(example, data, file)
    with pytest.raises(SystemExit, match="60000"):
        train(example, data, tmp_path / "out", "--pictures", "60000")
    for wrong in (("--batch", "0"), ("--held-out", "0"), ("--eta", "2"), ("--average", "1"), ("--adc-bits", "1")):
        with pytest.raises(SystemExit, match="2"):
            train(example, data, tmp_path / "out", *wrong)
        said = capsys.readouterr().err
        assert wrong[0][2:].replace("-", "_") in said.replace("-", "_")


def test_a_full_disk_keeps_the_last_checkpoint(
    example: dict[str, ModuleType], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="0"):
        train(example, data, tmp_path, "--stop-after", "1")
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as full:

        def fails(value: object, file: Any) -> None:
            file.write(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

        full.setattr(torch, "save", fails)
        with pytest.raises(SystemExit, match=r"checkpoint\.pt cannot be written.*--resume"):
            train(example, data, tmp_path, "--resume")
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    train(example, data, tmp_path, "--resume")
    assert (tmp_path / "result.json").exists()


def test_ctrl_c_says_how_to_go_on(
    example: dict[str, ModuleType], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(example["phase"], "refresh_batch_norm", interrupted)
    with pytest.raises(SystemExit, match="130"):
        train(example, data, tmp_path)
    assert "--resume" in capsys.readouterr().out


def test_without_data_it_says_where_to_put_it(example: dict[str, ModuleType], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="data_batch_1"):
        train(example, tmp_path / "nowhere", tmp_path / "out")


def test_augmented_pictures_are_crops_flips_and_holes(example: dict[str, ModuleType]) -> None:
    module: Any = example["augmentation"]
    found = torch.from_numpy(pictures(3)).permute(0, 3, 1, 2)
    pad, hole = module.PAD, module.CUTOUT
    outside = 40  # beyond the picture: no hole
    choices = torch.tensor([[pad, pad, pad - 2], [pad, pad, pad + 1], [0, 1, 0], [outside, outside, 3], [0, 0, 5]])
    plain, changed = module.normalised(found), module.augmented(found, choices)
    torch.testing.assert_close(changed[0], plain[0])
    torch.testing.assert_close(changed[1], plain[1].flip(2))
    assert not changed[2, :, 3 : 3 + hole, 5 : 5 + hole].any()
    torch.testing.assert_close(changed[2, :, 20:, :31], plain[2, :, 18:30, 1:])
    assert not changed[2, :, :2].any()
    assert not changed[2, :, :, 31].any()


def _weights_differ(folder: Path) -> bool:
    first, second = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("float", "noise-aware"))
    return not np.allclose(first["stem.weight"], second["stem.weight"])
