"""Net weights: what aihwkit does with a layer differs from ours in two known ways, and in nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from comparisons import VARIANTS, Spread, weight_comparisons
from ks import Comparison, assert_same
from pcmedge_emulator.physics import get_technology
from samples import MOMENTS, OurChips, TheirChips, layer_codes

CODES = layer_codes()
DAY_S = MOMENTS["1 day"]
Chips = tuple[OurChips, TheirChips]
Results = dict[str, tuple[list[Comparison], Spread]]


@pytest.fixture(scope="module")
def chips() -> Chips:
    return OurChips(CODES, get_technology("pcm-90nm"), seed=1), TheirChips(CODES, seed=2)


@pytest.fixture(scope="module")
def results(chips: Chips) -> Results:
    return {variant: weight_comparisons(*chips, variant) for variant in VARIANTS}


def _compensated(found: list[Comparison], *moments: str) -> list[Comparison]:
    return [each for each in found if each.quantity == "compensated weight error" and each.moment in moments]


def test_with_both_differences_given_up_nothing_is_left(results: Results) -> None:
    found, _ = results["both"]
    assert {each.moment for each in found} == {"programmed", "first read", *MOMENTS}
    assert_same(found)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "both"])
def test_either_difference_alone_shows_from_an_hour_on(variant: str, results: Results) -> None:
    found, _ = results[variant]
    apart = _compensated(found, "1 hour", "1 day", "1 month", "1 year")
    assert len(apart) == 4
    assert [each for each in apart if each.ratio(len(found)) <= 1] == []


def test_programmed_weights_agree_as_they_are(results: Results) -> None:
    found, _ = results["as they are"]
    assert_same([each for each in found if each.moment == "programmed"])


def test_the_differences_are_small(results: Results) -> None:
    _, spread = results["as they are"]
    for moment in MOMENTS:
        ours, theirs = spread["compensated weight error", moment]
        assert 0.95 < ours / theirs < 1, moment


def test_only_the_device_of_one_sign_survives_in_aihwkit(chips: Chips) -> None:
    ours, theirs = chips
    stored = theirs.stored_devices().reshape(2, -1)
    assert np.count_nonzero((stored > 0).all(axis=0)) == 0
    both = np.concatenate([((tile.g_plus > 0) & (tile.g_minus > 0)).reshape(-1) for tile in ours.tiles])
    assert 0.45 < both.mean() < 0.55


def test_aihwkit_maps_the_largest_programmed_weight_to_g_max(chips: Chips) -> None:
    _, theirs = chips
    per_chip = theirs.stored_devices().reshape(2, len(theirs.chips), -1).max(axis=(0, 2))
    np.testing.assert_allclose(per_chip, 25.0, rtol=1e-6)
    largest = [float(programmed.abs().max()) for programmed, _ in theirs.chips]
    assert min(largest) > 1.05


def test_a_moment_is_one_realisation_here_and_a_new_one_at_every_call_there(chips: Chips) -> None:
    ours, theirs = chips
    np.testing.assert_array_equal(ours.weights(DAY_S), ours.weights(DAY_S))
    assert np.mean(theirs.weights(DAY_S) == theirs.weights(DAY_S)) < 0.01
