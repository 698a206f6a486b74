"""Noise-aware training after Joshi et al. 2020 (Nat. Commun. 11:2473, Methods): attach, train as usual, remove."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from pcmedge.errors import InputTypeError, InputValueError, MissingExtraError
from pcmedge.training.settings import CLIP_SIGMA, ETA_JOSHI, NoiseSettings

if TYPE_CHECKING:
    from torch import nn


def noise_aware(
    model: nn.Module,
    *,
    eta: float = ETA_JOSHI,
    clip_sigma: float | None = CLIP_SIGMA,
    scaling: Literal["layer", "column"] = "layer",
    dac_bits: int | None = None,
    adc_bits: int | None = None,
    range_momentum: float = 0.1,
    exclude: Collection[str] = (),
    seed: int | None = None,
) -> NoiseAware:
    """Make every forward pass in train mode see the weights as the chip would hold them.

    Each call of an analog module (Linear, Conv1d, Conv2d, LSTM, MultiheadAttention) draws fresh Gaussian noise
    N(0, (eta * w_max)^2) on its weights; the gradient is that at the noisy weights and goes to the clean ones. With
    ``dac_bits`` / ``adc_bits`` its input / its output before the bias is rounded as by converters whose ranges follow
    the data, with straight-through gradients. In eval mode nothing happens at all. Class, parameters and
    ``state_dict`` keys of the model do not change.

    ``exclude``: names (as in ``model.named_modules()``) of layers to leave alone. ``seed``: noise from streams of its
    own; without it torch's global generator is used. Call ``handle.clip()`` after each ``optimizer.step()`` and
    ``handle.remove()`` at the end, or use the handle as a context manager.

    Source: Joshi et al. 2020: noise sigma = eta * w_max per layer with eta = 3.8 %, weights clipped to
    +-alpha * sigma_W with alpha 2.0 to 2.5 after every step.
    Raises InputTypeError (not a module, no analog layer, a parametrised weight, a setting of the wrong type),
    InputValueError (a setting out of
    range, an unknown name in ``exclude``, already noise-aware), MissingExtraError (no torch).
    """
    settings = NoiseSettings(
        eta=eta,
        clip_sigma=clip_sigma,
        scaling=scaling,
        dac_bits=dac_bits,
        adc_bits=adc_bits,
        range_momentum=range_momentum,
        seed=seed,
    )
    layers = _layers(model)
    if layers.attached_hooks(model):
        raise InputValueError("The model is already noise-aware; call NoiseAware.of(model).remove() first.")
    exclude = [exclude] if isinstance(exclude, str) else exclude
    if not isinstance(exclude, Collection):
        raise InputTypeError(f"exclude must be names of modules, found {exclude!r}.")
    unknown = sorted(set(exclude) - {name for name, _ in model.named_modules()})
    if unknown:
        raise InputValueError(f"exclude names no module of the model: {', '.join(unknown)}.")
    modules = layers.analog_modules(model, exclude)
    if not modules:
        raise InputTypeError(
            f"{type(model).__name__} has no analog layer to make noise-aware: expected at least one Linear, Conv1d, "
            "Conv2d, LSTM or MultiheadAttention that `exclude` does not name."
        )
    for name, module in modules.items():
        layers.LayerHook(name, module, settings).attach(module)
    return NoiseAware(model)


class NoiseAware:
    """The handle of a noise-aware model: clip after each step, remove at the end. Not thread-safe, like training.

    A deep copy or an unpickled whole module carries its hooks along; ``NoiseAware.of(copy)`` is its handle.
    """

    def __init__(self, model: nn.Module) -> None:
        self._hooks = _layers(model).attached_hooks(model)

    @classmethod
    def of(cls, model: nn.Module) -> NoiseAware:
        """The handle of a model that is noise-aware already. Raises InputValueError if it is not."""
        handle = cls(model)
        if not handle.layers:
            raise InputValueError("The model is not noise-aware; call noise_aware(model) first.")
        return handle

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are noisy in train mode; empty after ``remove()``."""
        return tuple(hook.name for _, hook in self._hooks)

    def clip(self) -> None:
        """Clamp every analog weight to +-clip_sigma standard deviations of its layer, in place.

        Call after ``optimizer.step()``. The LSTM's W and R of each level and direction count as layers of their own.
        Without it a few large weights set w_max and squeeze all others into the noise.
        """
        import torch

        from pcmedge.training.layers import analog_weights

        with torch.no_grad():
            for module, hook in self._hooks:
                hook.restore()
                alpha = hook.settings.clip_sigma
                if alpha is None:
                    continue
                for owner, name in analog_weights(module):
                    weight = owner._parameters[name]
                    assert weight is not None
                    if weight.numel() > 1:
                        bound = float(alpha * weight.std(correction=0))
                        weight.clamp_(-bound, bound)

    def converter_ranges(self) -> dict[str, tuple[float | None, float | None]]:
        """Per layer the tracked full scale of (DAC, ADC) in units of its input and output; None: no data."""
        return {
            hook.name: (hook.dac and hook.dac.full_scale, hook.adc and hook.adc.full_scale) for _, hook in self._hooks
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs beside the model's own ``state_dict``: tracked ranges and draws so far."""
        return {hook.name: hook.state() for _, hook in self._hooks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict()``. Raises InputValueError when it is of other layers, or no such state at all."""
        if set(state) != set(self.layers):
            raise InputValueError(
                f"The state is of layers {sorted(state)}, this model's noise-aware layers are {sorted(self.layers)}."
            )
        if strange := [name for name, one in state.items() if not isinstance(one, Mapping) or "draws" not in one]:
            raise InputValueError(
                f"The state of {', '.join(strange)} is not what NoiseAware.state_dict() gives: expected 'draws' in it."
            )
        for _, hook in self._hooks:
            hook.load_state(state[hook.name])

    def remove(self) -> None:
        """Take every hook off. The model is as it was, with the weights that training gave it. Idempotent."""
        for module, hook in self._hooks:
            hook.detach(module)
        self._hooks = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"NoiseAware({', '.join(self.layers) or 'removed'})"


def _layers(model: object) -> ModuleType:
    """The torch half of this package, once torch is there and the model is a module."""
    try:
        from torch import nn
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("train", "Noise-aware training") from error
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"Expected a torch.nn.Module, found {type(model).__name__}.")
    from pcmedge.training import layers

    return layers
