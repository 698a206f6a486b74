"""Single devices: pcmedge's and aihwkit's have the same distributions, and a coefficient 5 % wrong would show.

A million devices in use and a million at RESET on each side, the same targets, every family of comparisons at 99.9 %.
"""

from __future__ import annotations

import pytest
from comparisons import MORE_CHIPS, NEEDS_MORE, device_comparisons, perturbed
from ks import assert_same, worst
from pcmedge_emulator.physics import get_technology
from samples import CHIPS, SHAPE, Devices, OurChips, TheirDevices, layer_codes, peer_model, sweep_codes

PCM = get_technology("pcm-90nm")
YEAR = {"1 year": 365 * 86_400.0}


def test_every_constant_is_the_same() -> None:
    model = peer_model("pcm-90nm")
    assert (model.t_0, model.t_read, model.g_max) == (PCM.t0_s, PCM.t_read_s, PCM.g_max_microsiemens)
    assert tuple(model.prog_coeff) == PCM.programming_sigma.coefficients
    assert model.prog_coeff_g_max_reference == PCM.g_max_reference_microsiemens


def test_devices_of_a_layer_at_five_ages() -> None:
    codes = layer_codes()
    ours = OurChips(codes, PCM, seed=1).devices()
    theirs = TheirDevices(codes, peer_model("pcm-90nm"), seed=2).devices()
    found = device_comparisons(ours, theirs, PCM)
    assert sum(each.size for each in found if each.quantity == "drift exponent") == 2 * CHIPS * SHAPE[0] * SHAPE[1]
    assert {each.moment for each in found} == {"programmed", "25 s", "1 hour", "1 day", "1 month", "1 year"}
    assert_same(found)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@pytest.mark.parametrize(
    ("name", "g_max"), [("pcm-90nm", 25.0), ("pcm-90nm", 10.0), ("pcm-14nm", 20.7), ("pcm-14nm-single", 10.35)]
)
def test_every_technology_over_the_whole_range(name: str, g_max: float) -> None:
    technology = get_technology(name).at_g_max(g_max)
    ours = OurChips(sweep_codes(), technology, seed=3).devices(YEAR)
    theirs = TheirDevices(sweep_codes(), peer_model(name, g_max), seed=4).devices(YEAR)
    assert_same(device_comparisons(ours, theirs, technology, YEAR))


@pytest.fixture(scope="module")
def reference() -> Devices:
    return TheirDevices(sweep_codes(), peer_model("pcm-90nm"), seed=4).devices(YEAR)


@pytest.mark.parametrize("coefficient", [name for name in perturbed(PCM) if name != NEEDS_MORE])
def test_a_coefficient_five_percent_wrong_shows(coefficient: str, reference: Devices) -> None:
    """What the comparisons above are worth; t_read, which stands in a logarithm, is compared as a constant instead."""
    wrong = perturbed(PCM)[coefficient]
    found = device_comparisons(OurChips(sweep_codes(), wrong, seed=3).devices(YEAR), reference, PCM, YEAR)
    assert worst(found).ratio(len(found)) > 1, worst(found)


def test_the_coefficient_that_needs_more_devices_to_show() -> None:
    reference = TheirDevices(sweep_codes(), peer_model("pcm-90nm"), chips=MORE_CHIPS, seed=6).devices({})
    right = OurChips(sweep_codes(), PCM, chips=MORE_CHIPS, seed=5).devices({})
    assert_same(device_comparisons(right, reference, PCM, {}))
    wrong = OurChips(sweep_codes(), perturbed(PCM)[NEEDS_MORE], chips=MORE_CHIPS, seed=5).devices({})
    found = device_comparisons(wrong, reference, PCM, {})
    assert worst(found).ratio(len(found)) > 1, worst(found)
