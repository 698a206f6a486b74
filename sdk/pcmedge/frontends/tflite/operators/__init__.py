"""Converters of TFLite operators, by family. ``CONVERTERS`` maps an operator's kind to (options table, converter).

A converter reads tensors of the builder, emits ONNX nodes and writes the operator's outputs. It raises
:class:`~pcmedge.frontends.tflite.builder.Unsupported` for what it cannot express.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..builder import Builder
from ..model import Operator
from . import convolutions, dense, detection, elementwise, pooling, recurrent, resizing, shaping

Converter = Callable[[Builder, Operator], None]

CONVERTERS: Mapping[str, tuple[str, Converter]] = {
    **convolutions.CONVERTERS,
    **dense.CONVERTERS,
    **detection.CONVERTERS,
    **elementwise.CONVERTERS,
    **pooling.CONVERTERS,
    **recurrent.CONVERTERS,
    **resizing.CONVERTERS,
    **shaping.CONVERTERS,
}
