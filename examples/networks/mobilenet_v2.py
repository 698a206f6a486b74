"""MobileNetV2, width 1.0, for ImageNet: Sandler et al. 2018 (arXiv:1801.04381), table 2.

Parameters are named as in torchvision, so a state dict of ``torchvision.models.mobilenet_v2`` loads as it is:
3,504,872 parameters.
"""

import torch
from torch import nn

# Expansion, channels, blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """1 x 1 up, 3 x 3 depthwise, 1 x 1 down without activation; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([convolution(inputs, hidden, 1)] if expansion != 1 else []),
            convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """Pictures (N, 3, height, width), normalised -> scores (N, 1000). 224 x 224 in the paper, any size will do."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(3, 32, 3, stride=2)]
        inputs = 32
        for expansion, channels, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, channels, stride if block == 0 else 1, expansion))
                inputs = channels
        self.features = nn.Sequential(*layers, convolution(inputs, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if isinstance(module, InvertedResidual) and module.shortcut:
                # Blocks begin near the identity (Goyal et al. 2017, arXiv:1706.02677, section 5.1, which takes 0).
                nn.init.constant_(module.conv[-1].weight, 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))
