"""Reading a manifest whose hash was right: a hostile or broken writer can still have hashed nonsense."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from pcmedge._contract import image_pb2
from pcmedge._contract.image_pb2 import AnalogLayer, CalibrationBuffer, Manifest, Segment, TensorSpec, WeightBlock
from pcmedge.errors import ImageFeatureError, InputValueError
from pcmedge.image.datatypes import DATATYPES
from pcmedge.image.format import (
    HEADER_LENGTH,
    MAX_LAYERS,
    MAX_PROGRAM_LENGTH,
    MAX_SEGMENTS,
    MAX_SYNTHETIC_VALUES,
    MAX_TABLE_LENGTH,
    UPDATE,
    Bytes,
    Header,
    align,
    corrupt,
)
from pcmedge.image.interface import interface_problems
from pcmedge.image.manifest import (
    BUFFER,
    FORMAT_VERSION,
    KINDS,
    KNOWN_FEATURES,
    PROGRAM,
    TABLES,
    TARGETS,
    needed_features,
)
from pcmedge.image.naming import NAME
from pcmedge.image.profiles import check_profile
from pcmedge.image.synthetic import GENERATORS, MOST_CHOSEN
from pcmedge.image.targets import DTYPES

_OPERATOR_BLOCKS: Final = {
    "AnalogConv": ({"W"},),
    "AnalogGemm": ({"W"},),
    "AnalogLSTM": ({"W", "R"}, {"W", "R", "W_reverse", "R_reverse"}),
}


def parse_manifest(data: Bytes, header: Header) -> Manifest:
    """Parse and check the manifest; its hash has been checked by the caller.

    Raises ImageFeatureError for a newer format version or an unknown required feature, otherwise ImageCorruptError
    with ``check`` one of ``manifest-parse``, ``manifest-version``, ``manifest-features``, ``manifest-model``,
    ``manifest-profile``, ``manifest-segments``, ``segment-layout``, ``manifest-layers``, ``manifest-buffer``,
    ``manifest-application``, ``manifest-interface``.
    """
    manifest = Manifest()
    try:
        manifest.ParseFromString(bytes(data))
    except DecodeError as error:
        raise corrupt("manifest-parse", f"the manifest is not a protobuf message: {error}") from error
    _check_features(manifest)
    _check_model(manifest)
    try:
        check_profile(manifest.profile)
    except InputValueError as error:
        raise corrupt("manifest-profile", error.message) from error
    _check_buffer(manifest)
    _check_segments(manifest)
    _check_layout(manifest, header)
    _check_layers(manifest)
    _check_application(manifest)
    if problem := next(interface_problems(manifest), None):
        raise corrupt("manifest-interface", problem)
    return manifest


def _check_features(manifest: Manifest) -> None:
    if manifest.format_version == 0:
        raise corrupt("manifest-version", "the manifest has no format version")
    if manifest.format_version > FORMAT_VERSION:
        raise ImageFeatureError(
            f"chip image has format version {manifest.format_version}, this reader knows up to {FORMAT_VERSION}; "
            f"{UPDATE}",
            check="manifest-version",
            found=manifest.format_version,
            known=FORMAT_VERSION,
        )
    unknown = sorted(set(manifest.required_features) - KNOWN_FEATURES)
    if unknown:
        raise ImageFeatureError(
            f"chip image needs features this reader does not know: {', '.join(unknown)}; {UPDATE}",
            check="required-features",
            features=",".join(unknown),
        )
    missing = sorted(set(needed_features(manifest)) - set(manifest.required_features))
    if missing:
        raise corrupt("manifest-features", f"the image uses {', '.join(missing)} without requiring it")


def _check_model(manifest: Manifest) -> None:
    model = manifest.model
    if not NAME.fullmatch(model.name):
        raise corrupt("manifest-model", f"model name {model.name!r} is not 1 to 128 characters of [A-Za-z0-9._-]")
    if model.version == 0:
        raise corrupt("manifest-model", "the model has no version (1 or larger)")
    if model.onnx_opset == 0 or model.pcm_opset == 0:
        raise corrupt("manifest-model", "the opset versions of the program are missing")
    for side, specs in (("input", model.inputs), ("output", model.outputs)):
        names = [spec.name for spec in specs]
        if not names or "" in names or len(set(names)) != len(names):
            raise corrupt("manifest-model", f"{side} names are missing, empty or not unique")
        for spec in specs:
            _check_tensor(side, spec)


def _check_tensor(side: str, spec: TensorSpec) -> None:
    if spec.datatype not in DATATYPES:
        raise corrupt("manifest-model", f"{side} {spec.name!r} has unknown datatype {spec.datatype!r}")
    if not 1 <= len(spec.shape) <= 16 or spec.shape[0] != -1 or any(size == 0 or size < -1 for size in spec.shape):
        raise corrupt("manifest-model", f"{side} {spec.name!r} has shape {list(spec.shape)}, expected [-1, ...]")


def _check_segments(manifest: Manifest) -> None:
    segments = manifest.segments
    if len(segments) > MAX_SEGMENTS:
        raise corrupt("manifest-segments", f"{len(segments)} segments, at most {MAX_SEGMENTS}")
    names = [segment.name for segment in segments]
    if "" in names or len(set(names)) != len(names):
        raise corrupt("manifest-segments", "segment names are empty or not unique")
    needed = set(KINDS) - ({BUFFER} if manifest.calibration_buffer.kind != "stored" else set())
    missing = sorted(needed - set(names))
    if missing:
        raise corrupt("manifest-segments", f"segments are missing: {', '.join(missing)}")
    if BUFFER in names and BUFFER not in needed:
        raise corrupt("manifest-segments", "there is a segment 'buffer', but the calibration buffer is not stored")
    for segment in segments:
        _check_segment(segment)


def _check_segment(segment: Segment) -> None:
    name = segment.name
    if len(segment.sha256) != 32:
        raise corrupt("manifest-segments", f"segment {name!r} has a SHA-256 of {len(segment.sha256)} bytes")
    if name in KINDS and segment.kind != KINDS[name]:
        raise corrupt("manifest-segments", f"segment {name!r} has kind {segment.kind}, expected {KINDS[name]}")
    limit = {PROGRAM: MAX_PROGRAM_LENGTH, **dict.fromkeys(TABLES, MAX_TABLE_LENGTH)}.get(name)
    if limit is not None and segment.length > limit:
        raise corrupt("manifest-segments", f"segment {name!r} has {segment.length} bytes, at most {limit}")
    if name == TARGETS:
        shape = list(segment.shape)
        known = segment.dtype in DTYPES.values() and len(shape) == 1
        if not known or np.dtype(segment.dtype).itemsize * shape[0] != segment.length:
            raise corrupt(
                "manifest-segments",
                f"segment 'targets' has dtype {segment.dtype!r} and shape {shape} for {segment.length} bytes",
            )
    elif name in KINDS and (segment.dtype or segment.shape):
        raise corrupt("manifest-segments", f"segment {name!r} is not RAW, but has a dtype or shape")


def _check_layout(manifest: Manifest, header: Header) -> None:
    """Segments follow the manifest in order, each at the next multiple of 64, then the signature block."""
    position = HEADER_LENGTH + header.manifest_length
    for segment in manifest.segments:
        if segment.offset != align(position):
            raise corrupt(
                "segment-layout",
                f"segment {segment.name!r} begins at byte {segment.offset}, expected {align(position)}",
                segment=segment.name,
            )
        position = segment.offset + segment.length
        if position > header.file_length:
            raise corrupt(
                "segment-layout",
                f"segment {segment.name!r} ends at byte {position} of a file of {header.file_length}",
                segment=segment.name,
            )
    if header.signature_offset != align(position):
        raise corrupt(
            "segment-layout",
            f"the signature block begins at byte {header.signature_offset}, expected {align(position)}",
        )


def _check_layers(manifest: Manifest) -> None:
    names = [layer.name for layer in manifest.layers]
    if len(names) > MAX_LAYERS:
        raise corrupt("manifest-layers", f"{len(names)} layers, at most {MAX_LAYERS}")
    if "" in names or len(set(names)) != len(names):
        raise corrupt("manifest-layers", "layer names are empty or not unique")
    for layer in manifest.layers:
        _check_layer(layer, manifest.profile.dac_bits)


def _check_layer(layer: AnalogLayer, dac_bits: int) -> None:
    where = f"layer {layer.name!r}"
    allowed = _OPERATOR_BLOCKS.get(layer.operator)
    if allowed is None:
        raise corrupt("manifest-layers", f"{where} has unknown operator {layer.operator!r}", layer=layer.name)
    names = [block.name for block in layer.blocks]
    if set(names) not in allowed or len(set(names)) != len(names):
        raise corrupt("manifest-layers", f"{where} ({layer.operator}) has the weight blocks {names}", layer=layer.name)
    for block in layer.blocks:
        if min(block.rows, block.columns, block.groups) == 0:
            raise corrupt("manifest-layers", f"{where} block {block.name!r} is empty", layer=layer.name)
        if not (math.isfinite(block.dac_step) and block.dac_step > 0):
            raise corrupt("manifest-layers", f"{where}: dac_step {block.dac_step} is not positive", layer=layer.name)
        if not 0 <= block.dac_mean_square <= 1:
            raise corrupt(
                "manifest-layers", f"{where}: dac_mean_square {block.dac_mean_square} is not in 0..1", layer=layer.name
            )
        _check_bias_row(layer, block, where, dac_bits)
        if block.scaling not in ("layer", "column"):
            raise corrupt("manifest-layers", f"{where}: unknown scaling {block.scaling!r}", layer=layer.name)
    if (layer.statistics_kind in (image_pb2.STATISTICS_KIND_BATCH_NORM, image_pb2.STATISTICS_KIND_RECORDED)) != bool(
        layer.statistics_node
    ):
        raise corrupt("manifest-layers", f"{where}: statistics node and kind contradict each other", layer=layer.name)


def _check_bias_row(layer: AnalogLayer, block: WeightBlock, where: str, dac_bits: int) -> None:
    on_row = layer.bias == image_pb2.BIAS_PLACEMENT_ROW
    if on_row and layer.operator == "AnalogLSTM":
        raise corrupt("manifest-layers", f"{where} is an LSTM with a bias row", layer=layer.name)
    if on_row != bool(block.bias_code):
        raise corrupt("manifest-layers", f"{where}: bias row and its code contradict each other", layer=layer.name)
    largest = 2 ** (dac_bits - 1) - 1 if block.dac_signed else 2**dac_bits - 1
    if block.bias_code > largest:
        raise corrupt(
            "manifest-layers", f"{where}: bias_code {block.bias_code} is above the DAC's {largest}", layer=layer.name
        )
    if on_row and block.rows < 2:
        raise corrupt("manifest-layers", f"{where} has a bias row and no other", layer=layer.name)


def _check_buffer(manifest: Manifest) -> None:
    buffer = manifest.calibration_buffer
    if buffer.kind not in ("stored", "synthetic", "none"):
        raise corrupt("manifest-buffer", f"unknown kind of calibration buffer {buffer.kind!r}")
    if (buffer.samples > 0) != (buffer.kind != "none"):
        raise corrupt("manifest-buffer", f"calibration buffer of kind {buffer.kind!r} with {buffer.samples} samples")
    if buffer.has_reference_statistics and buffer.kind == "none":
        raise corrupt("manifest-buffer", "reference statistics without a calibration buffer")
    if buffer.kind == "synthetic":
        _check_synthetic(manifest, buffer)


def _check_synthetic(manifest: Manifest, buffer: CalibrationBuffer) -> None:
    if buffer.generator not in GENERATORS:
        raise corrupt("manifest-buffer", f"unknown generator {buffer.generator!r} of the synthetic buffer")
    if [made.name for made in buffer.inputs] != [spec.name for spec in manifest.model.inputs]:
        raise corrupt("manifest-buffer", "the synthetic buffer does not describe each model input, in order")
    if buffer.chosen and (len(buffer.chosen) != buffer.samples or max(buffer.chosen) >= MOST_CHOSEN):
        raise corrupt("manifest-buffer", f"{len(buffer.chosen)} numbers chosen for {buffer.samples} synthetic samples")
    if not math.isfinite(buffer.coverage):
        raise corrupt("manifest-buffer", f"coverage {buffer.coverage} of the synthetic buffer")
    cells = 0
    for made, spec in zip(buffer.inputs, manifest.model.inputs, strict=True):
        shape = list(made.shape)
        if len(shape) != len(spec.shape) - 1 or any(
            size == 0 or (fixed != -1 and size != fixed) for size, fixed in zip(shape, spec.shape[1:], strict=True)
        ):
            raise corrupt("manifest-buffer", f"synthetic {made.name!r} has shape {shape}, input {list(spec.shape)}")
        channels = shape[0] if len(shape) >= 3 else 1
        if len(made.mean) != channels or len(made.std) != channels:
            raise corrupt("manifest-buffer", f"synthetic {made.name!r}: expected {channels} means and deviations")
        values = (*made.mean, *made.std, made.minimum, made.maximum)
        if not all(map(math.isfinite, values)) or min(made.std) < 0 or made.minimum > made.maximum:
            raise corrupt("manifest-buffer", f"synthetic {made.name!r}: moments or range are not possible")
        cells += buffer.samples * math.prod(shape)
    if cells > MAX_SYNTHETIC_VALUES:
        raise corrupt("manifest-buffer", f"a synthetic buffer of {cells} values, at most {MAX_SYNTHETIC_VALUES}")


def _check_application(manifest: Manifest) -> None:
    application = manifest.application
    if application.class_output and application.class_output not in {spec.name for spec in manifest.model.outputs}:
        raise corrupt("manifest-application", f"class output {application.class_output!r} is not an output")
    if not application.HasField("preprocessing"):
        return
    step = application.preprocessing
    if step.input not in {spec.name for spec in manifest.model.inputs}:
        raise corrupt("manifest-application", f"preprocessing is for {step.input!r}, which is not an input")
    orders = {1: ("GRAY",), 3: ("RGB", "BGR")}.get(step.channels, ())
    if step.colour_order not in orders or step.layout not in ("NCHW", "NHWC", "NC"):
        raise corrupt(
            "manifest-application",
            f"preprocessing with {step.channels} channels, order {step.colour_order!r}, layout {step.layout!r}",
        )
    if not (0 < step.width <= 16384 and 0 < step.height <= 16384):
        raise corrupt("manifest-application", f"preprocessing to {step.width} x {step.height} pixels")
    values = (step.scale, *step.mean, *step.std)
    lengths = {len(step.mean), len(step.std)} - {0, step.channels}
    if lengths or not all(map(math.isfinite, values)) or min((step.scale, *step.std)) <= 0:
        raise corrupt("manifest-application", "scale, mean or std of the preprocessing are not possible")
