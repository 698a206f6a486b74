"""Converters in the forward pass of training: rounding with straight-through gradients, ranges that follow the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


class StraightThroughConverter(torch.autograd.Function):
    """clip(round_half_even(x / step), low, high) * step; the gradient passes unchanged where nothing saturates.

    Bengio et al. 2013 (arXiv:1308.3432), straight-through. One function, because composed of rounding, clamping and
    detaching it would be a dozen passes over memory where this is four.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, step: float, low: int, high: int) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = (low * step, high * step)
        return x.div(step).round_().clamp_(low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        low, high = ctx.bounds
        return torch.ops.aten.hardtanh_backward(gradients[0], x, low, high), None, None, None


class TrackedConverter:
    """One converter (DAC or ADC) whose full scale follows the data: an exponential average of each batch's maximum.

    Unsigned (codes 0 .. 2^bits - 1) until a negative value is seen, and if ``signed`` was not asked for; then
    symmetric (codes +-(2^(bits-1) - 1)). The zero point is always 0, as on the chip. Values beyond the range saturate,
    and pass no gradient. A batch with NaN or infinity in it (as scaled losses make now and then) moves nothing.
    """

    def __init__(self, bits: int, momentum: float, *, signed: bool) -> None:
        self.bits = bits
        self.momentum = momentum
        self.signed = signed
        self.full_scale: float | None = None

    def levels(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def follow(self, x: torch.Tensor) -> None:
        """Move the range towards the largest |x| of this batch; the first one sets it."""
        if x.numel() == 0:
            return
        low, high = (float(bound) for bound in torch.aminmax(x.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            return  # one such batch would spoil the average for good
        self.signed = self.signed or low < 0.0
        largest = max(-low, high)
        previous = self.full_scale
        self.full_scale = largest if previous is None else previous + self.momentum * (largest - previous)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Follow x, then quantise it; same shape and unit as x. An all-zero history leaves x alone."""
        self.follow(x)
        if not self.full_scale:
            return x
        low, high = (-self.levels() if self.signed else 0), self.levels()
        apply: Callable[..., torch.Tensor] = StraightThroughConverter.apply
        return apply(x, self.full_scale / high, low, high)
