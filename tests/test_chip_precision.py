"""The arithmetic of an emulated chip from all its doors; and requests that never wait for the next snapshot."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pcmedge
import pytest
from chip_models import INPUT, OUTPUT, digits, digits_image
from cli_process import served
from numpy.typing import NDArray
from pcmedge.drift import DriftPlan, run_study
from pcmedge.errors import InputValueError, UnimplementedError
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.physics.curves import Curve
from pcmedge_emulator.physics.technology import get_technology

SLOW_S = 100.0


def pictures(count: int = 200) -> dict[str, NDArray[np.float32]]:
    return {INPUT: digits()[2][:count]}


def lived(precision: str, read_noise: str = "off") -> Chip:
    """A chip of an age, recalibrated in its own arithmetic."""
    chip = Chip(clock=Clock.manual(), seed=3, precision=precision, read_noise=read_noise, default_policy=MANUAL)
    chip.program(digits_image())
    chip.advance(86400.0)
    assert chip.recalibrate("digits", reads=1, force=True).committed
    return chip


def test_a_chip_in_turbo_decides_as_one_in_exact() -> None:
    with lived("exact") as exact, lived("turbo") as turbo:
        assert (exact.precision, turbo.precision) == ("exact", "turbo")
        expected = exact.infer("digits", pictures()).outputs[OUTPUT]
        found = turbo.infer("digits", pictures()).outputs[OUTPUT]
        assert not np.array_equal(found, expected)
        assert np.mean(found.argmax(1) == expected.argmax(1)) >= 0.97
        assert turbo.self_test("digits").agreement >= 0.9


def test_with_noise_of_each_product_turbo_is_exact() -> None:
    with lived("exact", "additive") as exact, lived("turbo", "additive") as turbo:
        expected = exact.infer("digits", pictures()).outputs[OUTPUT]
        assert np.array_equal(turbo.infer("digits", pictures()).outputs[OUTPUT], expected)


def test_clients_see_that_a_device_computes_in_turbo() -> None:
    for precision in ("exact", "turbo"):
        with pcmedge.Emulator(digits_image(), precision=precision, read_noise="off", threads=2) as device:
            assert ("infer.turbo" in device.identity().capabilities) is (precision == "turbo")
            assert device.infer(digits()[2][:4]).shape == (4, 10)


def test_serve_takes_the_arithmetic(tmp_path: Path) -> None:
    image = tmp_path / "digits.pcmi"
    digits_image().save(image)
    with served(image, "--precision", "turbo", "--read-noise", "off") as (url, _), pcmedge.connect(url) as device:
        assert "infer.turbo" in device.identity().capabilities


def test_a_drift_study_in_turbo_finds_the_accuracies_of_exact() -> None:
    x, labels = pictures(150), digits()[3][:150]
    studies = [
        run_study(
            digits_image(),
            x,
            labels,
            plan=DriftPlan(ages_s=("1d",), chips=2, modes=("gdc",), read_noise="off", precision=precision),
            workers=1,
        )
        for precision in ("exact", "turbo")
    ]
    exact, turbo = ([row.accuracy for row in study.rows] for study in studies)
    assert '"precision": "turbo"' in studies[1].plan.to_json()
    assert np.allclose(turbo, exact, atol=0.03)
    assert min(exact) > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "double"}, "exact, turbo"),
        ({"precision": "turbo", "engine": "reference"}, "reference"),
        ({"precision": "turbo", "converters": "ideal"}, "ideal"),
    ],
)
def test_turbo_is_refused_where_there_is_none(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputValueError, match=message):
        Chip(**options)


def test_a_plan_with_another_arithmetic_is_refused() -> None:
    with pytest.raises(InputValueError, match="'exact' or 'turbo'"):
        DriftPlan(precision="int4")  # type: ignore[arg-type]


def test_an_image_for_wide_converters_is_refused_in_turbo_and_nothing_is_changed() -> None:
    with Chip(clock=Clock.manual(), precision="turbo", read_noise="off") as chip:
        with pytest.raises(UnimplementedError, match="10-bit"):
            chip.program(wide_image())
        assert chip.models() == ()
        chip.program(digits_image())
        assert chip.infer("digits", pictures(2)).outputs[OUTPUT].shape == (2, 10)


def wide_image() -> pcmedge.ChipImage:
    from chip_models import digits_model
    from pcmedge.compiler.pipeline import compile as compile_image
    from pcmedge.image.profiles import profile

    return compile_image(
        digits_model(),
        digits()[0][:1],
        calibration=digits()[0][:64],
        profile=profile("pcm-512x512", adc_bits=10),
        name="wide",
    )


class Held:
    """A curve of the physics that is evaluated when the test lets it."""

    def __init__(self, curve: Curve) -> None:
        self.curve, self.asked, self.free = curve, threading.Event(), threading.Event()
        self.free.set()

    def __call__(self, g: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked.set()
        assert self.free.wait(SLOW_S)
        return self.curve(g)


CHANGES: dict[str, Callable[[Chip], object]] = {
    "ageing": lambda chip: chip.advance(1e6),
    "recalibration": lambda chip: chip.recalibrate("digits", reads=1, force=True, compare=False),
    "noise": lambda chip: chip.set_noise("input-dependent"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_requests_use_the_old_session_until_the_next_is_ready(change: str) -> None:
    preset = get_technology("pcm-90nm")
    held = Held(preset.read_noise_q)
    technology = dataclasses.replace(preset, name="held", read_noise_q=held)
    with Chip(clock=Clock.manual(), technology=technology, read_noise="off", default_policy=MANUAL) as chip:
        chip.program(digits_image())
        chip.advance(60.0)
        before = chip.infer("digits", pictures(20))
        held.free.clear()
        held.asked.clear()
        changing = threading.Thread(target=CHANGES[change], args=(chip,))
        changing.start()
        try:
            assert held.asked.wait(SLOW_S)
            for _ in range(3):
                during = chip.infer("digits", pictures(20))
                assert during.age_s == before.age_s
                assert during.statistics_generation == before.statistics_generation
                assert np.array_equal(during.outputs[OUTPUT], before.outputs[OUTPUT])
        finally:
            held.free.set()
            changing.join(SLOW_S)
        after = chip.infer("digits", pictures(20))
        assert not np.array_equal(after.outputs[OUTPUT], before.outputs[OUTPUT])
