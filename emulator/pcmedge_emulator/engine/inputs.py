"""Inputs of an inference against the program that is to compute them."""

from __future__ import annotations

from collections.abc import Mapping

from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.inputs import Array, check_tensors


def check_inputs(program: ChipProgram, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], int]:
    """As :func:`pcmedge_emulator.inputs.check_tensors`, for the inputs of a program."""
    return check_tensors(program.inputs, inputs)
