"""What a manifest names: the version of the format, features, segments. For writing one and for checking one."""

from __future__ import annotations

from typing import Final

from pcmedge._contract import image_pb2
from pcmedge._contract.image_pb2 import Manifest
from pcmedge.image.synthetic import LEAVES
from pcmedge.image.targets import FLOAT32

FORMAT_VERSION: Final = 1
BASE_FEATURE: Final = "pcm-analog-1"
KNOWN_FEATURES: Final = frozenset(
    {BASE_FEATURE, "lstm-1", "bias-row-1", "float-targets-1", "synthetic-buffer-1", "synthetic-buffer-2"}
)

PROGRAM, TARGETS, TILES, COLUMNS = "program", "targets", "tiles", "columns"
STATISTICS, BUFFER, REFERENCE = "statistics", "buffer", "reference"
TABLES: Final = (TILES, COLUMNS, STATISTICS, BUFFER, REFERENCE)
KINDS: Final[dict[str, image_pb2.SegmentKind]] = {
    PROGRAM: image_pb2.SEGMENT_KIND_ONNX,
    TARGETS: image_pb2.SEGMENT_KIND_RAW,
    **dict.fromkeys(TABLES, image_pb2.SEGMENT_KIND_ARROW),
}


def needed_features(manifest: Manifest) -> list[str]:
    """The required features an image with this manifest has to name, in order."""
    features = {BASE_FEATURE}
    if any(layer.operator == "AnalogLSTM" for layer in manifest.layers):
        features.add("lstm-1")
    if any(layer.bias == image_pb2.BIAS_PLACEMENT_ROW for layer in manifest.layers):
        features.add("bias-row-1")
    if any(segment.name == TARGETS and segment.dtype == FLOAT32 for segment in manifest.segments):
        features.add("float-targets-1")
    if manifest.calibration_buffer.kind == "synthetic":
        buffer = manifest.calibration_buffer
        newer = buffer.generator == LEAVES or len(buffer.chosen) > 0
        features.add("synthetic-buffer-2" if newer else "synthetic-buffer-1")
    return sorted(features)
