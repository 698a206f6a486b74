"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR, and the regrouping of pixels into channels."""

from __future__ import annotations

from collections.abc import Callable

from ..builder import Builder
from ..layouts import CHANNELS_FIRST
from ..model import Operator


def _resize(mode: str) -> Callable[[Builder, Operator], None]:
    def convert(builder: Builder, operator: Operator) -> None:
        options = operator.options
        source, output = operator.inputs[0], operator.outputs[0]
        sizes = builder.tensor(output).shape[1:3]
        aligned, half = bool(options.number("AlignCorners")), bool(options.number("HalfPixelCenters"))
        coordinates = "align_corners" if aligned else "half_pixel" if half else "asymmetric"
        # TFLite's nearest neighbour is the pixel at floor(x * scale), at floor((x + 0.5) * scale), or the rounded one.
        nearest = "round_prefer_ceil" if aligned or half else "floor"
        attrs = {"nearest_mode": nearest} if mode == "nearest" else {}
        made = builder.node(
            "Resize",
            [builder.read(source, CHANNELS_FIRST), "", "", builder.ints(sizes)],
            name=builder.label,
            axes=[2, 3],
            coordinate_transformation_mode=coordinates,
            mode=mode,
            **attrs,
        )
        same = mode == "nearest" and builder.same_grid(source, output)
        builder.write(output, made, CHANNELS_FIRST, on_grid=same)

    return convert


def _depth_to_space(builder: Builder, operator: Operator) -> None:
    source, output = operator.inputs[0], operator.outputs[0]
    block = int(operator.options.number("BlockSize"))
    value = builder.read(source, CHANNELS_FIRST)
    made = builder.node("DepthToSpace", [value], name=builder.label, blocksize=block, mode="DCR")
    builder.write(output, made, CHANNELS_FIRST, on_grid=builder.same_grid(source, output))


def _space_to_depth(builder: Builder, operator: Operator) -> None:
    source, output = operator.inputs[0], operator.outputs[0]
    block = int(operator.options.number("BlockSize"))
    made = builder.node("SpaceToDepth", [builder.read(source, CHANNELS_FIRST)], name=builder.label, blocksize=block)
    builder.write(output, made, CHANNELS_FIRST, on_grid=builder.same_grid(source, output))


CONVERTERS: dict[str, tuple[str, Callable[[Builder, Operator], None]]] = {
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", _resize("linear")),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", _resize("nearest")),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", _depth_to_space),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", _space_to_depth),
}
