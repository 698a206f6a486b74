"""The presets: frozen, printable, with their sources."""

from __future__ import annotations

import dataclasses
import math

import pytest
from pcmedge.errors import InputValueError
from pcmedge_emulator.physics import TECHNOLOGIES, get_technology


def test_presets() -> None:
    assert set(TECHNOLOGIES) == {"pcm-90nm", "pcm-14nm", "pcm-14nm-single", "ideal"}
    for name, technology in TECHNOLOGIES.items():
        assert technology.name == name
        assert technology.source
        assert technology == eval(repr(technology), _names())
    old, new = get_technology("pcm-90nm"), get_technology("pcm-14nm")
    assert (old.g_max_microsiemens, old.t0_s, old.t_read_s) == (25.0, 20.0, 250e-9)
    assert (new.g_max_microsiemens, new.t0_s, new.t_read_s) == (20.7, 300.0, 512e-9)


def _names() -> dict[str, object]:
    from pcmedge_emulator.physics import curves, technology

    return {**vars(curves), **vars(technology)}


def test_a_preset_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_technology("pcm-90nm").t0_s = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        TECHNOLOGIES["mine"] = get_technology("ideal")  # type: ignore[index]


def test_a_technology_is_its_own_name() -> None:
    mine = dataclasses.replace(get_technology("pcm-90nm"), name="mine", t0_s=30.0)
    assert get_technology(mine) is mine


def test_an_unknown_technology_lists_the_known_ones() -> None:
    with pytest.raises(InputValueError, match=r"pcm-90nm, pcm-14nm, pcm-14nm-single, ideal; found 'reram'"):
        get_technology("reram")


@pytest.mark.parametrize("g_max", [0.0, -1.0, math.nan, math.inf])
def test_a_senseless_g_max_is_refused(g_max: float) -> None:
    with pytest.raises(InputValueError, match="g_max"):
        get_technology("pcm-90nm").at_g_max(g_max)
