from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SegmentKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEGMENT_KIND_UNSPECIFIED: _ClassVar[SegmentKind]
    SEGMENT_KIND_ONNX: _ClassVar[SegmentKind]
    SEGMENT_KIND_RAW: _ClassVar[SegmentKind]
    SEGMENT_KIND_ARROW: _ClassVar[SegmentKind]

class StatisticsKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATISTICS_KIND_UNSPECIFIED: _ClassVar[StatisticsKind]
    STATISTICS_KIND_NONE: _ClassVar[StatisticsKind]
    STATISTICS_KIND_BATCH_NORM: _ClassVar[StatisticsKind]
    STATISTICS_KIND_RECORDED: _ClassVar[StatisticsKind]

class BiasPlacement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BIAS_PLACEMENT_UNSPECIFIED: _ClassVar[BiasPlacement]
    BIAS_PLACEMENT_NONE: _ClassVar[BiasPlacement]
    BIAS_PLACEMENT_DIGITAL: _ClassVar[BiasPlacement]
    BIAS_PLACEMENT_ROW: _ClassVar[BiasPlacement]
SEGMENT_KIND_UNSPECIFIED: SegmentKind
SEGMENT_KIND_ONNX: SegmentKind
SEGMENT_KIND_RAW: SegmentKind
SEGMENT_KIND_ARROW: SegmentKind
STATISTICS_KIND_UNSPECIFIED: StatisticsKind
STATISTICS_KIND_NONE: StatisticsKind
STATISTICS_KIND_BATCH_NORM: StatisticsKind
STATISTICS_KIND_RECORDED: StatisticsKind
BIAS_PLACEMENT_UNSPECIFIED: BiasPlacement
BIAS_PLACEMENT_NONE: BiasPlacement
BIAS_PLACEMENT_DIGITAL: BiasPlacement
BIAS_PLACEMENT_ROW: BiasPlacement

class Manifest(_message.Message):
    __slots__ = ("format_version", "required_features", "optional_features", "model", "profile", "segments", "layers", "placement", "application", "provenance", "calibration_buffer")
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FEATURES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_BUFFER_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    required_features: _containers.RepeatedScalarFieldContainer[str]
    optional_features: _containers.RepeatedScalarFieldContainer[str]
    model: Model
    profile: ChipProfile
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    layers: _containers.RepeatedCompositeFieldContainer[AnalogLayer]
    placement: PlacementReport
    application: Application
    provenance: Provenance
    calibration_buffer: CalibrationBuffer
    def __init__(self, format_version: _Optional[int] = ..., required_features: _Optional[_Iterable[str]] = ..., optional_features: _Optional[_Iterable[str]] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., profile: _Optional[_Union[ChipProfile, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., layers: _Optional[_Iterable[_Union[AnalogLayer, _Mapping]]] = ..., placement: _Optional[_Union[PlacementReport, _Mapping]] = ..., application: _Optional[_Union[Application, _Mapping]] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., calibration_buffer: _Optional[_Union[CalibrationBuffer, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "description", "inputs", "outputs", "onnx_opset", "pcm_opset")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ONNX_OPSET_FIELD_NUMBER: _ClassVar[int]
    PCM_OPSET_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    description: str
    inputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    onnx_opset: int
    pcm_opset: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., description: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., onnx_opset: _Optional[int] = ..., pcm_opset: _Optional[int] = ...) -> None: ...

class TensorSpec(_message.Message):
    __slots__ = ("name", "datatype", "shape", "quantization")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    datatype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    quantization: Quantization
    def __init__(self, name: _Optional[str] = ..., datatype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., quantization: _Optional[_Union[Quantization, _Mapping]] = ...) -> None: ...

class Quantization(_message.Message):
    __slots__ = ("datatype", "scale", "zero_point")
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    datatype: str
    scale: float
    zero_point: int
    def __init__(self, datatype: _Optional[str] = ..., scale: _Optional[float] = ..., zero_point: _Optional[int] = ...) -> None: ...

class ChipProfile(_message.Message):
    __slots__ = ("name", "tile_rows", "tile_columns", "tiles", "dac_bits", "adc_bits", "g_max_microsiemens", "connect_idle", "adc_gain_spread", "adc_offset_spread_codes", "ir_drop", "wire_resistance_ohm", "stuck_at_reset_share", "stuck_at_g_max_share", "stuck_at_random_share", "dead_rows_per_tile", "dead_columns_per_tile", "lost_tile_share")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TILE_ROWS_FIELD_NUMBER: _ClassVar[int]
    TILE_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    DAC_BITS_FIELD_NUMBER: _ClassVar[int]
    ADC_BITS_FIELD_NUMBER: _ClassVar[int]
    G_MAX_MICROSIEMENS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_IDLE_FIELD_NUMBER: _ClassVar[int]
    ADC_GAIN_SPREAD_FIELD_NUMBER: _ClassVar[int]
    ADC_OFFSET_SPREAD_CODES_FIELD_NUMBER: _ClassVar[int]
    IR_DROP_FIELD_NUMBER: _ClassVar[int]
    WIRE_RESISTANCE_OHM_FIELD_NUMBER: _ClassVar[int]
    STUCK_AT_RESET_SHARE_FIELD_NUMBER: _ClassVar[int]
    STUCK_AT_G_MAX_SHARE_FIELD_NUMBER: _ClassVar[int]
    STUCK_AT_RANDOM_SHARE_FIELD_NUMBER: _ClassVar[int]
    DEAD_ROWS_PER_TILE_FIELD_NUMBER: _ClassVar[int]
    DEAD_COLUMNS_PER_TILE_FIELD_NUMBER: _ClassVar[int]
    LOST_TILE_SHARE_FIELD_NUMBER: _ClassVar[int]
    name: str
    tile_rows: int
    tile_columns: int
    tiles: int
    dac_bits: int
    adc_bits: int
    g_max_microsiemens: float
    connect_idle: bool
    adc_gain_spread: float
    adc_offset_spread_codes: float
    ir_drop: float
    wire_resistance_ohm: float
    stuck_at_reset_share: float
    stuck_at_g_max_share: float
    stuck_at_random_share: float
    dead_rows_per_tile: float
    dead_columns_per_tile: float
    lost_tile_share: float
    def __init__(self, name: _Optional[str] = ..., tile_rows: _Optional[int] = ..., tile_columns: _Optional[int] = ..., tiles: _Optional[int] = ..., dac_bits: _Optional[int] = ..., adc_bits: _Optional[int] = ..., g_max_microsiemens: _Optional[float] = ..., connect_idle: bool = ..., adc_gain_spread: _Optional[float] = ..., adc_offset_spread_codes: _Optional[float] = ..., ir_drop: _Optional[float] = ..., wire_resistance_ohm: _Optional[float] = ..., stuck_at_reset_share: _Optional[float] = ..., stuck_at_g_max_share: _Optional[float] = ..., stuck_at_random_share: _Optional[float] = ..., dead_rows_per_tile: _Optional[float] = ..., dead_columns_per_tile: _Optional[float] = ..., lost_tile_share: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("name", "kind", "dtype", "shape", "offset", "length", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: SegmentKind
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    offset: int
    length: int
    sha256: bytes
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[SegmentKind, str]] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class AnalogLayer(_message.Message):
    __slots__ = ("name", "operator", "source_node", "source_operator", "blocks", "statistics_node", "statistics_kind", "channels", "bias")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NODE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_NODE_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_KIND_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    operator: str
    source_node: str
    source_operator: str
    blocks: _containers.RepeatedCompositeFieldContainer[WeightBlock]
    statistics_node: str
    statistics_kind: StatisticsKind
    channels: int
    bias: BiasPlacement
    def __init__(self, name: _Optional[str] = ..., operator: _Optional[str] = ..., source_node: _Optional[str] = ..., source_operator: _Optional[str] = ..., blocks: _Optional[_Iterable[_Union[WeightBlock, _Mapping]]] = ..., statistics_node: _Optional[str] = ..., statistics_kind: _Optional[_Union[StatisticsKind, str]] = ..., channels: _Optional[int] = ..., bias: _Optional[_Union[BiasPlacement, str]] = ...) -> None: ...

class WeightBlock(_message.Message):
    __slots__ = ("name", "rows", "columns", "groups", "dac_step", "dac_signed", "dac_mean_square", "scaling", "bias_code")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    DAC_STEP_FIELD_NUMBER: _ClassVar[int]
    DAC_SIGNED_FIELD_NUMBER: _ClassVar[int]
    DAC_MEAN_SQUARE_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    BIAS_CODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    rows: int
    columns: int
    groups: int
    dac_step: float
    dac_signed: bool
    dac_mean_square: float
    scaling: str
    bias_code: int
    def __init__(self, name: _Optional[str] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., groups: _Optional[int] = ..., dac_step: _Optional[float] = ..., dac_signed: bool = ..., dac_mean_square: _Optional[float] = ..., scaling: _Optional[str] = ..., bias_code: _Optional[int] = ...) -> None: ...

class PlacementReport(_message.Message):
    __slots__ = ("nodes", "analog_macs", "digital_macs", "tiles", "analog_weights", "devices", "digital_parameters", "utilisation", "energy_j", "latency_s", "energy_source")
    NODES_FIELD_NUMBER: _ClassVar[int]
    ANALOG_MACS_FIELD_NUMBER: _ClassVar[int]
    DIGITAL_MACS_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    ANALOG_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    DIGITAL_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodePlacement]
    analog_macs: int
    digital_macs: int
    tiles: int
    analog_weights: int
    devices: int
    digital_parameters: int
    utilisation: float
    energy_j: float
    latency_s: float
    energy_source: str
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodePlacement, _Mapping]]] = ..., analog_macs: _Optional[int] = ..., digital_macs: _Optional[int] = ..., tiles: _Optional[int] = ..., analog_weights: _Optional[int] = ..., devices: _Optional[int] = ..., digital_parameters: _Optional[int] = ..., utilisation: _Optional[float] = ..., energy_j: _Optional[float] = ..., latency_s: _Optional[float] = ..., energy_source: _Optional[str] = ...) -> None: ...

class NodePlacement(_message.Message):
    __slots__ = ("node", "operator", "analog", "reason", "layer", "tiles", "utilisation", "macs", "mvms", "phases", "energy_j", "latency_s")
    NODE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    ANALOG_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FIELD_NUMBER: _ClassVar[int]
    MACS_FIELD_NUMBER: _ClassVar[int]
    MVMS_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    node: str
    operator: str
    analog: bool
    reason: str
    layer: str
    tiles: int
    utilisation: float
    macs: int
    mvms: int
    phases: int
    energy_j: float
    latency_s: float
    def __init__(self, node: _Optional[str] = ..., operator: _Optional[str] = ..., analog: bool = ..., reason: _Optional[str] = ..., layer: _Optional[str] = ..., tiles: _Optional[int] = ..., utilisation: _Optional[float] = ..., macs: _Optional[int] = ..., mvms: _Optional[int] = ..., phases: _Optional[int] = ..., energy_j: _Optional[float] = ..., latency_s: _Optional[float] = ...) -> None: ...

class Application(_message.Message):
    __slots__ = ("preprocessing", "labels", "class_output", "class_output_is_probability", "signatures")
    PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CLASS_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CLASS_OUTPUT_IS_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    preprocessing: Preprocessing
    labels: _containers.RepeatedScalarFieldContainer[str]
    class_output: str
    class_output_is_probability: bool
    signatures: _containers.RepeatedCompositeFieldContainer[CallSignature]
    def __init__(self, preprocessing: _Optional[_Union[Preprocessing, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., class_output: _Optional[str] = ..., class_output_is_probability: bool = ..., signatures: _Optional[_Iterable[_Union[CallSignature, _Mapping]]] = ...) -> None: ...

class CallSignature(_message.Message):
    __slots__ = ("key", "inputs", "outputs")
    KEY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    key: str
    inputs: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    outputs: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    def __init__(self, key: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ...) -> None: ...

class NamedTensor(_message.Message):
    __slots__ = ("name", "tensor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    tensor: str
    def __init__(self, name: _Optional[str] = ..., tensor: _Optional[str] = ...) -> None: ...

class Preprocessing(_message.Message):
    __slots__ = ("input", "width", "height", "channels", "colour_order", "layout", "scale", "mean", "std")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    COLOUR_ORDER_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    input: str
    width: int
    height: int
    channels: int
    colour_order: str
    layout: str
    scale: float
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, input: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., channels: _Optional[int] = ..., colour_order: _Optional[str] = ..., layout: _Optional[str] = ..., scale: _Optional[float] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class CalibrationBuffer(_message.Message):
    __slots__ = ("kind", "samples", "generator", "seed", "has_reference_statistics", "inputs", "chosen", "coverage")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    HAS_REFERENCE_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    samples: int
    generator: str
    seed: int
    has_reference_statistics: bool
    inputs: _containers.RepeatedCompositeFieldContainer[SyntheticInput]
    chosen: _containers.RepeatedScalarFieldContainer[int]
    coverage: float
    def __init__(self, kind: _Optional[str] = ..., samples: _Optional[int] = ..., generator: _Optional[str] = ..., seed: _Optional[int] = ..., has_reference_statistics: bool = ..., inputs: _Optional[_Iterable[_Union[SyntheticInput, _Mapping]]] = ..., chosen: _Optional[_Iterable[int]] = ..., coverage: _Optional[float] = ...) -> None: ...

class SyntheticInput(_message.Message):
    __slots__ = ("name", "shape", "mean", "std", "minimum", "maximum")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    minimum: float
    maximum: float
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("sdk_version", "source_format", "source_version", "source_sha256", "compile_options_json", "calibration_samples", "rebuffered_from_sha256")
    SDK_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SHA256_FIELD_NUMBER: _ClassVar[int]
    COMPILE_OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    REBUFFERED_FROM_SHA256_FIELD_NUMBER: _ClassVar[int]
    sdk_version: str
    source_format: str
    source_version: str
    source_sha256: bytes
    compile_options_json: str
    calibration_samples: int
    rebuffered_from_sha256: bytes
    def __init__(self, sdk_version: _Optional[str] = ..., source_format: _Optional[str] = ..., source_version: _Optional[str] = ..., source_sha256: _Optional[bytes] = ..., compile_options_json: _Optional[str] = ..., calibration_samples: _Optional[int] = ..., rebuffered_from_sha256: _Optional[bytes] = ...) -> None: ...

class SignatureBlock(_message.Message):
    __slots__ = ("signatures",)
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    signatures: _containers.RepeatedCompositeFieldContainer[Signature]
    def __init__(self, signatures: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("algorithm", "key_id", "signature")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    algorithm: str
    key_id: bytes
    signature: bytes
    def __init__(self, algorithm: _Optional[str] = ..., key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
