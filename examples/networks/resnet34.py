"""ResNet-34 for ImageNet: He et al. 2016 (arXiv:1512.03385), table 1; shortcuts as in its option B.

Parameters are named as in torchvision, so a state dict of ``torchvision.models.resnet34`` loads as it is: 21,797,672
parameters, 21,779,648 of them weights of convolutions and the classifier.
"""

import torch
from torch import nn

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # channels, blocks


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut; a 1 x 1 convolution on it where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(inner)) + shortcut)


class ResNet34(nn.Module):
    """Pictures (N, 3, height, width), normalised -> scores (N, 1000). 224 x 224 in the paper, any size will do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for number, (channels, blocks) in enumerate(STAGES, start=1):
            first = Block(inputs, channels, stride=1 if number == 1 else 2)
            rest = (Block(channels, channels, stride=1) for _ in range(blocks - 1))
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            inputs = channels
        self.fc = nn.Linear(inputs, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if isinstance(module, Block):
                # Blocks begin near the identity (Goyal et al. 2017, arXiv:1706.02677, section 5.1, which takes 0).
                nn.init.constant_(module.bn2.weight, 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))
