"""Named streams: the same name gives the same numbers, every other name independent ones."""

from __future__ import annotations

import itertools

import numpy as np
from confidence import assert_moments, quantile
from hypothesis import given
from hypothesis import strategies as st
from pcmedge_emulator.physics import stream

NAMES = st.tuples(
    st.text(max_size=8), st.integers(-(2**63), 2**64), st.text(max_size=8), st.lists(st.integers(), max_size=3)
)


def first(serial: str, seed: int, purpose: str, index: list[int]) -> list[int]:
    return stream(serial, seed, purpose, *index).integers(0, 2**63, 4).tolist()


@given(NAMES, NAMES)
def test_a_name_is_a_stream(one: tuple, other: tuple) -> None:
    assert first(*one) == first(*one)
    assert (first(*one) == first(*other)) == (one == other)


def test_names_that_read_alike_are_different_streams() -> None:
    names = [
        ("ab", 1, "c", []),
        ("a", 1, "bc", []),
        ("ab1", 1, "c", []),
        ("ab", 11, "c", []),
        ("ab", 1, "c", [1]),
        ("ab", 1, "c1", []),
        ("ab", 1, "c", [1, 1]),
        ("ab", 1, "c", [11]),
    ]
    assert len({tuple(first(*name)) for name in names}) == len(names)


def test_streams_are_standard_normal_and_uncorrelated() -> None:
    samples = [stream("chip", 0, "tile", tile).standard_normal(50_000, dtype=np.float32) for tile in range(8)]
    for values in samples:
        assert_moments(values, 0.0, 1.0, family=8)
    pairs = list(itertools.combinations(samples, 2))
    for one, other in pairs:
        assert abs(np.corrcoef(one, other)[0, 1]) <= quantile(len(pairs)) / np.sqrt(one.size)


def test_one_more_draw_changes_no_other_stream() -> None:
    before = first("chip", 3, "inference", [1])
    stream("chip", 3, "recalibration", 1).standard_normal(1000)
    assert first("chip", 3, "inference", [1]) == before
