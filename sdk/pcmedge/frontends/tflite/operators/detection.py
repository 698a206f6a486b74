"""TFLite_Detection_PostProcess: boxes decoded from anchors and non-maximum suppression, in standard ONNX operators.

Both modes of the TFLite kernel. *Fast* (the default) suppresses on the best class of each anchor and reports the best
``max_classes_per_detection`` classes of what survives; *regular* suppresses class by class and merges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..builder import Builder
from ..checked import guarded
from ..elements import Unsupported
from ..model import MAX_CUSTOM_OPTIONS, Operator

_MAX_DETECTIONS, _MAX_CLASSES = 4096, 65_536


@dataclass(frozen=True)
class Settings:
    """The operator's options; scales divide the encodings (y, x, h, w)."""

    detections: int
    classes: int
    per_detection: int
    per_class: int
    score: float
    overlap: float
    scales: tuple[float, float, float, float]
    regular: bool


def settings(custom: bytes) -> Settings:
    """From the flexbuffer in the file. CompileError if it is damaged."""
    from flatbuffers import flexbuffers

    with guarded("the options of TFLite_Detection_PostProcess"):
        if not 3 <= len(custom) <= MAX_CUSTOM_OPTIONS:
            raise ValueError(f"{len(custom)} bytes")
        table = flexbuffers.GetRoot(custom).AsMap

        def value(name: str, default: Any = None) -> Any:
            # The map's own lookup compares keys by bisection over offsets it does not check: scan the few keys.
            for position, key in enumerate(keys):
                if key == name:
                    return values[position].Value
            if default is None:
                raise KeyError(f"no '{name}'")
            return default

        if len(table) > 64:
            raise ValueError(f"{len(table)} options")
        keys = [str(key.AsKey) for key in table.Keys]
        if keys != sorted(keys):
            # TFLite's kernel finds keys by bisection, and reads whatever it ends at.
            raise ValueError("its keys are not in order")
        values = [table.Values[position] for position in range(len(keys))]
        found = Settings(
            detections=int(value("max_detections")),
            classes=int(value("num_classes")),
            per_detection=int(value("max_classes_per_detection")),
            per_class=int(value("detections_per_class", 100)),
            score=float(value("nms_score_threshold")),
            overlap=float(value("nms_iou_threshold")),
            scales=tuple(float(value(f"{name}_scale")) for name in "yxhw"),  # type: ignore[arg-type]
            regular=bool(value("use_regular_nms", False)),
        )
        sizes = (found.detections, found.per_class)
        fits = all(0 < size <= _MAX_DETECTIONS for size in sizes) and 0 < found.classes <= _MAX_CLASSES
        if not fits or not 0 < found.per_detection <= _MAX_DETECTIONS:
            raise ValueError(str(found))
        moderate = all(1e-6 <= abs(scale) <= 1e6 for scale in found.scales) and abs(found.score) <= 1e6
        if not 0 < found.overlap <= 1 or not moderate:
            raise ValueError(str(found))
    return found


def convert_detection(builder: Builder, operator: Operator) -> None:
    """Operands: box encodings [n, anchors, 4], scores [n, anchors, classes (+ background first)], anchors [anchors, 4].

    Results: boxes (ymin, xmin, ymax, xmax), classes, scores, number of detections; unused entries are zero.
    """
    options = settings(operator.custom)
    encodings, predictions, anchors = operator.inputs[:3]
    if len(operator.outputs) != 4:
        raise ValueError(f"{len(operator.outputs)} results")
    _, count, width = builder.tensor(encodings).shape
    classes = builder.tensor(predictions).shape
    reference = builder.constant(anchors).astype(np.float32)
    if reference.shape != (count, 4) or width != 4 or len(classes) != 3 or classes[1] != count:
        raise ValueError(f"anchors {reference.shape}, encodings of {width}, scores {classes}")
    background = classes[2] - options.classes
    if background not in (0, 1):
        raise Unsupported(f"{classes[2]} scores for {options.classes} classes", "one score per class and background")
    boxes = _decode(builder, builder.read(encodings), reference, options)
    scores = builder.read(predictions)
    if background:
        first = [builder.ints([value]) for value in (1, classes[2], 2)]
        scores = builder.node("Slice", [scores, *first])
    results = _regular(builder, boxes, scores, count, options) if options.regular else None
    results = results or _fast(builder, boxes, scores, count, options)
    for output, made in zip(operator.outputs, results, strict=True):
        builder.write(output, made)


def _decode(builder: Builder, encodings: str, anchors: np.ndarray[Any, Any], options: Settings) -> str:
    """Corners [n, anchors, 4] (ymin, xmin, ymax, xmax) of boxes given as offsets from anchors (y, x, h, w)."""
    halves = builder.nodes("Split", [encodings, builder.ints([2, 2])], 2, axis=2)
    y, x, h, w = options.scales
    size, centre = anchors[:, 2:], anchors[:, :2]
    shift = builder.store(size / np.array([y, x], np.float32), f"{builder.label}/shift")
    middle = builder.node("Mul", [halves[0], shift])
    middle = builder.node("Add", [middle, builder.store(centre, f"{builder.label}/centres")])
    stretch = builder.store(1 / np.array([h, w], np.float32), f"{builder.label}/stretch")
    half = builder.node("Exp", [builder.node("Mul", [halves[1], stretch])])
    half = builder.node("Mul", [half, builder.store(np.float32(0.5) * size, f"{builder.label}/half_sizes")])
    corners = [builder.node("Sub", [middle, half]), builder.node("Add", [middle, half])]
    return builder.node("Concat", corners, axis=2)


def _fast(builder: Builder, boxes: str, scores: str, count: int, options: Settings) -> tuple[str, str, str, str]:
    per = min(options.per_detection, options.classes)
    top = builder.nodes("TopK", [scores, builder.ints([per])], 2, axis=2)
    best = builder.node("ReduceMax", [scores, builder.ints([2])], keepdims=0)
    rows = builder.node("Unsqueeze", [best, builder.ints([1])])
    kept, order = _suppressed(builder, boxes, rows, count, options.detections, options)
    valid = builder.node("Cast", [builder.node("GreaterOrEqual", [kept, builder.number(0.0)])], to=1)
    number = builder.node("ReduceSum", [valid, builder.ints([1])], keepdims=0)
    kept_boxes = _picked(builder, boxes, order, valid)
    found_scores = _picked(builder, top[0], order, valid)
    found_classes = _picked(builder, builder.node("Cast", [top[1]], to=1), order, valid)
    rank = min(options.detections, count)
    slots = options.detections * options.per_detection
    # Each detection is reported once per class: its box is repeated.
    repeated = builder.node("Unsqueeze", [kept_boxes, builder.ints([2])])
    repeated = builder.node("Tile", [repeated, builder.ints([1, 1, per, 1])])
    return (
        _filled(builder, builder.node("Reshape", [repeated, builder.ints([0, rank * per, 4])]), slots - rank * per, 3),
        _filled(builder, builder.node("Reshape", [found_classes, builder.ints([0, rank * per])]), slots - rank * per),
        _filled(builder, builder.node("Reshape", [found_scores, builder.ints([0, rank * per])]), slots - rank * per),
        number,
    )


def _regular(builder: Builder, boxes: str, scores: str, count: int, options: Settings) -> tuple[str, str, str, str]:
    rows = builder.node("Transpose", [scores], perm=[0, 2, 1])
    kept, order = _suppressed(builder, boxes, rows, count, options.per_class, options)
    valid = builder.node("Cast", [builder.node("GreaterOrEqual", [kept, builder.number(0.0)])], to=1)
    number = builder.node("ReduceSum", [valid, builder.ints([1])], keepdims=0)
    anchors = builder.ints([count])
    box = builder.node("Mod", [order, anchors])
    kind = builder.node("Cast", [builder.node("Div", [order, anchors])], to=1)
    rank = min(options.detections, count * options.classes)
    missing = options.detections * options.per_detection - rank
    return (
        _filled(builder, _picked(builder, boxes, box, valid), missing, 3),
        _filled(builder, builder.node("Mul", [kind, valid]), missing),
        _filled(builder, builder.node("Mul", [kept, valid]), missing),
        number,
    )


def _suppressed(builder: Builder, boxes: str, rows: str, count: int, limit: int, options: Settings) -> tuple[str, str]:
    """Scores (-1: none) and flat indices (row * anchors + anchor) of the best survivors; ``rows``: [n, rows, anchors].

    NonMaxSuppression lists the survivors of all samples; scattered back to their places, TopK makes them a table.
    """
    threshold = float(np.nextafter(np.float32(options.score), np.float32(-np.inf)))
    chosen = builder.node(
        "NonMaxSuppression",
        [boxes, rows, builder.ints([limit]), builder.number(options.overlap), builder.number(threshold)],
        name=builder.label,
    )
    values = builder.node("GatherND", [rows, chosen])
    empty = builder.node("Add", [builder.node("Mul", [rows, builder.number(0.0)]), builder.number(-1.0)])
    placed = builder.node("ScatterND", [empty, chosen, values])
    flat = builder.node("Reshape", [placed, builder.ints([0, -1])])
    wide = count * (options.classes if options.regular else 1)
    found = builder.nodes("TopK", [flat, builder.ints([min(options.detections, wide)])], 2, axis=1)
    return found[0], found[1]


def _picked(builder: Builder, table: str, order: str, valid: str) -> str:
    """Rows [n, order, k] of a table [n, anchors, k]; zero where there is no detection."""
    places = builder.node("Unsqueeze", [order, builder.ints([2])])
    rows = builder.node("GatherND", [table, places], batch_dims=1)
    return builder.node("Mul", [rows, builder.node("Unsqueeze", [valid, builder.ints([2])])])


def _filled(builder: Builder, value: str, missing: int, rank: int = 2) -> str:
    """Zeros behind the entries of axis 1, up to the number of slots."""
    if missing <= 0:
        return value
    amounts = [0] * rank + [0, missing] + [0] * (rank - 2)
    return builder.node("Pad", [value, builder.ints(amounts)])


CONVERTERS = {"TFLite_Detection_PostProcess": ("", convert_detection)}
