"""Engines turn a chip program and the conductances of a moment into results. They know ONNX and arrays, no gRPC.

``ReferenceEngine`` is the definition (ONNX's reference evaluator, analog nodes in float64); ``FastEngine`` lowers the
program to plain ONNX for ONNX Runtime. Both take the same arguments and answer alike; docs/engine.md compares them.
"""

from pcmedge_emulator.engine.fast import FastEngine
from pcmedge_emulator.engine.inputs import check_inputs
from pcmedge_emulator.engine.program import AnalogLayer, BatchNorm, Block, ChipProgram, TensorSpec
from pcmedge_emulator.engine.reference import ReferenceEngine
from pcmedge_emulator.engine.resources import EngineMemory, available_cores, default_threads
from pcmedge_emulator.engine.state import Parameters, Precision, Snapshot

__all__ = [
    "AnalogLayer",
    "BatchNorm",
    "Block",
    "ChipProgram",
    "EngineMemory",
    "FastEngine",
    "Parameters",
    "Precision",
    "ReferenceEngine",
    "Snapshot",
    "TensorSpec",
    "available_cores",
    "check_inputs",
    "default_threads",
]
