"""Which weights of a module the chip holds, and the hook that makes them noisy for the length of one forward call.

Hooks, because a hook leaves the class, the parameters and every key of ``state_dict`` as they are (a torch
parametrization renames ``weight`` to ``parametrizations.weight.original``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from pcmedge.errors import InputTypeError
from pcmedge.training.converters import TrackedConverter
from pcmedge.training.settings import NoiseSettings

ANALOG_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LSTM, nn.MultiheadAttention)

Weight = tuple[nn.Module, str]
"""The module that owns a weight, and the parameter's name in it."""


def analog_weights(module: nn.Module) -> list[Weight]:
    """The weights of one analog module (biases are digital). LSTM: W and R of every level and direction."""
    if isinstance(module, nn.MultiheadAttention):
        # Attention reads its projections itself and never calls out_proj, so out_proj's own hook would not run.
        names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        own: list[Weight] = [(module, name) for name in names if module._parameters.get(name) is not None]
        return [*own, (module.out_proj, "weight")]
    if isinstance(module, nn.LSTM):
        return [(module, name) for name in module._parameters if name.startswith("weight_")]
    return [(module, "weight")]


def analog_modules(model: nn.Module, exclude: Collection[str] = ()) -> dict[str, nn.Module]:
    """Every analog module of a model by its qualified name, each once, without those in or below ``exclude``.

    Raises InputTypeError when a weight is not a plain parameter (weight norm, spectral norm, ...).
    """
    found: dict[str, nn.Module] = {
        name: module for name, module in model.named_modules() if isinstance(module, ANALOG_MODULES)
    }
    inner = {id(module.out_proj) for module in found.values() if isinstance(module, nn.MultiheadAttention)}
    found = {
        name: module
        for name, module in found.items()
        if id(module) not in inner and not any(name == out or name.startswith(f"{out}.") for out in exclude)
    }
    for name, module in found.items():
        for owner, parameter in analog_weights(module):
            if not isinstance(owner._parameters.get(parameter), nn.Parameter):
                raise InputTypeError(
                    f"Layer '{name}' ({type(module).__name__}): expected '{parameter}' to be a plain parameter, found "
                    "one that is computed (weight norm, a parametrization) or not initialised. Remove the "
                    "parametrization, or leave the layer out with exclude=['" + name + "'].",
                    layer=name,
                )
    return found


def weight_maximum(weight: torch.Tensor, scaling: str) -> torch.Tensor:
    """w_max, the |weight| that maps to g_max: of the whole weight (shape ()), or of each output (outputs, 1, ...)."""
    magnitude = weight.detach().abs()
    if scaling == "layer":
        return magnitude.amax()
    return magnitude.amax(dim=tuple(range(1, magnitude.ndim)), keepdim=True)


class LayerHook:
    """Noise and converters of one analog module. Registered as its forward pre-hook (``before``) and hook (``after``).

    Between the two the parameter's place in the module holds ``clean + noise``: autograd takes the gradient at the
    noisy weights and hands it, unchanged, to the clean ones. Outside a forward call the module is untouched.
    """

    def __init__(self, name: str, module: nn.Module, settings: NoiseSettings) -> None:
        self.name = name
        self.settings = settings
        self.draws = 0
        momentum = settings.range_momentum
        attention = isinstance(module, nn.MultiheadAttention)
        recurrent = isinstance(module, nn.LSTM)
        self.dac = TrackedConverter(settings.dac_bits, momentum, signed=False) if settings.dac_bits else None
        # The ADC sits before the digital bias; inside LSTM cells and attention no hook reaches it.
        reachable = settings.adc_bits and not (attention or recurrent)
        self.adc = TrackedConverter(settings.adc_bits or 0, momentum, signed=True) if reachable else None
        self._clean: list[tuple[nn.Module, str, torch.Tensor]] = []

    def attach(self, module: nn.Module) -> None:
        module.register_forward_pre_hook(self.before, with_kwargs=True)
        module.register_forward_hook(self.after, always_call=True)

    def detach(self, module: nn.Module) -> None:
        """Undo ``attach``. By the hooks' owner and not by torch's handles, so that it works on a deep copy too."""
        self.restore()
        tables = (module._forward_pre_hooks, module._forward_hooks)
        flags = (module._forward_pre_hooks_with_kwargs, module._forward_hooks_always_called)
        for table, flag in zip(tables, flags, strict=True):
            for key in [key for key, hook in table.items() if getattr(hook, "__self__", None) is self]:
                del table[key]
                flag.pop(key, None)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.restore()  # a forward call that was interrupted from the keyboard never reached `after`
        if not module.training:
            return None
        for owner, name in analog_weights(module):
            clean = owner._parameters[name]
            assert clean is not None
            self._clean.append((owner, name, clean))
            _place(owner, name, self.noisy(clean, name))
        return self._converted(args, kwargs) if self.dac else None

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        self.restore()
        if self.adc is None or not module.training or not isinstance(output, torch.Tensor):
            return None
        bias: torch.Tensor | None = module._parameters.get("bias")
        if bias is None:
            return self.adc(output)
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            bias = bias.reshape(-1, *(1 for _ in module.kernel_size))
        return self.adc(output - bias) + bias

    def noisy(self, clean: torch.Tensor, parameter: str) -> torch.Tensor:
        """One fresh draw of clean + N(0, (eta * w_max)^2); differentiable in ``clean`` with gradient 1."""
        if self.settings.eta == 0.0:
            return clean + 0.0
        noise = torch.empty_like(clean, requires_grad=False)
        noise.normal_(generator=self._generator(parameter, clean.device))
        return clean + noise * (self.settings.eta * weight_maximum(clean, self.settings.scaling))

    def restore(self) -> None:
        """Put the clean parameters back; does nothing when they are in place."""
        while self._clean:
            owner, name, clean = self._clean.pop()
            _place(owner, name, clean)

    def state(self) -> dict[str, Any]:
        """Draws so far, and (signed, full scale) of each converter; plain values."""
        converters = {"dac": self.dac, "adc": self.adc}
        ranges = {key: (c.signed, c.full_scale) for key, c in converters.items() if c is not None}
        return {"draws": self.draws, **ranges}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.draws = int(state["draws"])
        for key, converter in (("dac", self.dac), ("adc", self.adc)):
            if converter is not None and key in state:
                converter.signed, converter.full_scale = state[key]

    def _generator(self, parameter: str, device: torch.device) -> torch.Generator | None:
        # A new generator per draw, keyed by seed, layer and draw: nothing to copy, pickle or keep per device.
        if self.settings.seed is None:
            return None
        self.draws += 1
        key = hashlib.sha256(f"{self.settings.seed}/{self.name}/{parameter}/{self.draws}".encode()).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(key[:7], "little"))

    def _converted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        assert self.dac is not None
        values = (*args, *kwargs.values())
        first = values[0] if values else None
        if isinstance(first, nn.utils.rnn.PackedSequence):
            converted: Any = first._replace(data=self.dac(first.data))
        elif isinstance(first, torch.Tensor) and first.is_floating_point():
            converted = self.dac(first)
        else:
            return args, kwargs
        # Self-attention passes one tensor three times; every use of it is the converted one.
        return (
            tuple(converted if value is first else value for value in args),
            {key: converted if value is first else value for key, value in kwargs.items()},
        )


def attached_hooks(model: nn.Module) -> list[tuple[nn.Module, LayerHook]]:
    """The hooks on a model, each with its module, in the order of ``model.modules()``."""
    owners = (
        (module, getattr(hook, "__self__", None))
        for module in model.modules()
        for hook in module._forward_pre_hooks.values()
    )
    return [(module, owner) for module, owner in owners if isinstance(owner, LayerHook)]


def _place(owner: nn.Module, name: str, value: torch.Tensor) -> None:
    """Put a tensor where a parameter is read from, without moving any key."""
    owner._parameters[name] = value  # type: ignore[assignment]
    if isinstance(owner, nn.RNNBase):
        # Recurrent modules read their weights from this list.
        owner._flat_weights[owner._flat_weights_names.index(name)] = value
