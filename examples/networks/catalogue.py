"""The networks of this folder by name, and inputs for each: synthetic ones, from a seed, where no data is at hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ds_cnn import COEFFICIENTS, FRAMES, DsCnn
from lstm_lm import LstmLanguageModel, for_weights
from mobilenet_v2 import MobileNetV2
from pcmedge.image.synthetic import synthetic_buffer
from resnet34 import ResNet34
from torch import nn
from vit_tiny import VitTiny

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Network:
    """``make(size, weights)``: the module, of the size the weights have; ``inputs(count, size, seed, module)``."""

    size: int
    what_size: str
    make: Callable[[int, Weights | None], nn.Module]
    inputs: Callable[[int, int, int, nn.Module], np.ndarray]


def pictures(count: int, size: int, seed: int, module: nn.Module) -> np.ndarray:
    """Noise over three scales in the range of normalised ImageNet pictures: float32 (count, 3, size, size)."""
    shape, black, white = (3, size, size), -2.118, 2.64
    return synthetic_buffer("three-scales-1", seed, count, shape, np.float32, [0.0] * 3, [1.0] * 3, black, white)


def spectrograms(count: int, size: int, seed: int, module: nn.Module) -> np.ndarray:
    """Noise over three scales, mean 0 and deviation 1: float32 (count, 1, 49, 10)."""
    shape = (1, size, COEFFICIENTS)
    return synthetic_buffer("three-scales-1", seed, count, shape, np.float32, [0.0], [1.0], -4.0, 4.0)


def words(count: int, size: int, seed: int, module: nn.Module) -> np.ndarray:
    """Words from the whole vocabulary without order: int64 (count, size)."""
    last = module.words - 1
    return synthetic_buffer("white-1", seed, count, (size,), np.int64, [last / 2], [last / 4], 0, last)


def _language_model(size: int, weights: Weights | None) -> nn.Module:
    return for_weights(weights) if weights is not None else LstmLanguageModel()


PIXELS = "pixels along a side"
NETWORKS = {
    "resnet34": Network(size=224, what_size=PIXELS, make=lambda size, weights: ResNet34(), inputs=pictures),
    "mobilenet-v2": Network(size=224, what_size=PIXELS, make=lambda size, weights: MobileNetV2(), inputs=pictures),
    "ds-cnn": Network(size=FRAMES, what_size="frames", make=lambda size, weights: DsCnn(), inputs=spectrograms),
    "lstm-lm": Network(size=35, what_size="words", make=_language_model, inputs=words),
    "vit-tiny": Network(size=224, what_size=PIXELS, make=lambda size, weights: VitTiny(size), inputs=pictures),
}


def random_network(name: str, size: int, seed: int = 0, samples: int = 8) -> nn.Module:
    """A network with random weights that answers as calmly as a trained one.

    Batch norms get the statistics of synthetic inputs, and their offset equal to their scale. Without the offset every
    batch norm and ReLU of a random network enlarges small differences by sqrt(pi / (pi - 1)), 1.2 (Yang et al. 2019,
    arXiv:1902.08129): a rounding in the first layer is a different answer fifty layers on.
    """
    torch.manual_seed(seed)
    network = NETWORKS[name]
    module = network.make(size, None)
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # take the statistics of the next batch as they are
        norm.bias.data.copy_(norm.weight)
    if norms:
        with torch.no_grad():
            module.train()(torch.from_numpy(network.inputs(samples, size, seed, module)))
    return module.eval()
