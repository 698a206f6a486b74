"""Statistics averaged over several reads: each read has 1/f noise of its own, and averaging leaves less of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from chip_models import digits_image
from pcmedge.errors import InputTypeError, InputValueError
from pcmedge_emulator.calibration.adabs import MOST_READS, PAIRED_READS
from pcmedge_emulator.calibration.policy import MANUAL, Policy, PolicyKind
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from scipy.stats import f

YEAR_S = 365 * 86400.0
CHANNELS = 96 + 64


@pytest.fixture
def chip() -> Iterator[Chip]:
    with Chip(clock=Clock.manual(), default_policy=MANUAL, seed=1) as made:
        made.program(digits_image())
        made.advance(YEAR_S)
        yield made


def scatter(chip: Chip, reads: int, pairs: int = 3) -> float:
    """Mean square difference of two recalibrations at the same age, over channels and pairs."""
    squares = []
    for _ in range(pairs):
        chip.recalibrate("digits", force=True, reads=reads)
        squares.append(chip.recalibrate("digits", force=True, reads=reads).mean_shift ** 2)
    return float(np.mean(squares))


def test_the_scatter_of_the_statistics_falls_with_the_reads(chip: Chip) -> None:
    """1/n of the variance at n reads, at 99.9 % confidence.

    Channels of the second layer share the first one's noise, so they count a quarter.
    """
    freedom = 3 * (96 + 64 / 4)
    low, high = f.ppf([0.0005, 0.9995], freedom, freedom)
    assert low < scatter(chip, 1) / scatter(chip, 6) / 6.0 < high


def test_reads_are_as_asked_or_the_methods_default(chip: Chip) -> None:
    assert chip.recalibrate("digits").reads == PAIRED_READS == 8
    assert chip.recalibrate("digits", reads=3).reads == 3
    assert chip.recalibrate("digits", "adabs", force=True).reads == 1
    assert chip.recalibrate("digits", "adabs", force=True, reads=2).reads == 2
    assert chip.recalibrate("digits", "gdc", reads=3).reads == 1
    for wrong in (-1, MOST_READS + 1):
        with pytest.raises(InputValueError, match="reads"):
            chip.recalibrate("digits", reads=wrong)
        with pytest.raises(InputValueError, match="reads"):
            Policy(reads=wrong)
    with pytest.raises(InputTypeError, match="reads"):
        chip.recalibrate("digits", reads=2.5)  # type: ignore[arg-type]


def test_progress_counts_reads_and_a_cancellation_stops_between_two(chip: Chip) -> None:
    seen: list[tuple[str, int, int]] = []
    chip.recalibrate("digits", reads=3, progress=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "measure"] == [("measure", done, 3) for done in (1, 2, 3)]


def test_a_policy_has_its_reads() -> None:
    with Chip(clock=Clock.manual(), seed=1) as chip:
        chip.program(digits_image())
        assert chip.policy("digits")[0].kind is PolicyKind.LOG_TIME
        chip.advance(25.0)
        chip.set_policy("digits", Policy(reads=2))
        chip.advance(100.0)
        details = [event.details for event in chip.events() if event.kind.startswith("recalibrat")]
    assert [each["reads"] for each in details] == ["8", "2"]
    assert all(each["method"] == "adabs-paired" for each in details)
