"""Options no device has, ages no device reaches: refused before anything is made or moved."""

from __future__ import annotations

from typing import Any

import pcmedge
import pytest
from chip_models import digits_image
from pcmedge.errors import Error, InputTypeError, InputValueError
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"seed": "a"}, InputTypeError),
        ({"seed": 1.5}, InputTypeError),
        ({"seed": -1}, InputValueError),
        ({"seed": 2**63}, InputValueError),
        ({"serial": 5}, InputTypeError),
        ({"serial": ""}, InputValueError),
        ({"serial": "a\nb"}, InputValueError),
        ({"serial": "x" * 65}, InputValueError),
        ({"threads": 1.5}, InputTypeError),
        ({"threads": True}, InputTypeError),
        ({"threads": 0}, InputValueError),
        ({"threads": 10**9}, InputValueError),
        ({"store": 5}, InputTypeError),
        ({"profile": 5}, InputTypeError),
        ({"physics": 5}, InputValueError),
        ({"clock": []}, InputValueError),
        ({"clock": True}, InputValueError),
        ({"clock": 0}, InputValueError),
        ({"clock": float("nan")}, InputValueError),
        ({"clock": 1e10}, InputValueError),
        ({"engine": "slow"}, InputValueError),
    ],
)
def test_an_emulator_with_an_option_no_device_has_is_refused(options: dict[str, Any], kind: type[Error]) -> None:
    with pytest.raises(kind) as caught:
        pcmedge.Emulator(**options)
    (value,) = options.values()
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("by_s", [1.1e15, 1e30, 1.7e308])
def test_time_ends_before_single_precision_does(by_s: float) -> None:
    with Chip(clock=Clock.manual()) as chip:
        chip.program(digits_image())
        chip.advance(9e14)
        for _ in range(2):
            with pytest.raises(InputValueError, match="1e\\+15 s"):
                chip.advance(by_s)
        assert chip.clock().device_time_s == 9e14
        assert chip.self_test("digits").age_s == 9e14
