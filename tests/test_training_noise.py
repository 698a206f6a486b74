"""Noise-aware training: what the forward pass sees, what the gradient is, what is left behind."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable

import pytest
import torch
from pcmedge.errors import InputTypeError, InputValueError
from pcmedge.training import NoiseAware, noise_aware
from torch import nn


class Recurrent(nn.Module):
    """Two bidirectional LSTM levels and a classifier of the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.lstm(x)
        return self.out(hidden[-1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3)
    )


def one_dimensional() -> nn.Module:
    return nn.Sequential(nn.Conv1d(3, 4, 3, groups=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6, 2))


MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (convolutional, (5, 2, 4, 4)),
    (one_dimensional, (5, 3, 8)),
    (Recurrent, (7, 5, 5)),
    (Attention, (3, 6, 8)),
]
every_model = pytest.mark.parametrize(("make", "shape"), MODELS, ids=[make.__name__ for make, _ in MODELS])


def make_case(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(7)
    return make(), torch.randn(shape)


@every_model
def test_eval_mode_is_bit_identical(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model, x = make_case(make, shape)
    model.eval()
    expected = model(x)
    noise_aware(model, eta=0.2, dac_bits=4, adc_bits=4)
    assert torch.equal(model(x), expected)


@every_model
def test_train_mode_is_noisy_afresh_each_time_and_leaves_the_weights_clean(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model, x = make_case(make, shape)
    before = {key: value.clone() for key, value in model.named_parameters()}
    model.train()
    noise_aware(model, eta=0.05)
    first, second = model(x), model(x)
    assert not torch.equal(first, second)
    assert all(torch.equal(value, before[key]) for key, value in model.named_parameters())


@every_model
def test_keys_order_and_classes_do_not_change_and_removal_leaves_nothing(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model, x = make_case(make, shape)
    keys, classes = list(model.state_dict()), [type(module) for module in model.modules()]
    parameters = [id(parameter) for parameter in model.parameters()]
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    handle = noise_aware(model, dac_bits=8, adc_bits=8)
    model(x).sum().backward()
    assert list(model.state_dict()) == keys
    assert [type(module) for module in model.modules()] == classes
    handle.remove()
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    tables = ("_forward_pre_hooks", "_forward_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called")
    assert not any(getattr(module, table) for module in model.modules() for table in tables)
    expected = copy.deepcopy(model).eval()(x)
    assert torch.equal(model.eval()(x), expected)


@pytest.mark.parametrize("scaling", ["layer", "column"])
def test_noise_has_mean_zero_and_standard_deviation_eta_times_w_max(scaling: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(20, 4, bias=False)
    eta, draws = 0.05, 4000
    w_max = layer.weight.detach().abs().amax() if scaling == "layer" else layer.weight.detach().abs().amax(1)
    noise_aware(layer, eta=eta, scaling=scaling, seed=3)  # type: ignore[arg-type]
    identity = torch.eye(20)
    with torch.no_grad():
        seen = torch.stack([layer(identity).T - layer.weight for _ in range(draws)])
    sigma = (eta * w_max).expand(4) if scaling == "layer" else eta * w_max
    for output in range(4):
        sample = seen[:, output]
        count = sample.numel()
        # 5 standard errors: a false alarm in 1 of 1.7 million for each of these 16 comparisons.
        assert abs(float(sample.mean())) < 5 * float(sigma[output]) / math.sqrt(count)
        assert float(sample.std()) == pytest.approx(float(sigma[output]), rel=5 / math.sqrt(2 * count))
    # Independent from weight to weight and from draw to draw: correlations of 4000 samples lie within 5 / sqrt(4000).
    flat = seen.reshape(draws, -1)
    assert abs(float(torch.corrcoef(torch.stack([flat[:, 0], flat[:, 1]]))[0, 1])) < 5 / math.sqrt(draws)
    assert abs(float(torch.corrcoef(torch.stack([flat[:-1, 0], flat[1:, 0]]))[0, 1])) < 5 / math.sqrt(draws - 1)


@every_model
def test_gradient_is_that_at_the_noisy_weights_and_lands_on_the_clean_ones(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model, x = make_case(make, shape)
    noisy = copy.deepcopy(model)
    seen: dict[str, torch.Tensor] = {}
    noise_aware(model, eta=0.1, seed=11)
    # A copy of the model whose own weights are those of the very same draw.
    from pcmedge.training.layers import analog_weights, attached_hooks

    twin = copy.deepcopy(model)
    names = {id(module): name for name, module in twin.named_modules()}
    for module, hook in attached_hooks(twin):
        for owner, weight in analog_weights(module):
            clean = owner._parameters[weight]
            assert clean is not None
            seen[f"{names[id(owner)]}.{weight}".lstrip(".")] = hook.noisy(clean, weight).detach()
    with torch.no_grad():
        for name, parameter in noisy.named_parameters():
            parameter.copy_(seen.get(name, parameter))
    x_model, x_noisy = x.clone().requires_grad_(), x.clone().requires_grad_()
    model(x_model).square().sum().backward()
    noisy(x_noisy).square().sum().backward()
    assert set(seen) <= set(dict(noisy.named_parameters()))
    for (name, ours), (_, theirs) in zip(model.named_parameters(), noisy.named_parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    torch.testing.assert_close(x_model.grad, x_noisy.grad)


@every_model
def test_clip_bounds_every_weight_by_alpha_standard_deviations(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model, x = make_case(make, shape)
    handle = noise_aware(model, clip_sigma=1.5)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model(x).sum().backward()
    optimizer.step()
    handle.clip()
    weights = [name for name, value in before.items() if value.ndim > 1]
    assert weights
    clipped = 0
    for name, value in model.named_parameters():
        if name in weights:
            bound = 1.5 * float(before[name].std(correction=0))
            assert float(value.detach().abs().max()) <= bound * (1 + 1e-6)
            clipped += int((before[name].abs() > bound).sum())
            inside = before[name].abs() <= bound
            assert torch.equal(value.detach()[inside], before[name][inside])
        else:
            assert torch.equal(value, before[name])
    assert clipped > 0


def test_seed_makes_the_noise_reproducible_and_leaves_torchs_generator_alone() -> None:
    model, x = make_case(convolutional, (5, 2, 4, 4))
    runs = []
    for _ in range(2):
        twin = copy.deepcopy(model)
        noise_aware(twin, seed=5)
        state = torch.get_rng_state()
        runs.append((twin(x), twin(x)))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[0][1])


def test_deep_copy_pickle_and_state_dict_travel() -> None:
    model, x = make_case(Recurrent, (7, 5, 5))
    handle = noise_aware(model, eta=0.1, seed=1)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    loaded = torch.load(stream, weights_only=False)
    duplicate = copy.deepcopy(model)
    expected = model(x)
    assert torch.equal(duplicate(x), expected)
    assert torch.equal(loaded(x), expected)
    plain = Recurrent()
    plain.load_state_dict(model.state_dict())
    handle.remove()
    assert torch.equal(model(x), plain(x))
    assert NoiseAware.of(duplicate).layers == ("lstm", "out")
    NoiseAware.of(duplicate).remove()
    assert torch.equal(duplicate(x), plain(x))


def test_a_failed_forward_and_a_context_manager_leave_clean_weights() -> None:
    layer = nn.Linear(3, 2)
    weight = layer.weight
    with noise_aware(layer, eta=0.5):
        with pytest.raises(RuntimeError, match="shapes"):
            layer(torch.ones(1, 4))
        assert layer.weight is weight
    assert not layer._forward_pre_hooks
    assert layer.weight is weight


def test_an_interrupted_forward_is_healed_by_the_next_call() -> None:
    class Interrupted(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    layer = Interrupted(3, 2)
    weight = layer.weight
    handle = noise_aware(layer)
    with pytest.raises(KeyboardInterrupt):
        layer(torch.ones(1, 3))
    handle.remove()
    assert layer.weight is weight


def test_excluded_layers_stay_exact() -> None:
    model, x = make_case(convolutional, (5, 2, 4, 4))
    handle = noise_aware(model, eta=0.3, exclude=["0"])
    assert handle.layers == ("4",)
    expected = nn.functional.conv2d(x, model[0].weight, model[0].bias, padding=1)  # type: ignore[index, arg-type]
    assert torch.equal(model[0](x), expected)  # type: ignore[index]


def test_training_with_noise_learns_through_clipping_and_converters() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 10)
    y = (x[:, 0] * x[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with noise_aware(model, eta=0.05, dac_bits=8, adc_bits=8, seed=0) as handle:
        for _ in range(150):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            handle.clip()
        assert all(dac and adc for dac, adc in handle.converter_ranges().values())
    assert float((model.eval()(x).argmax(1) == y).float().mean()) > 0.9


def test_mistakes_are_named() -> None:
    with pytest.raises(InputTypeError, match=r"torch\.nn\.Module"):
        noise_aware("model")  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="no analog layer"):
        noise_aware(nn.Sequential(nn.ReLU()))
    with pytest.raises(InputValueError, match="names no module"):
        noise_aware(nn.Sequential(nn.Linear(2, 2)), exclude=["head"])
    with pytest.raises(InputTypeError, match="plain parameter"):
        noise_aware(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))))
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(InputValueError, match="not noise-aware"):
        NoiseAware.of(model)
    noise_aware(model)
    with pytest.raises(InputValueError, match="already"):
        noise_aware(model)
    for wrong in ({"eta": -0.1}, {"clip_sigma": 0.0}, {"dac_bits": 1}, {"range_momentum": 0.0}, {"scaling": "tile"}):
        with pytest.raises(InputValueError):
            noise_aware(nn.Linear(2, 2), **wrong)  # type: ignore[arg-type]
