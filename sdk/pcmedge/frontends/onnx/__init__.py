"""ONNX file or ``ModelProto`` → checked float ONNX model of the pinned opset.

In this order: the file (:mod:`.reading`), the scikit-learn part of a pipeline (:mod:`.classical`), the operator
formats of quantised models (:mod:`.quantised`), types (:mod:`.precision`), the opset (:mod:`.opsets`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.errors import CompileError, MissingExtraError

if TYPE_CHECKING:
    import onnx

OPSET = 21
OLDEST_OPSET = 11
_LABELS = "pcmedge.labels"


def load(source: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    """Read, check and convert a model to opset 21; the source is not modified.

    Model-local functions are inlined, and so are newer operators that ONNX defines by older ones. Outputs that only
    name classes (scikit-learn's label output, ZipMap's dictionaries) are cut down to the scores; :func:`class_labels`
    knows the names. Integer operators of quantised models (QLinearConv and its kin) become float operators between
    DequantizeLinear and QuantizeLinear, float16 becomes float32. Files with external data are refused: an image is one
    file, and paths inside a model are not followed.

    Raises FileMissingError, CompileError (not ONNX, invalid, above 2 GiB, older than opset 11 or newer than the
    installed onnx, external data, not convertible), UnsupportedOperatorError (operators that no opset 21 runtime
    knows, all of them at once) and MissingExtraError without onnx.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "Reading an ONNX model") from error
    from pcmedge.compiler import support

    from . import classical, opsets, precision, quantised, reading

    model = reading.copy(source) if isinstance(source, onnx.ModelProto) else reading.read(Path(source))
    reading.refuse_external_data(model)
    opsets.require_known(model, OLDEST_OPSET, OPSET)
    reading.require_sound(model)
    model = opsets.inline(model, OPSET)
    try:
        labels = classical.cut_labels(model)
        if quantised.has_integer_operators(model) and opset_of(model) < quantised.OLDEST_OPSET:
            model = opsets.convert(model, OPSET)
        quantised.to_float_operators(model)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # These rewrites come before onnx.checker, which does not know the operators they are for.
        raise CompileError(
            "The ONNX model is not valid: a quantised or scikit-learn operator lacks an operand or an attribute "
            f"({reading.first_line(error)}). Export it again."
        ) from error
    support.require_known_operators(model)
    try:
        # Files whose outputs have no declared shape are common and run everywhere; the checker wants one.
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
    except Exception as error:
        raise CompileError(
            f"The ONNX model is not valid: {reading.first_line(error)}. Export it again until onnx.checker accepts it."
        ) from error
    model = opsets.convert(precision.widen(model), OPSET)
    if labels:
        onnx.helper.set_model_props(model, {_LABELS: json.dumps(labels)})
    return model


def class_labels(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the classes that a loaded model's label output named before it was cut; none if it had none."""
    found = next((entry.value for entry in model.metadata_props if entry.key == _LABELS), "[]")
    return tuple(json.loads(found))


def version() -> str:
    import onnx

    return str(onnx.__version__)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set the model was made for (0 if it names none)."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
