"""The device's clock: never backwards, downtime counts on running clocks only."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pcmedge.errors import ClockError, InputValueError
from pcmedge_emulator import codec
from pcmedge_emulator.clock import Clock, ClockMode, ClockState


class Wall:
    """A wall clock that a test sets."""

    def __init__(self, unix_s: float = 1.7e9) -> None:
        self.unix_s = unix_s

    def __call__(self) -> float:
        return self.unix_s


def restarted(clock: Clock, wall: Wall, made: Clock | None = None) -> Clock:
    """The clock a device has after a restart from what it stored, through the store's own encoding."""
    state = codec.decode(codec.encode(clock.state()), ClockState)
    again = Clock.real(wall=wall) if made is None else made
    again.resume(state, keep_mode=made is not None)
    return again


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wall"), st.floats(-1e6, 1e6)),
        st.tuples(st.just("mode"), st.sampled_from(list(ClockMode))),
        st.tuples(st.just("advance"), st.floats(0.0, 1e8)),
        st.tuples(st.just("restart"), st.just(0.0)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps=steps, rate=st.floats(1e-3, 1e6))
def test_device_time_never_jumps_back(steps: list[tuple[str, float | ClockMode]], rate: float) -> None:
    wall = Wall()
    clock = Clock.real(wall=wall)
    last_s = clock.now()
    for kind, value in steps:
        if kind == "wall":
            wall.unix_s += float(value)
        elif kind == "mode":
            clock.set_mode(ClockMode(value), rate)
        elif kind == "restart":
            clock = restarted(clock, wall)
        elif clock.mode is not ClockMode.REAL:
            clock.advance(float(value))
        now_s = clock.now()
        assert now_s >= last_s
        last_s = now_s


@settings(deadline=None)
@given(rate=st.floats(1e-3, 1e6), elapsed_s=st.floats(0.0, 1e7))
def test_running_clocks_count_what_passes_and_a_manual_one_does_not(rate: float, elapsed_s: float) -> None:
    wall = Wall(0.0)
    clocks = [Clock.real(wall=wall), Clock.accelerated(rate, wall=wall), Clock.manual(wall=wall)]
    wall.unix_s += elapsed_s
    assert [clock.now() for clock in clocks] == pytest.approx([elapsed_s, elapsed_s * rate, 0.0])


def test_time_goes_on_from_where_it_was_when_the_wall_clock_is_set_back() -> None:
    wall = Wall()
    clock = Clock.real(wall=wall)
    wall.unix_s += 100.0
    assert clock.now() == pytest.approx(100.0)
    wall.unix_s -= 1e6
    assert clock.now() == pytest.approx(100.0)
    wall.unix_s += 5.0
    assert clock.now() == pytest.approx(105.0)


@pytest.mark.parametrize(
    ("made", "expected_s"),
    [(lambda w: Clock.real(wall=w), 3600.0), (lambda w: Clock.accelerated(10.0, wall=w), 36000.0)],
)
def test_downtime_counts_on_a_running_clock(made, expected_s: float) -> None:  # type: ignore[no-untyped-def]
    wall = Wall()
    clock = made(wall)
    wall.unix_s += 3600.0
    assert restarted(clock, wall).now() == pytest.approx(expected_s)
    stopped = clock.state()
    wall.unix_s += 7200.0
    again = Clock.real(wall=wall)
    again.resume(stopped)
    assert again.now() == pytest.approx(3.0 * expected_s)
    assert again.mode is clock.mode


def test_downtime_does_not_count_on_a_manual_clock() -> None:
    wall = Wall()
    clock = Clock.manual(wall=wall)
    clock.advance(50.0)
    wall.unix_s += 1e6
    assert restarted(clock, wall).now() == 50.0
    assert restarted(clock, wall).mode is ClockMode.MANUAL
    assert restarted(clock, wall, made=Clock.real(wall=wall)).mode is ClockMode.REAL


def test_a_wall_clock_set_back_while_off_costs_no_age() -> None:
    wall = Wall()
    clock = Clock.real(wall=wall)
    wall.unix_s += 10.0
    state = clock.state()
    wall.unix_s -= 1e9
    again = Clock.real(wall=wall)
    again.resume(state)
    assert again.now() == pytest.approx(10.0)


def test_a_real_clock_cannot_be_advanced() -> None:
    with pytest.raises(ClockError, match="manual"):
        Clock.real().advance(1.0)


@pytest.mark.parametrize("by_s", [-1.0, float("nan"), float("inf")])
def test_impossible_advances_are_refused(by_s: float) -> None:
    with pytest.raises(InputValueError):
        Clock.manual().advance(by_s)


@pytest.mark.parametrize(
    ("text", "mode", "rate"),
    [("real", "real", 1.0), ("manual", "manual", 0.0), ("x60", "accelerated", 60.0), (3600, "accelerated", 3600.0)],
)
def test_clocks_are_parsed(text: str | float, mode: str, rate: float) -> None:
    clock = Clock.parse(text)
    assert (clock.mode.value, clock.rate) == (mode, rate)


@pytest.mark.parametrize("text", ["fast", "", "-1", "0", "nan"])
def test_what_is_no_clock_is_refused(text: str) -> None:
    with pytest.raises(InputValueError):
        Clock.parse(text)
