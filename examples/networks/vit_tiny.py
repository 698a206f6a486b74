"""A vision transformer for ImageNet, the "tiny" one: Dosovitskiy et al. 2021 (arXiv:2010.11929), the size of DeiT-Ti
(Touvron et al. 2021, arXiv:2012.12877): 192 dimensions, 3 heads, 12 blocks, patches of 16 x 16.

Parameters are named as in timm, so a state dict of ``deit_tiny_patch16_224`` or ``vit_tiny_patch16_224`` loads as it
is: 5,717,416 parameters. Products of two activations (attention) are digital, all others lie on tiles.
"""

import torch
from torch import nn
from torch.nn import functional

DIMENSIONS, HEADS, BLOCKS, PATCH = 192, 3, 12, 16


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIMENSIONS, 3 * DIMENSIONS)
        self.proj = nn.Linear(DIMENSIONS, DIMENSIONS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        samples, tokens, _ = x.shape
        query, key, value = self.qkv(x).reshape(samples, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(samples, tokens, DIMENSIONS))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(DIMENSIONS, 4 * DIMENSIONS)
        self.fc2 = nn.Linear(4 * DIMENSIONS, DIMENSIONS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(DIMENSIONS, eps=1e-6)
        self.attn = Attention()
        self.norm2 = nn.LayerNorm(DIMENSIONS, eps=1e-6)
        self.mlp = Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    """A picture cut into patches of 16 x 16, each a token."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, DIMENSIONS, PATCH, stride=PATCH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class VitTiny(nn.Module):
    """Pictures (N, 3, size, size), normalised -> scores (N, 1000)."""

    def __init__(self, size: int = 224) -> None:
        super().__init__()
        self.patch_embed = Patches()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIMENSIONS))
        self.pos_embed = nn.Parameter(torch.zeros(1, (size // PATCH) ** 2 + 1, DIMENSIONS))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(DIMENSIONS, eps=1e-6)
        self.head = nn.Linear(DIMENSIONS, 1000)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x)
        first = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat([first, x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])
