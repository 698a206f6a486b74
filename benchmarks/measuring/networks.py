"""The networks that are measured, with their inputs, as every contender takes them: torch module, ONNX file, image."""

from __future__ import annotations

import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.image import ChipImage
from pcmedge.image.synthetic import synthetic_buffer

from benchmarks.measuring.machine import ROOT
from benchmarks.measuring.rounds import Progress

RESNET32 = ROOT / "examples" / "resnet32_cifar10" / "network.py"
TRAINED = ROOT / "examples" / "resnet32_cifar10" / "models" / "float.pt"
RESNET34 = ROOT / "examples" / "networks" / "resnet34.py"

# Of CIFAR-10's and ImageNet's training pictures after normalisation: about what the networks were made for.
DARKEST, BRIGHTEST = -2.2, 2.7


@dataclass(frozen=True)
class Workload:
    """One network. ``module``: torch, in evaluation mode; ``onnx``: a file, exported the way that is fastest to run
    digitally (batch norm folded into the convolutions); ``weights``: where they come from; ``side``: pixels along a
    side of its pictures.
    """

    name: str
    module: Any
    onnx: Path
    image: ChipImage
    weights: str
    side: int

    def pictures(self, count: int, seed: int = 1) -> NDArray[np.float32]:
        return pictures(count, self.side, seed)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one picture, on the chip and beside it."""
        placement = self.image.manifest.placement
        return int(placement.analog_macs + placement.digital_macs)


def pictures(count: int, side: int, seed: int) -> NDArray[np.float32]:
    """Normalised synthetic pictures float32 (count, 3, side, side); the first ones are the same for every count."""
    few = min(count, 256)
    shape = (3, side, side)
    found: NDArray[np.float32] = synthetic_buffer(
        "three-scales-1", seed, few, shape, np.float32, [0.0] * 3, [1.0] * 3, DARKEST, BRIGHTEST
    )
    # More would only take time to paint: what a picture shows does not decide how long it takes.
    return np.ascontiguousarray(np.resize(found, (count, *shape)))


def resnet32(folder: Path, weights: Path | None, *, quick: bool = False, progress: Progress | None = None) -> Workload:
    """ResNet-32 16/28/56 with trained weights, or random ones; ``quick``: one narrow block per stage, random."""
    definition = _module(RESNET32)
    if quick:
        definition.BLOCKS, definition.CHANNELS, weights = 1, (4, 6, 8), None
    module = definition.load(weights) if weights is not None else _calm(definition.ResNet32, 32)
    origin = "random" if weights is None else weights.name
    name = "resnet-quick" if quick else "resnet32"
    return _workload(folder, name, module, origin, 32, samples=64 if not quick else 16, progress=progress)


def resnet34(folder: Path, *, quick: bool = False, progress: Progress | None = None) -> Workload:
    """ResNet-34 for 224 x 224 pictures with random weights; ``quick``: one narrow block per stage, 32 x 32."""
    definition = _module(RESNET34)
    side = 224
    if quick:
        definition.STAGES, side = ((8, 1),) * 4, 32
    module = _calm(definition.ResNet34, side)
    name = "resnet34-quick" if quick else "resnet34"
    return _workload(folder, name, module, "random", side, samples=8, progress=progress)


def _workload(
    folder: Path, name: str, module: Any, weights: str, side: int, *, samples: int, progress: Progress | None
) -> Workload:
    import pcmedge
    import torch

    torch.set_num_threads(1)
    path = folder / f"{name}.onnx"
    _export(module.eval(), side, path)
    image = pcmedge.compile(
        module,
        torch.zeros(2, 3, side, side),
        calibration=pictures(samples, side, seed=2),
        name=name,
        buffer="synthetic",
        progress=None if progress is None else lambda _phase, done, total: progress(f"compile {name}", done, total),
    )
    image.save(folder / f"{name}.pcmi")
    return Workload(name, module, path, ChipImage.open(folder / f"{name}.pcmi"), weights, side)


def _export(module: Any, side: int, path: Path) -> None:
    """What torch writes for deployment. pcmedge's own export keeps batch norm apart, and ONNX Runtime does not fold it
    there: as a digital baseline it would be slower than need be.
    """
    import onnx
    import torch

    with quiet():
        program = torch.onnx.export(
            module,
            (torch.zeros(2, 3, side, side),),
            dynamo=True,
            optimize=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=["x"],
            verbose=False,
        )
    model = program.model_proto
    left = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    if left:
        raise RuntimeError(f"the exporter left {left} batch norms: no fair baseline. Use another version of torch.")
    onnx.save(model, path)


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of other people's tools say nothing about the measurement."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _module(path: Path) -> ModuleType:
    """A Python file as a module of its own, not shared with whoever imports it by name."""
    spec = importlib.util.spec_from_file_location(f"benchmarked_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _calm(make: Any, side: int) -> Any:
    """A random network whose signals stay in range: batch norms get the statistics of synthetic pictures, and an offset
    equal to their scale, without which a random network enlarges every rounding from layer to layer (Yang et al. 2019,
    arXiv:1902.08129)."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = make()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # take the statistics of the next batch as they are
            norm.bias.data.copy_(norm.weight)
    with torch.no_grad():
        module.train()(torch.from_numpy(pictures(8, side, seed=3)))
    return module.eval()
