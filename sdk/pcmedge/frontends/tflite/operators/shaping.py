"""Operators that move values without computing: reshape, transpose, pad, slice, split, concatenate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..builder import Builder
from ..elements import Unsupported
from ..layouts import CHANNELS_FIRST, PLAIN, Layout
from ..model import Operator
from .fused import NONE, activate


def _reshape(builder: Builder, operator: Operator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the shape is the one declared for the result (whatever computes it at run time
    follows the batch size alone)."""
    source, output = operator.inputs[0], operator.outputs[0]
    shape, target = builder.tensor(source).shape, builder.tensor(output).shape
    if builder.is_constant(source):
        builder.define(output, builder.constant(source).reshape(target))
        return
    if not target:
        raise Unsupported("its result is a scalar", "keep the batch axis as the first axis")
    made = builder.node("Reshape", [builder.read_rows(source), builder.target_shape(shape, target)], name=builder.label)
    builder.write(output, made, on_grid=builder.same_grid(source, output))


def _transpose(builder: Builder, operator: Operator) -> None:
    source, order = operator.inputs[:2]
    output = operator.outputs[0]
    rank = len(builder.tensor(source).shape)
    perm = [builder.axis(axis, rank) for axis in builder.integers(order)]
    if sorted(perm) != list(range(rank)):
        raise ValueError(f"permutation {perm} of {rank} axes")
    if builder.is_constant(source):
        builder.define(output, builder.constant(source).transpose(perm))
        return
    made = builder.node("Transpose", [builder.read(source)], name=builder.label, perm=perm)
    builder.write(output, made, on_grid=builder.same_grid(source, output))


def _pad(mode: str) -> Callable[[Builder, Operator], None]:
    def convert(builder: Builder, operator: Operator) -> None:
        source, amounts = operator.inputs[:2]
        output = operator.outputs[0]
        rank = len(builder.tensor(source).shape)
        values = builder.integers(amounts)
        if len(values) != 2 * rank or min(values) < 0:
            raise ValueError(f"paddings {values} of {rank} axes")
        layout = builder.common_layout([source])
        before, after = values[0::2], values[1::2]
        if layout is CHANNELS_FIRST:
            before, after = layout.order(before), layout.order(after)
        inputs = [builder.read(source, layout), builder.ints([*before, *after])]
        if mode == "constant" and len(operator.inputs) > 2:
            inputs.append(builder.store(builder.constant(operator.inputs[2]).reshape(()), f"{builder.label}/value"))
        if mode == "mirror":
            kind = {0: "reflect"}.get(operator.options.number("Mode"))
            if kind is None:
                raise Unsupported("its mode is SYMMETRIC", "pad with REFLECT or with zeros")
            made = builder.node("Pad", inputs, name=builder.label, mode=kind)
        else:
            made = builder.node("Pad", inputs, name=builder.label)
        # The zeros of PAD are real zeros, which have a code on every grid.
        builder.write(output, made, layout, on_grid=builder.same_grid(source, output) and len(inputs) == 2)

    return convert


def _concatenate(builder: Builder, operator: Operator) -> None:
    output = operator.outputs[0]
    sources = list(operator.inputs)
    rank = len(builder.tensor(output).shape)
    axis = builder.axis(operator.options.number("Axis"), rank)
    layout = builder.common_layout(sources)
    if any(len(builder.tensor(source).shape) != rank for source in sources):
        raise ValueError("operands of different rank")
    fused = operator.options.number("FusedActivationFunction")
    names = [builder.read(source, layout) for source in sources]
    made = builder.node("Concat", names, name=builder.label, axis=layout.axis(axis) if rank == 4 else axis)
    made = activate(builder, made, fused, output)
    on_grid = fused == NONE and all(builder.same_grid(source, output) for source in sources)
    builder.write(output, made, layout, on_grid=on_grid)


def _split(builder: Builder, operator: Operator) -> None:
    """Operands: axis, tensor."""
    axis, source = operator.inputs[:2]
    _split_into(builder, operator, source, builder.integers(axis)[0], ())


def _split_v(builder: Builder, operator: Operator) -> None:
    """Operands: tensor, sizes (one may be -1), axis."""
    source, lengths, axis = operator.inputs[:3]
    _split_into(builder, operator, source, builder.integers(axis)[0], builder.integers(lengths))


def _split_into(builder: Builder, operator: Operator, source: int, axis: int, sizes: Sequence[int]) -> None:
    shape = builder.tensor(source).shape
    axis = builder.axis(axis, len(shape))
    count = len(operator.outputs)
    if not sizes:
        sizes = [shape[axis] // count] * count
    sizes = [shape[axis] - sum(size for size in sizes if size >= 0) if size == -1 else size for size in sizes]
    if len(sizes) != count or sum(sizes) != shape[axis] or min(sizes) < 0:
        raise ValueError(f"{count} parts of {list(sizes)} from {shape[axis]}")
    layout = builder.common_layout([source])
    made = builder.nodes(
        "Split",
        [builder.read(source, layout), builder.ints(sizes)],
        count,
        name=builder.label,
        axis=layout.axis(axis) if len(shape) == 4 else axis,
    )
    for output, name in zip(operator.outputs, made, strict=True):
        builder.write(output, name, layout, on_grid=builder.same_grid(source, output))


def _slice(builder: Builder, operator: Operator) -> None:
    """Operands: tensor, begins, sizes (-1: to the end)."""
    source, begins, sizes = operator.inputs[:3]
    shape = builder.tensor(source).shape
    first, counts = builder.integers(begins), builder.integers(sizes)
    if len(first) != len(shape) or len(counts) != len(shape):
        raise ValueError(f"a slice from {first}, sizes {counts}, of {shape}")
    ends = [size if count == -1 else start + count for size, start, count in zip(shape, first, counts, strict=True)]
    _cut(builder, operator, list(zip(first, ends, [1] * len(shape), strict=True)), shrink=[], grow=[])


def _strided_slice(builder: Builder, operator: Operator) -> None:
    """Operands: tensor, begins, ends, strides; masks as in ``tf.strided_slice``."""
    options = operator.options
    shape = builder.tensor(operator.inputs[0]).shape
    begins, ends, strides = (builder.integers(index) for index in operator.inputs[1:4])
    masks = {
        name: int(options.number(name))
        for name in ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask")
    }
    if options.number("Offset"):
        ends = [begin + end for begin, end in zip(begins, ends, strict=True)]
    cuts: list[tuple[int, int, int]] = []
    shrink: list[int] = []
    grow: list[int] = []
    fresh = bin(masks["NewAxisMask"] & ((1 << len(begins)) - 1)).count("1")
    made = 0
    for position, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        bit = 1 << position
        if masks["EllipsisMask"] & bit:
            whole = len(shape) - (len(begins) - 1 - fresh)
            cuts += [(0, size, 1) for size in shape[len(cuts) : len(cuts) + whole]]
            made += whole
            continue
        if masks["NewAxisMask"] & bit:
            grow.append(made)
            made += 1
            continue
        size, axis = shape[len(cuts)], len(cuts)
        if stride == 0:
            raise ValueError("a stride of 0")
        if masks["ShrinkAxisMask"] & bit:
            start = builder.axis(begin, size)
            cuts.append((start, start + 1, 1))
            shrink.append(axis)
            continue
        made += 1
        cuts.append(_bounds(size, begin, end, stride, bool(masks["BeginMask"] & bit), bool(masks["EndMask"] & bit)))
    cuts += [(0, size, 1) for size in shape[len(cuts) :]]
    _cut(builder, operator, cuts, shrink, grow)


def _bounds(size: int, begin: int, end: int, stride: int, from_start: bool, to_end: bool) -> tuple[int, int, int]:
    """First index, end and step as Python's slices mean them, -1 as the end of a backward one included."""
    start, stop, step = slice(None if from_start else begin, None if to_end else end, stride).indices(size)
    return start, stop, step


def _cut(
    builder: Builder, operator: Operator, cuts: Sequence[tuple[int, int, int]], shrink: list[int], grow: list[int]
) -> None:
    source, output = operator.inputs[0], operator.outputs[0]
    shape = builder.tensor(source).shape
    layout = builder.common_layout([source]) if not shrink and not grow else PLAIN
    if 0 in shrink or 0 in grow:
        raise Unsupported("it removes or moves the batch axis", "keep the batch as the first axis")
    parts = [(axis, cut) for axis, cut in enumerate(cuts) if cut != (0, shape[axis], 1)]
    value = builder.read(source, layout)
    if parts:
        far = -(2**31)
        value = builder.node(
            "Slice",
            [
                value,
                builder.ints([start for _, (start, _, _) in parts]),
                # A backward slice to the front ends at -1, which ONNX would count from the back.
                builder.ints([far if step < 0 and stop < 0 else stop for _, (_, stop, step) in parts]),
                builder.ints([_place(layout, axis, shape) for axis, _ in parts]),
                builder.ints([step for _, (_, _, step) in parts]),
            ],
            name=builder.label,
        )
    if shrink:
        value = builder.node("Squeeze", [value, builder.ints(shrink)])
    if grow:
        value = builder.node("Unsqueeze", [value, builder.ints(grow)])
    if not parts and not shrink and not grow:
        value = builder.node("Identity", [value], name=builder.label)
    builder.write(output, value, layout, on_grid=builder.same_grid(source, output))


def _place(layout: Layout, axis: int, shape: Sequence[int]) -> int:
    return layout.axis(axis) if len(shape) == 4 else axis


CONVERTERS: dict[str, tuple[str, Callable[[Builder, Operator], None]]] = {
    "RESHAPE": ("", _reshape),
    "SQUEEZE": ("", _reshape),
    "EXPAND_DIMS": ("", _reshape),
    "TRANSPOSE": ("", _transpose),
    "PAD": ("", _pad("constant")),
    "PADV2": ("", _pad("constant")),
    "MIRROR_PAD": ("MirrorPadOptions", _pad("mirror")),
    "CONCATENATION": ("ConcatenationOptions", _concatenate),
    "SPLIT": ("SplitOptions", _split),
    "SPLIT_V": ("SplitVOptions", _split_v),
    "SLICE": ("", _slice),
    "STRIDED_SLICE": ("StridedSliceOptions", _strided_slice),
}
