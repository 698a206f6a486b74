"""DS-CNN, the small one, for keyword spotting: Zhang et al. 2017 (arXiv:1711.07128), the network of MLPerf Tiny.

One second of speech as 49 frames of 10 MFCC; ten words, "silence" and "unknown". Biases in front of a batch norm, which
would cancel them, are left out.
"""

import torch
from torch import nn

FRAMES, COEFFICIENTS, CHANNELS, CLASSES = 49, 10, 64, 12


class Separable(nn.Module):
    """3 x 3 depthwise, 1 x 1 across channels, each with batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm2(self.pointwise(torch.relu(self.norm1(self.depthwise(x))))))


class DsCnn(nn.Module):
    """MFCC (N, 1, 49, 10) -> scores (N, 12)."""

    def __init__(self) -> None:
        super().__init__()
        # Stride 2 over 49 x 10 with a 10 x 4 kernel and "same" padding: 25 x 5, one row more below than above.
        self.pad = nn.ZeroPad2d((1, 1, 4, 5))
        self.stem = nn.Conv2d(1, CHANNELS, (10, 4), stride=2, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.blocks = nn.Sequential(*(Separable(CHANNELS) for _ in range(4)))
        self.dropout = nn.Dropout(0.4)
        self.classifier = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(self.pad(x)))))
        return self.classifier(self.dropout(x.mean(dim=(2, 3))))
