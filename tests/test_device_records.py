"""How a store writes values: what goes in comes out, whatever its names and numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pcmedge.errors import InputValueError
from pcmedge_emulator import codec
from pcmedge_emulator.calibration.policy import Policy, PolicyKind
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.outcomes import Event, Method, ModelInfo, ProgramOutcome, RollbackOutcome, TileProgramming
from pcmedge_emulator.records import ModelRecord, pack_parameters, unpack_parameters
from pcmedge_emulator.requests import KEPT_REQUESTS, Requests
from pcmedge_emulator.store import Store
from pcmedge_emulator.streams import cell_start_s, log_time_cell

floats = hnp.arrays(np.float32, hnp.array_shapes(max_dims=1, max_side=5), elements=st.floats(-1e6, 1e6, width=32))


@settings(deadline=None)
@given(st.dictionaries(st.text(), hnp.arrays(np.float32, hnp.array_shapes(), elements=st.floats(-1, 1, width=32))))
def test_arrays_come_back_under_any_name(arrays: dict[str, np.ndarray]) -> None:
    again = codec.unpack(codec.pack(arrays))
    assert list(again) == list(arrays)
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays)


@settings(max_examples=40, deadline=None)
@given(
    factors=st.dictionaries(st.integers(0, 10**6), st.one_of(st.floats(0.5, 16.0, width=32), floats), max_size=3),
    statistics=st.dictionaries(st.text(), st.tuples(floats, floats), max_size=3),
)
def test_parameters_come_back(factors: dict[int, object], statistics: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    wanted = Parameters(drift_factors=factors, statistics=statistics)  # type: ignore[arg-type]
    current, previous = unpack_parameters(pack_parameters(wanted, None))
    assert previous is None
    again, before = unpack_parameters(pack_parameters(Parameters(), wanted))
    assert (again.drift_factors, again.statistics) == ({}, {})
    assert before is not None
    for parameters in (current, before):
        assert set(parameters.drift_factors) == set(factors)
        assert all(np.array_equal(parameters.drift_factors[tile], factors[tile]) for tile in factors)  # type: ignore[arg-type]
        assert set(parameters.statistics) == set(statistics)
        for node, (mean, variance) in statistics.items():
            assert np.array_equal(parameters.statistics[node][0], mean)
            assert np.array_equal(parameters.statistics[node][1], variance)


@pytest.mark.parametrize(
    "value",
    [
        ModelRecord(
            name="ä/b",
            version=2**40,
            image_sha256=b"\x00\xff" * 16,
            active=True,
            physical=(3, 1, 2),
            program_generation=7,
            programmed_at_s=0.1,
            programmed_at_unix_s=1.7e9,
            policy=Policy(kind=PolicyKind.DRIFT, method=Method.GDC),
        ),
        Event(sequence=1, time_unix_s=1.0, device_time_s=2.0, kind="k", message="m", details={"a": "b"}),
        ProgramOutcome(
            model=ModelInfo(
                name="m",
                version=1,
                image_sha256=b"",
                active=False,
                tiles=1,
                program_generation=1,
                statistics_generation=0,
                programmed_at_unix_s=1.0,
                age_s=math.inf,
                size_bytes=1,
            ),
            replaced_models=("a", "b"),
            outage_s=0.5,
            tiles=(TileProgramming(tile=0, layer="l", converged_fraction=1.0, rms_error_microsiemens=0.5),),
        ),
    ],
)
def test_records_and_outcomes_come_back_equal(value: object) -> None:
    assert codec.decode(codec.encode(value), type(value)) == value


def test_answers_are_bounded_and_the_oldest_goes_first() -> None:
    store = Store(None)
    requests = Requests(store)
    for number in range(KEPT_REQUESTS + 3):
        with store.transaction() as transaction:
            answer = requests.write(
                transaction, f"id-{number}", "rollback", RollbackOutcome(statistics_generation=number)
            )
        requests.publish(f"id-{number}", answer)
    for known in (requests, Requests(store)):
        assert known.answered("id-2", "rollback", RollbackOutcome) is None
        assert known.answered("id-3", "rollback", RollbackOutcome) == RollbackOutcome(statistics_generation=3)
    assert len(store.items("requests")) == KEPT_REQUESTS
    with pytest.raises(InputValueError, match="128"), requests.claim("x" * 129):
        pass
    store.close()


@settings(deadline=None)
@given(cell=st.integers(0, 1000), ratio=st.floats(1.01, 3.0), t0_s=st.floats(1.0, 1000.0))
def test_a_cell_of_the_grid_begins_where_it_says(cell: int, ratio: float, t0_s: float) -> None:
    start_s = cell_start_s(cell, t0_s, ratio) if cell * math.log(ratio) < 600 else 0.0
    expected = cell if start_s else log_time_cell(0.0, t0_s, ratio)
    assert log_time_cell(start_s, t0_s, ratio) == expected
