"""Verbs on the calibration buffer an application puts in place of the image's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pcmedge.errors import UnimplementedError

from pcmedge_emulator.driver.hardware import Arrays
from pcmedge_emulator.driver.recalibration import check_recalibrates
from pcmedge_emulator.driver.state import State
from pcmedge_emulator.inputs import check_tensors
from pcmedge_emulator.outcomes import BufferDescription, Mutation


def describe_buffer(state: State, name: str) -> BufferDescription:
    check_recalibrates(state, "buffer")
    return state.model(name).describe_buffer()


def set_buffer(
    state: State, name: str, samples: Arrays, *, append: bool, statistics: Any, mutation: Mutation
) -> BufferDescription:
    """``statistics`` of the samples: UnimplementedError for any."""
    check_recalibrates(state, "buffer")
    if statistics is not None:
        raise UnimplementedError("this chip takes samples without statistics", capability="buffer.statistics")
    verb = "append-buffer" if append else "replace-buffer"
    return state.once(
        mutation, verb, BufferDescription, lambda: _set_buffer(state, name, samples, append, verb, mutation)
    )


def _set_buffer(
    state: State, name: str, samples: Arrays, append: bool, verb: str, mutation: Mutation
) -> BufferDescription:
    with state.busy(""):
        model = state.model(name)
        state.check(mutation, model)
        checked, _ = check_tensors(model.inputs, samples)
        present = model.samples() if append else {}
        joined = {k: np.concatenate([present[k], v]) if k in present else v for k, v in checked.items()}
        changed = replace(model, buffer={key: values.copy() for key, values in joined.items()})
        outcome = changed.describe_buffer()
        text = f"The calibration buffer of '{name}' has {outcome.samples} samples of the application."
        event = state.event("buffer-changed", text, name)
        state.commit(events=[event], put=[changed], remember=(mutation, verb, outcome))
        return outcome
