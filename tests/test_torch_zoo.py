"""torch modules as public model code writes them compile unedited and compute what eager torch computes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from compiler_models import ideal_chip, relative_error, samples
from pcmedge.compiler import compile
from pcmedge.errors import InputTypeError
from torch import nn
from torch_zoo import ZOO, inputs, network

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "LSTM", "GRU")


@pytest.mark.parametrize("name", ZOO)
def test_an_image_computes_what_torch_computes(name: str) -> None:
    model, values = network(name), inputs(name)
    example = tuple(torch.from_numpy(value[:1]) for value in values)
    image = compile(model, example, calibration=values, scaling="column", targets="float32")
    with torch.no_grad():
        answers = model(*map(torch.from_numpy, values))
    expected = answers if isinstance(answers, dict) else {"": answers}
    fed = dict(zip([spec.name for spec in image.manifest.model.inputs], values, strict=True))
    found = ideal_chip(image, fed)
    for mine, (key, theirs) in zip(found, expected.items(), strict=True):
        assert relative_error(found[mine], theirs.numpy()) <= 1e-5
        assert not key or mine == key
    digital = [node for node in image.manifest.placement.nodes if node.operator in WEIGHTED and not node.analog]
    assert (len(image.manifest.layers), len(digital)) == (ZOO[name].analog, ZOO[name].digital)


def test_memory_format_makes_no_difference() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
    pictures = samples(12, 3, 6, 6)
    plain = compile(model, torch.from_numpy(pictures[:1]), calibration=pictures)
    model = model.to(memory_format=torch.channels_last)
    example = torch.from_numpy(pictures[:1]).to(memory_format=torch.channels_last)
    last = compile(model, example, calibration=torch.from_numpy(pictures).to(memory_format=torch.channels_last))
    for segment in ("targets", "tiles", "buffer"):
        assert bytes(last.segment(segment)) == bytes(plain.segment(segment))
    name = plain.manifest.model.inputs[0].name
    (found,), (expected,) = (ideal_chip(image, {name: pictures}).values() for image in (last, plain))
    assert relative_error(found, expected) <= 1e-6


def test_batch_norm_fused_by_torch_leaves_recorded_statistics() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 8), nn.Linear(8, 3)
    )
    pictures = samples(24, 2, 6, 6)
    model(torch.from_numpy(pictures))
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = torch.ao.quantization.fuse_modules(model, [["0", "1"]])
    image = compile(fused, torch.from_numpy(pictures[:1]), calibration=pictures, scaling="column")
    assert sorted(image.reference_statistics()) == ["0/statistics", "4/statistics"]
    with torch.no_grad():
        expected = model(torch.from_numpy(pictures)).numpy()
    (found,) = ideal_chip(image, {image.manifest.model.inputs[0].name: pictures}).values()
    assert relative_error(found, expected) <= 1e-4


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (nn.Linear(3, 2).double(), torch.zeros(1, 3, dtype=torch.float64), r"first: 'weight'.*model\.float\(\)"),
        (nn.Linear(3, 2), np.zeros((1, 3)), r"NumPy's default.*astype\(numpy\.float32\)"),
    ],
)
def test_doubles_are_refused(model: nn.Module, example: object, message: str) -> None:
    with pytest.raises(InputTypeError, match=message):
        compile(model, example, calibration=samples(8, 3))
