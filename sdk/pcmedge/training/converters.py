"""Converters in the forward pass of training: rounding with straight-through gradients, ranges that follow the data."""

from __future__ import annotations

import torch


def straight_through_round(x: torch.Tensor) -> torch.Tensor:
    """Round half to even; the gradient passes as if nothing had happened (Bengio et al. 2013, straight-through)."""
    return x + (torch.round(x) - x).detach()


class TrackedConverter:
    """One converter (DAC or ADC) whose full scale follows the data: an exponential average of each batch's maximum.

    Unsigned (codes 0 .. 2^bits - 1) until a negative value is seen, and if ``signed`` was not asked for; then
    symmetric (codes +-(2^(bits-1) - 1)). The zero point is always 0, as on the chip. Values beyond the range saturate,
    and pass no gradient.
    """

    def __init__(self, bits: int, momentum: float, *, signed: bool) -> None:
        self.bits = bits
        self.momentum = momentum
        self.signed = signed
        self.full_scale: float | None = None

    def levels(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def follow(self, x: torch.Tensor) -> None:
        """Move the range towards the largest |x| of this batch; the first batch sets it."""
        if x.numel() == 0:
            return
        low, high = (float(bound) for bound in torch.aminmax(x.detach()))
        self.signed = self.signed or low < 0.0
        largest = max(-low, high)
        previous = self.full_scale
        self.full_scale = largest if previous is None else previous + self.momentum * (largest - previous)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Follow x, then quantise it; same shape and unit as x. An all-zero history leaves x alone."""
        self.follow(x)
        if not self.full_scale:
            return x
        step = self.full_scale / self.levels()
        low = -self.full_scale if self.signed else 0.0
        return straight_through_round(x.clamp(low, self.full_scale) / step) * step
