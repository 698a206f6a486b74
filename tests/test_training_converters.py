"""Converters in the forward pass of training."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pcmedge.errors import InputTypeError, InputValueError
from pcmedge.training import noise_aware
from torch import nn


def test_dac_rounds_the_input_to_unsigned_codes_of_the_tracked_range() -> None:
    layer = nn.Linear(4, 4, bias=False)
    nn.init.eye_(layer.weight)
    noise_aware(layer, eta=0.0, dac_bits=4)
    x = torch.tensor([[0.0, 0.31, 0.52, 1.5]])
    step = 1.5 / 15
    torch.testing.assert_close(layer(x), torch.round(x / step) * step)


def test_dac_becomes_symmetric_once_a_negative_input_was_seen() -> None:
    layer = nn.Linear(3, 3, bias=False)
    nn.init.eye_(layer.weight)
    noise_aware(layer, eta=0.0, dac_bits=4)
    x = torch.tensor([[-0.7, 0.2, 0.6]])
    step = 0.7 / 7
    torch.testing.assert_close(layer(x), torch.round(x / step) * step)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_adc_rounds_before_the_digital_bias(kind: str) -> None:
    torch.manual_seed(0)
    layer: nn.Module = nn.Linear(6, 3) if kind == "linear" else nn.Conv2d(2, 3, 3)
    x = torch.randn(4, 6) if kind == "linear" else torch.randn(4, 2, 5, 5)
    clean = layer(x).detach()
    assert isinstance(layer.bias, nn.Parameter)
    bias = layer.bias.detach().reshape((1, -1) if kind == "linear" else (1, -1, 1, 1))
    handle = noise_aware(layer, eta=0.0, adc_bits=5)
    quantised = layer(x).detach()
    [(_, full_scale)] = handle.converter_ranges().values()
    assert full_scale == pytest.approx(float((clean - bias).abs().max()))
    step = full_scale / 15
    codes = (quantised - bias) / step
    torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
    assert float((quantised - clean).abs().max()) <= step / 2 * 1.001


def test_gradient_passes_straight_through_inside_the_range_and_stops_outside() -> None:
    layer = nn.Linear(3, 3, bias=False)
    nn.init.eye_(layer.weight)
    noise_aware(layer, eta=0.0, dac_bits=8, range_momentum=0.5)
    layer(torch.tensor([[0.0, 0.5, 1.0]]))
    x = torch.tensor([[0.2, 0.7, 3.0]], requires_grad=True)  # range moves from 1 to 2, so 3 saturates
    y = layer(x)
    y.sum().backward()
    assert float(y[0, 2].detach()) == pytest.approx(2.0)
    torch.testing.assert_close(x.grad, torch.tensor([[1.0, 1.0, 0.0]]))


def test_ranges_survive_a_resumed_training_and_do_not_move_in_eval() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    handle = noise_aware(model, dac_bits=8, adc_bits=8, seed=1)
    x = torch.randn(8, 4)
    model(x)
    state, keys = handle.state_dict(), set(model.state_dict())
    model.eval()(10 * x)
    assert handle.state_dict() == state
    assert keys == {"0.weight", "0.bias", "2.weight", "2.bias"}
    resumed = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    resumed.load_state_dict(model.state_dict())
    other = noise_aware(resumed, dac_bits=8, adc_bits=8, seed=1)
    other.load_state_dict(state)
    assert torch.equal(model.train()(x), resumed.train()(x))
    with pytest.raises(InputValueError, match="of layers"):
        other.load_state_dict({})


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), -float("inf")])
def test_a_batch_that_is_not_finite_leaves_the_ranges_alone(strange: float) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    handle = noise_aware(model, eta=0.0, dac_bits=8, adc_bits=8)
    broken, whole = torch.rand(5, 5), torch.rand(5, 5)
    broken[2, 3] = strange
    model(broken)
    assert handle.converter_ranges() == {"0": (None, None), "2": (None, None)}
    model(whole)
    found = handle.converter_ranges()
    assert found["0"][0] == pytest.approx(float(whole.max()))
    model(broken)
    again = handle.converter_ranges()
    assert again["0"][0] == found["0"][0]
    assert all(math.isfinite(value) for pair in again.values() for value in pair if value is not None)
    assert model(whole).isfinite().all()


def test_a_state_that_is_none_is_refused() -> None:
    handle = noise_aware(nn.Linear(2, 2), dac_bits=8)
    before = handle.state_dict()
    with pytest.raises(InputValueError, match="expected 'draws'"):
        handle.load_state_dict({"": {}})
    assert handle.state_dict() == before


@pytest.mark.parametrize(
    "wrong", [{"dac_bits": 8.5}, {"adc_bits": True}, {"seed": 1.5}, {"eta": "x"}, {"exclude": 3}, {"clip_sigma": "2"}]
)
def test_settings_of_the_wrong_type_are_refused(wrong: dict[str, Any]) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(InputTypeError, match=next(iter(wrong))):
        noise_aware(model, **wrong)
    noise_aware(model)  # nothing was attached


def test_lstm_takes_quantised_inputs_packed_or_not() -> None:
    lstm = nn.LSTM(3, 4)
    handle = noise_aware(lstm, eta=0.0, dac_bits=2, adc_bits=8)
    x = torch.tensor([[[1.0, 0.4, 0.0]], [[0.9, 0.1, 0.6]]])
    step = 1.0 / 3
    output, _ = lstm(x)
    expected, _ = lstm.eval()(torch.round(x / step) * step)
    torch.testing.assert_close(output, expected)
    lstm.train()
    packed, _ = lstm(nn.utils.rnn.pack_padded_sequence(x, [2]))
    torch.testing.assert_close(nn.utils.rnn.pad_packed_sequence(packed)[0], expected)
    assert handle.converter_ranges() == {"": (1.0, None)}
