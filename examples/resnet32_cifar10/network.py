"""ResNet-32 for CIFAR-10 with 16, 28 and 56 channels, 361,722 parameters: the network of Joshi et al. 2020.

He et al. 2016 (arXiv:1512.03385, section 4.2) use 16, 32 and 64 channels. Joshi et al. 2020 (Nat. Commun. 11:2473)
report 361,722 programmed weights; with five blocks per stage, 1 x 1 projections and a classifier with bias, 16, 28 and
56 channels give exactly that number, and no others near them do. Batch norm is digital and not counted.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

CHANNELS = (16, 28, 56)
BLOCKS = 5


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm around a shortcut; a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResNet32(nn.Module):
    """Pictures (N, 3, 32, 32), normalised -> scores (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.stem = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(first)
        self.stage1 = _stage(first, first, stride=1)  # 32 x 32
        self.stage2 = _stage(first, second, stride=2)  # 16 x 16
        self.stage3 = _stage(second, third, stride=2)  # 8 x 8
        self.classifier = nn.Linear(third, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.classifier(x.mean(dim=(2, 3)))


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Block(inputs, outputs, stride), *(Block(outputs, outputs, stride=1) for _ in range(BLOCKS - 1))
    )


def load(path: Path | str) -> ResNet32:
    """The network with weights that train.py wrote, ready to be compiled."""
    model = ResNet32()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()
