"""Small torch networks written the way public model code writes them (timm, torchvision), with settled statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def conv_norm_act(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        act(),
    )


class SqueezeExcite(nn.Module):
    """Channel gates from the mean over the picture, by 1 x 1 convolutions."""

    def __init__(self, channels: int, inner: int, act: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, inner, 1)
        self.act = act
        self.conv_expand = nn.Conv2d(inner, channels, 1)
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.conv_expand(self.act(self.conv_reduce(scale))))


class Bottleneck(nn.Module):
    """ResNet-D's bottleneck: average pooling on the shortcut, squeeze and excitation before the sum."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se = SqueezeExcite(outputs, 4, nn.ReLU(inplace=True), nn.Sigmoid())
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = functional.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.se(self.bn3(self.conv3(x)))
        x += shortcut
        return functional.relu(x, inplace=True)


class ResNetSe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm_act(3, 8, 3, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(Bottleneck(8, 4, 1), Bottleneck(16, 4, 2))
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.global_pool(self.layers(self.maxpool(self.stem(x)))), 1))


class InvertedResidual(nn.Module):
    """MobileNetV3 and EfficientNet: expand, depthwise, squeeze and excitation, project."""

    def __init__(self, channels: int, outputs: int, stride: int, act: Any, gate: Any, drop: float = 0.2) -> None:
        super().__init__()
        inner = 3 * channels
        self.expand = conv_norm_act(channels, inner, 1, act=act)
        self.depthwise = conv_norm_act(inner, inner, 5, stride, groups=inner, act=act)
        self.se = SqueezeExcite(inner, 6, nn.SiLU() if act is nn.SiLU else nn.ReLU(), gate())
        self.project = nn.Sequential(nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.has_skip = stride == 1 and channels == outputs
        self.drop = drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.se(self.depthwise(self.expand(x))))
        if not self.has_skip:
            return y
        if self.training and self.drop:  # stochastic depth
            y = y * (torch.rand(y.shape[0], 1, 1, 1) >= self.drop) / (1 - self.drop)
        return x + y


class MobileNetV3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm_act(3, 8, 3, 2, act=nn.Hardswish)
        self.blocks = nn.Sequential(
            InvertedResidual(8, 8, 1, nn.Hardswish, nn.Hardsigmoid), InvertedResidual(8, 12, 2, nn.ReLU, nn.Hardsigmoid)
        )
        self.conv_head = nn.Conv2d(12, 16, 1)
        self.classifier = nn.Sequential(nn.Hardswish(), nn.Dropout(0.2), nn.Linear(16, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem(x))
        return self.classifier(self.conv_head(functional.adaptive_avg_pool2d(x, 1)).flatten(1))


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm_act(3, 8, 3, 2, act=nn.SiLU)
        self.blocks = nn.Sequential(
            InvertedResidual(8, 8, 1, nn.SiLU, nn.Sigmoid), InvertedResidual(8, 12, 2, nn.SiLU, nn.Sigmoid)
        )
        self.head = conv_norm_act(12, 16, 1, act=nn.SiLU)
        self.classifier = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.blocks(self.stem(x))).mean([2, 3])
        return self.classifier(functional.dropout(x, p=0.2, training=self.training))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(0.5 * torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        y = self.gamma * self.fc2(self.act(self.fc1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8, eps=1e-6))
        self.stage = nn.Sequential(ConvNextBlock(8), LayerNorm2d(8), nn.Conv2d(8, 12, 2, 2), ConvNextBlock(12))
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.stage(self.stem(x)).mean((-2, -1))))


class Attention(nn.Module):
    """timm's: one fused qkv product, and torch's own attention kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width))


class Vit(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.attentions = nn.ModuleList(Attention(width, 4) for _ in range(2))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 32), nn.GELU(approximate="tanh"), nn.Linear(32, width)) for _ in range(2)
        )
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        for index, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            x = x + attention(self.norms[2 * index](x))
            x = x + mlp(self.norms[2 * index + 1](x))
        return self.head(x[:, 0])


class Mixer(nn.Module):
    def __init__(self, tokens: int = 16, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 8, 8)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp_tokens = nn.Sequential(nn.Linear(tokens, 8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, tokens))
        self.mlp_channels = nn.Sequential(nn.Linear(width, 24), nn.GELU(), nn.Linear(24, width))
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.mlp_channels(self.norm2(x))
        return self.head(x.mean(dim=1))


class DenseNet(nn.Module):
    """Batch norm *before* the convolutions, and every layer sees all the ones before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        widths = [8, 12, 16]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, 4, 3, padding=1, bias=False)) for w in widths[:2]
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1, bias=False), nn.AvgPool2d(2))
        self.norm = nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        x = functional.relu(self.norm(self.transition(torch.cat(features, 1))))
        return self.classifier(functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class UNet(nn.Module):
    """Two levels, one way up by transposed convolution and one by interpolation; a picture comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = conv_norm_act(3, 6, 3)
        self.down2 = conv_norm_act(6, 8, 3, act=lambda: nn.LeakyReLU(0.1))
        self.middle = conv_norm_act(8, 12, 3, act=nn.ELU)
        self.up2 = nn.ConvTranspose2d(12, 8, 2, 2)
        self.join2 = conv_norm_act(16, 8, 3)
        self.up1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.join1 = conv_norm_act(14, 6, 3)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down1(x)
        b = self.down2(functional.max_pool2d(a, 2))
        c = self.middle(functional.max_pool2d(b, 2))
        b = self.join2(torch.cat([self.up2(c), b], dim=1))
        return self.out(self.join1(torch.cat([self.up1(b), a], dim=1)))


class Speech(nn.Module):
    """1-dimensional convolutions with weight norm, a bidirectional LSTM of two layers, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 8, 3, padding=1))
        self.lstm = nn.LSTM(8, 5, num_layers=2, batch_first=True, bidirectional=True, dropout=0.1)
        self.gru = nn.GRU(10, 6, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(functional.relu(self.conv(x)).transpose(1, 2))
        _, state = self.gru(y)
        return self.head(state[-1])


class Encoder(nn.Module):
    """torch's own encoder layers, with its fused evaluation path, and attention on two inputs."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 24, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=False)
        self.cross = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.encoder(x)
        mixed, _ = self.cross(y, memory, memory)
        return {"scores": self.head(mixed.mean(1)), "features": y}


class Tokens(nn.Module):
    """Integer inputs, and a mask of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.hidden = nn.Linear(8, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.hidden(self.embedding(tokens)))
        return self.head((x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


PICTURE: tuple[tuple[int, ...], ...] = ((3, 32, 32),)


@dataclass(frozen=True)
class Entry:
    """``analog``, ``digital``: how many layers are on tiles; how many with weights are not."""

    make: type[nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    analog: int
    digital: int = 0


ZOO = {
    "resnet-se": Entry(ResNetSe, PICTURE, 14),
    "mobilenet-v3": Entry(MobileNetV3, PICTURE, 13),
    "efficientnet": Entry(EfficientNet, PICTURE, 13),
    "convnext": Entry(ConvNext, PICTURE, 9),
    "vit": Entry(Vit, PICTURE, 10),
    "mixer": Entry(Mixer, PICTURE, 6),
    "densenet": Entry(DenseNet, PICTURE, 5),
    "unet": Entry(UNet, ((3, 16, 16),), 6, digital=1),
    "speech": Entry(Speech, ((6, 10),), 4, digital=1),
    "encoder": Entry(Encoder, ((5, 16), (7, 16)), 12),
    "tokens": Entry(Tokens, ((9,), (9,)), 2),
}


def network(name: str) -> nn.Module:
    """An architecture in evaluation mode: He initialisation, and batch norm that has seen inputs."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = ZOO[name].make()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(*map(torch.from_numpy, inputs(name, 16, seed=9)))
    return model.eval()


def inputs(name: str, count: int = 12, seed: int = 0) -> tuple[np.ndarray[Any, Any], ...]:
    rng = np.random.default_rng(seed)
    if name == "tokens":
        return rng.integers(0, 20, (count, 9)), (rng.random((count, 9)) < 0.7).astype(np.float32)
    return tuple(rng.normal(size=(count, *shape)).astype(np.float32) for shape in ZOO[name].shapes)
