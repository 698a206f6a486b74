"""Training a network for an analog chip: noise and converters in the forward pass, clipping after the step.

Two calls around your own loop, no trainer::

    handle = pcmedge.training.noise_aware(model, eta=0.038, clip_sigma=2.5)
    for inputs, targets in batches:
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        handle.clip()
    handle.remove()

Needs the ``train`` extra (torch) when called, not when imported.
"""

from __future__ import annotations

from pcmedge.training.noise_aware import NoiseAware, noise_aware
from pcmedge.training.settings import NoiseSettings

__all__ = ["NoiseAware", "NoiseSettings", "noise_aware"]
