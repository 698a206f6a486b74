"""The configuration Triton's tools ask for before they send requests: tensors of one sample, and the largest batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pcmedge._contract import inference_pb2
from pcmedge._contract.image_pb2 import Model, TensorSpec
from pcmedge.protocol import tensors
from pcmedge.protocol.limits import MAX_MESSAGE_BYTES

_OVERHEAD_BYTES = 64 << 10
"""What a message holds beside tensors: names, shapes, parameters."""
_LARGEST = 2**31 - 1


def model_config(model: Model, platform: str) -> inference_pb2.ModelConfig:
    """Of one model of a manifest."""
    config = inference_pb2.ModelConfig(name=model.name, platform=platform, max_batch_size=_largest_batch(model))
    for spec in model.inputs:
        config.input.add(name=spec.name, data_type=_data_type(spec), dims=spec.shape[1:])
    for spec in model.outputs:
        config.output.add(name=spec.name, data_type=_data_type(spec), dims=spec.shape[1:])
    return config


def _data_type(spec: TensorSpec) -> str:
    return f"TYPE_{spec.datatype}"


def _largest_batch(model: Model) -> int:
    """Samples whose inputs, or outputs, fill one message; a variable dimension counts as 1."""

    def size(specs: Sequence[TensorSpec]) -> int:
        return sum(math.prod(max(n, 1) for n in s.shape[1:]) * tensors.dtype_of(s.datatype).itemsize for s in specs)

    sample_bytes = max(size(model.inputs), size(model.outputs), 1)
    return max(1, min((MAX_MESSAGE_BYTES - _OVERHEAD_BYTES) // sample_bytes, _LARGEST))
