"""What the comparison takes for granted about aihwkit, and what its users trip over."""

from __future__ import annotations

import pytest
import torch
from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
from aihwkit.nn import AnalogLinear
from aihwkit.simulator.configs import TorchInferenceRPUConfig


def test_its_tiles_do_what_its_noise_model_does() -> None:
    """Bit for bit, so that comparing with the noise model is comparing with an aihwkit layer."""
    torch.manual_seed(0)
    wanted = torch.rand(32, 64) * 2 - 1
    wanted[0, 0] = 1
    config = TorchInferenceRPUConfig()
    config.forward.is_perfect = True
    config.drift_compensation = None
    config.noise_model = PCMLikeNoiseModel()
    config.mapping.weight_scaling_omega = 1.0
    layer = AnalogLinear(64, 32, bias=False, rpu_config=config).eval()
    layer.set_weights(wanted)
    (tile,) = layer.analog_tiles()

    torch.manual_seed(1)
    layer.program_analog_weights()
    programmed_by_tile = torch.as_tensor(tile.tile.get_weights()).clone()
    layer.drift_analog_weights(3600.0)
    drifted_by_tile = torch.as_tensor(tile.tile.get_weights()).clone()

    torch.manual_seed(1)
    model = PCMLikeNoiseModel()
    programmed, nu = model.apply_programming_noise(wanted)
    drifted = model.apply_drift_noise(programmed, nu, 3600.0)
    assert torch.equal(programmed_by_tile, programmed)
    assert torch.equal(drifted_by_tile, drifted)


def test_apply_noise_at_time_0_loses_the_conductances() -> None:
    with pytest.raises(ValueError, match="exactly two elements"):
        PCMLikeNoiseModel().apply_noise(torch.rand(4, 4), 0.0)


def test_own_coefficients_with_their_own_reference_fail() -> None:
    model = PCMLikeNoiseModel(prog_coeff=[0.2, 1.0, -1.0], prog_coeff_g_max_reference=25.0)
    with pytest.raises(AttributeError, match="prog_coeff_g_max_reference"):
        model.apply_programming_noise(torch.rand(4, 4))
