from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OperationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATION_STATE_UNSPECIFIED: _ClassVar[OperationState]
    OPERATION_STATE_RUNNING: _ClassVar[OperationState]
    OPERATION_STATE_SUCCEEDED: _ClassVar[OperationState]
    OPERATION_STATE_FAILED: _ClassVar[OperationState]
    OPERATION_STATE_CANCELLED: _ClassVar[OperationState]

class RecalibrationMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECALIBRATION_METHOD_UNSPECIFIED: _ClassVar[RecalibrationMethod]
    RECALIBRATION_METHOD_DEFAULT: _ClassVar[RecalibrationMethod]
    RECALIBRATION_METHOD_GDC: _ClassVar[RecalibrationMethod]
    RECALIBRATION_METHOD_GDC_PER_COLUMN: _ClassVar[RecalibrationMethod]
    RECALIBRATION_METHOD_ADABS: _ClassVar[RecalibrationMethod]
    RECALIBRATION_METHOD_ADABS_PAIRED: _ClassVar[RecalibrationMethod]

class PolicyKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_KIND_UNSPECIFIED: _ClassVar[PolicyKind]
    POLICY_KIND_MANUAL: _ClassVar[PolicyKind]
    POLICY_KIND_INTERVAL: _ClassVar[PolicyKind]
    POLICY_KIND_LOG_TIME: _ClassVar[PolicyKind]
    POLICY_KIND_DRIFT: _ClassVar[PolicyKind]
    POLICY_KIND_SELF_TEST: _ClassVar[PolicyKind]

class HealthState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_STATE_UNSPECIFIED: _ClassVar[HealthState]
    HEALTH_STATE_ALIVE: _ClassVar[HealthState]
    HEALTH_STATE_READY: _ClassVar[HealthState]
    HEALTH_STATE_RECALIBRATING: _ClassVar[HealthState]
    HEALTH_STATE_DEGRADED: _ClassVar[HealthState]
OPERATION_STATE_UNSPECIFIED: OperationState
OPERATION_STATE_RUNNING: OperationState
OPERATION_STATE_SUCCEEDED: OperationState
OPERATION_STATE_FAILED: OperationState
OPERATION_STATE_CANCELLED: OperationState
RECALIBRATION_METHOD_UNSPECIFIED: RecalibrationMethod
RECALIBRATION_METHOD_DEFAULT: RecalibrationMethod
RECALIBRATION_METHOD_GDC: RecalibrationMethod
RECALIBRATION_METHOD_GDC_PER_COLUMN: RecalibrationMethod
RECALIBRATION_METHOD_ADABS: RecalibrationMethod
RECALIBRATION_METHOD_ADABS_PAIRED: RecalibrationMethod
POLICY_KIND_UNSPECIFIED: PolicyKind
POLICY_KIND_MANUAL: PolicyKind
POLICY_KIND_INTERVAL: PolicyKind
POLICY_KIND_LOG_TIME: PolicyKind
POLICY_KIND_DRIFT: PolicyKind
POLICY_KIND_SELF_TEST: PolicyKind
HEALTH_STATE_UNSPECIFIED: HealthState
HEALTH_STATE_ALIVE: HealthState
HEALTH_STATE_READY: HealthState
HEALTH_STATE_RECALIBRATING: HealthState
HEALTH_STATE_DEGRADED: HealthState

class GetIdentityRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Identity(_message.Message):
    __slots__ = ("vendor", "product", "serial", "firmware_version", "contract_version", "emulated", "geometry", "technology", "capabilities", "image_features", "contract_minor")
    VENDOR_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    FIRMWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_VERSION_FIELD_NUMBER: _ClassVar[int]
    EMULATED_FIELD_NUMBER: _ClassVar[int]
    GEOMETRY_FIELD_NUMBER: _ClassVar[int]
    TECHNOLOGY_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_MINOR_FIELD_NUMBER: _ClassVar[int]
    vendor: str
    product: str
    serial: str
    firmware_version: str
    contract_version: int
    emulated: bool
    geometry: ChipGeometry
    technology: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    image_features: _containers.RepeatedScalarFieldContainer[str]
    contract_minor: int
    def __init__(self, vendor: _Optional[str] = ..., product: _Optional[str] = ..., serial: _Optional[str] = ..., firmware_version: _Optional[str] = ..., contract_version: _Optional[int] = ..., emulated: bool = ..., geometry: _Optional[_Union[ChipGeometry, _Mapping]] = ..., technology: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., image_features: _Optional[_Iterable[str]] = ..., contract_minor: _Optional[int] = ...) -> None: ...

class ChipGeometry(_message.Message):
    __slots__ = ("profile", "tile_rows", "tile_columns", "tiles", "free_tiles", "dac_bits", "adc_bits", "g_max_microsiemens")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    TILE_ROWS_FIELD_NUMBER: _ClassVar[int]
    TILE_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    FREE_TILES_FIELD_NUMBER: _ClassVar[int]
    DAC_BITS_FIELD_NUMBER: _ClassVar[int]
    ADC_BITS_FIELD_NUMBER: _ClassVar[int]
    G_MAX_MICROSIEMENS_FIELD_NUMBER: _ClassVar[int]
    profile: str
    tile_rows: int
    tile_columns: int
    tiles: int
    free_tiles: int
    dac_bits: int
    adc_bits: int
    g_max_microsiemens: float
    def __init__(self, profile: _Optional[str] = ..., tile_rows: _Optional[int] = ..., tile_columns: _Optional[int] = ..., tiles: _Optional[int] = ..., free_tiles: _Optional[int] = ..., dac_bits: _Optional[int] = ..., adc_bits: _Optional[int] = ..., g_max_microsiemens: _Optional[float] = ...) -> None: ...

class Mutation(_message.Message):
    __slots__ = ("request_id", "expected_program_generation", "expected_statistics_generation", "lease_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_PROGRAM_GENERATION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_STATISTICS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    expected_program_generation: int
    expected_statistics_generation: int
    lease_id: str
    def __init__(self, request_id: _Optional[str] = ..., expected_program_generation: _Optional[int] = ..., expected_statistics_generation: _Optional[int] = ..., lease_id: _Optional[str] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("lease_id", "holder", "remaining_s")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    REMAINING_S_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    holder: str
    remaining_s: float
    def __init__(self, lease_id: _Optional[str] = ..., holder: _Optional[str] = ..., remaining_s: _Optional[float] = ...) -> None: ...

class AcquireLeaseRequest(_message.Message):
    __slots__ = ("holder", "duration_s", "request_id")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    holder: str
    duration_s: float
    request_id: str
    def __init__(self, holder: _Optional[str] = ..., duration_s: _Optional[float] = ..., request_id: _Optional[str] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("lease_id", "duration_s")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    duration_s: float
    def __init__(self, lease_id: _Optional[str] = ..., duration_s: _Optional[float] = ...) -> None: ...

class ReleaseLeaseRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class ReleaseLeaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProgramRequest(_message.Message):
    __slots__ = ("header", "chunk", "end")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    header: ProgramHeader
    chunk: bytes
    end: ProgramEnd
    def __init__(self, header: _Optional[_Union[ProgramHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ..., end: _Optional[_Union[ProgramEnd, _Mapping]] = ...) -> None: ...

class ProgramHeader(_message.Message):
    __slots__ = ("mutation", "image_size", "replace", "keep_inactive", "program_and_verify", "use_retired")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    KEEP_INACTIVE_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_AND_VERIFY_FIELD_NUMBER: _ClassVar[int]
    USE_RETIRED_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    image_size: int
    replace: bool
    keep_inactive: bool
    program_and_verify: ProgramAndVerify
    use_retired: bool
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., image_size: _Optional[int] = ..., replace: bool = ..., keep_inactive: bool = ..., program_and_verify: _Optional[_Union[ProgramAndVerify, _Mapping]] = ..., use_retired: bool = ...) -> None: ...

class ProgramAndVerify(_message.Message):
    __slots__ = ("margin_microsiemens", "max_iterations")
    MARGIN_MICROSIEMENS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    margin_microsiemens: float
    max_iterations: int
    def __init__(self, margin_microsiemens: _Optional[float] = ..., max_iterations: _Optional[int] = ...) -> None: ...

class ProgramEnd(_message.Message):
    __slots__ = ("image_sha256",)
    IMAGE_SHA256_FIELD_NUMBER: _ClassVar[int]
    image_sha256: bytes
    def __init__(self, image_sha256: _Optional[bytes] = ...) -> None: ...

class OperationUpdate(_message.Message):
    __slots__ = ("operation_id", "kind", "state", "phase", "done", "total", "unit", "elapsed_s", "program", "recalibration", "diagnosis", "error")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    RECALIBRATION_FIELD_NUMBER: _ClassVar[int]
    DIAGNOSIS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    kind: str
    state: OperationState
    phase: str
    done: int
    total: int
    unit: str
    elapsed_s: float
    program: ProgramResult
    recalibration: RecalibrationResult
    diagnosis: DiagnoseResult
    error: ErrorDetail
    def __init__(self, operation_id: _Optional[str] = ..., kind: _Optional[str] = ..., state: _Optional[_Union[OperationState, str]] = ..., phase: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., elapsed_s: _Optional[float] = ..., program: _Optional[_Union[ProgramResult, _Mapping]] = ..., recalibration: _Optional[_Union[RecalibrationResult, _Mapping]] = ..., diagnosis: _Optional[_Union[DiagnoseResult, _Mapping]] = ..., error: _Optional[_Union[ErrorDetail, _Mapping]] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("reason", "status", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: str
    status: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., status: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ProgramResult(_message.Message):
    __slots__ = ("image", "replaced_models", "outage_s", "tiles")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    REPLACED_MODELS_FIELD_NUMBER: _ClassVar[int]
    OUTAGE_S_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    image: ResidentImage
    replaced_models: _containers.RepeatedScalarFieldContainer[str]
    outage_s: float
    tiles: _containers.RepeatedCompositeFieldContainer[TileProgramming]
    def __init__(self, image: _Optional[_Union[ResidentImage, _Mapping]] = ..., replaced_models: _Optional[_Iterable[str]] = ..., outage_s: _Optional[float] = ..., tiles: _Optional[_Iterable[_Union[TileProgramming, _Mapping]]] = ...) -> None: ...

class TileProgramming(_message.Message):
    __slots__ = ("tile", "layer", "converged_fraction", "rms_error_microsiemens")
    TILE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CONVERGED_FRACTION_FIELD_NUMBER: _ClassVar[int]
    RMS_ERROR_MICROSIEMENS_FIELD_NUMBER: _ClassVar[int]
    tile: int
    layer: str
    converged_fraction: float
    rms_error_microsiemens: float
    def __init__(self, tile: _Optional[int] = ..., layer: _Optional[str] = ..., converged_fraction: _Optional[float] = ..., rms_error_microsiemens: _Optional[float] = ...) -> None: ...

class ListOperationsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListOperationsResponse(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[OperationUpdate]
    def __init__(self, operations: _Optional[_Iterable[_Union[OperationUpdate, _Mapping]]] = ...) -> None: ...

class WatchOperationRequest(_message.Message):
    __slots__ = ("operation_id",)
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    def __init__(self, operation_id: _Optional[str] = ...) -> None: ...

class CancelOperationRequest(_message.Message):
    __slots__ = ("operation_id", "request_id")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    request_id: str
    def __init__(self, operation_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ResidentImage(_message.Message):
    __slots__ = ("model_name", "model_version", "image_sha256", "active", "tiles", "program_generation", "statistics_generation", "programmed_at_unix_s", "age_s", "size_bytes")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    PROGRAMMED_AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: int
    image_sha256: bytes
    active: bool
    tiles: int
    program_generation: int
    statistics_generation: int
    programmed_at_unix_s: float
    age_s: float
    size_bytes: int
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., image_sha256: _Optional[bytes] = ..., active: bool = ..., tiles: _Optional[int] = ..., program_generation: _Optional[int] = ..., statistics_generation: _Optional[int] = ..., programmed_at_unix_s: _Optional[float] = ..., age_s: _Optional[float] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class ListImagesRequest(_message.Message):
    __slots__ = ("include_manifests",)
    INCLUDE_MANIFESTS_FIELD_NUMBER: _ClassVar[int]
    include_manifests: bool
    def __init__(self, include_manifests: bool = ...) -> None: ...

class ListImagesResponse(_message.Message):
    __slots__ = ("images", "manifests")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    MANIFESTS_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ResidentImage]
    manifests: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, images: _Optional[_Iterable[_Union[ResidentImage, _Mapping]]] = ..., manifests: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ActivateImageRequest(_message.Message):
    __slots__ = ("mutation", "model_name")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    model_name: str
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., model_name: _Optional[str] = ...) -> None: ...

class DeactivateImageRequest(_message.Message):
    __slots__ = ("mutation", "model_name")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    model_name: str
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., model_name: _Optional[str] = ...) -> None: ...

class EraseImageRequest(_message.Message):
    __slots__ = ("mutation", "model_name")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    model_name: str
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., model_name: _Optional[str] = ...) -> None: ...

class EraseImageResponse(_message.Message):
    __slots__ = ("freed_tiles",)
    FREED_TILES_FIELD_NUMBER: _ClassVar[int]
    freed_tiles: int
    def __init__(self, freed_tiles: _Optional[int] = ...) -> None: ...

class RecalibrateRequest(_message.Message):
    __slots__ = ("mutation", "model_name", "method", "batches", "batch_size", "gdc_everywhere", "force", "reads")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    GDC_EVERYWHERE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    model_name: str
    method: RecalibrationMethod
    batches: int
    batch_size: int
    gdc_everywhere: bool
    force: bool
    reads: int
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., model_name: _Optional[str] = ..., method: _Optional[_Union[RecalibrationMethod, str]] = ..., batches: _Optional[int] = ..., batch_size: _Optional[int] = ..., gdc_everywhere: bool = ..., force: bool = ..., reads: _Optional[int] = ...) -> None: ...

class RecalibrationResult(_message.Message):
    __slots__ = ("committed", "refusal", "statistics_generation", "method", "samples", "agreement_before", "agreement_after", "median_drift_factor", "mean_shift", "duration_s", "age_s", "reads")
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_AFTER_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_DRIFT_FACTOR_FIELD_NUMBER: _ClassVar[int]
    MEAN_SHIFT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    committed: bool
    refusal: str
    statistics_generation: int
    method: RecalibrationMethod
    samples: int
    agreement_before: float
    agreement_after: float
    median_drift_factor: float
    mean_shift: float
    duration_s: float
    age_s: float
    reads: int
    def __init__(self, committed: bool = ..., refusal: _Optional[str] = ..., statistics_generation: _Optional[int] = ..., method: _Optional[_Union[RecalibrationMethod, str]] = ..., samples: _Optional[int] = ..., agreement_before: _Optional[float] = ..., agreement_after: _Optional[float] = ..., median_drift_factor: _Optional[float] = ..., mean_shift: _Optional[float] = ..., duration_s: _Optional[float] = ..., age_s: _Optional[float] = ..., reads: _Optional[int] = ...) -> None: ...

class RollbackStatisticsRequest(_message.Message):
    __slots__ = ("mutation", "model_name")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    model_name: str
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., model_name: _Optional[str] = ...) -> None: ...

class RollbackStatisticsResponse(_message.Message):
    __slots__ = ("statistics_generation",)
    STATISTICS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    statistics_generation: int
    def __init__(self, statistics_generation: _Optional[int] = ...) -> None: ...

class RecalibrationPolicy(_message.Message):
    __slots__ = ("kind", "method", "interval_s", "log_time_ratio", "drift_threshold", "agreement_threshold", "next_in_s", "reads", "self_test_interval_s", "self_test_ratio", "agreement_drop", "self_test_spacing_s")
    KIND_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    LOG_TIME_RATIO_FIELD_NUMBER: _ClassVar[int]
    DRIFT_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    NEXT_IN_S_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    SELF_TEST_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    SELF_TEST_RATIO_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_DROP_FIELD_NUMBER: _ClassVar[int]
    SELF_TEST_SPACING_S_FIELD_NUMBER: _ClassVar[int]
    kind: PolicyKind
    method: RecalibrationMethod
    interval_s: float
    log_time_ratio: float
    drift_threshold: float
    agreement_threshold: float
    next_in_s: float
    reads: int
    self_test_interval_s: float
    self_test_ratio: float
    agreement_drop: float
    self_test_spacing_s: float
    def __init__(self, kind: _Optional[_Union[PolicyKind, str]] = ..., method: _Optional[_Union[RecalibrationMethod, str]] = ..., interval_s: _Optional[float] = ..., log_time_ratio: _Optional[float] = ..., drift_threshold: _Optional[float] = ..., agreement_threshold: _Optional[float] = ..., next_in_s: _Optional[float] = ..., reads: _Optional[int] = ..., self_test_interval_s: _Optional[float] = ..., self_test_ratio: _Optional[float] = ..., agreement_drop: _Optional[float] = ..., self_test_spacing_s: _Optional[float] = ...) -> None: ...

class GetRecalibrationPolicyRequest(_message.Message):
    __slots__ = ("model_name",)
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    def __init__(self, model_name: _Optional[str] = ...) -> None: ...

class SetRecalibrationPolicyRequest(_message.Message):
    __slots__ = ("mutation", "model_name", "policy")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    model_name: str
    policy: RecalibrationPolicy
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., model_name: _Optional[str] = ..., policy: _Optional[_Union[RecalibrationPolicy, _Mapping]] = ...) -> None: ...

class CalibrationBufferRequest(_message.Message):
    __slots__ = ("header", "samples", "statistics")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    header: CalibrationBufferHeader
    samples: CalibrationSamples
    statistics: CalibrationStatistics
    def __init__(self, header: _Optional[_Union[CalibrationBufferHeader, _Mapping]] = ..., samples: _Optional[_Union[CalibrationSamples, _Mapping]] = ..., statistics: _Optional[_Union[CalibrationStatistics, _Mapping]] = ...) -> None: ...

class CalibrationBufferHeader(_message.Message):
    __slots__ = ("mutation", "model_name")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    model_name: str
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., model_name: _Optional[str] = ...) -> None: ...

class CalibrationSamples(_message.Message):
    __slots__ = ("count", "inputs")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    count: int
    inputs: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, count: _Optional[int] = ..., inputs: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CalibrationStatistics(_message.Message):
    __slots__ = ("image_sha256", "nodes")
    IMAGE_SHA256_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    image_sha256: bytes
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatistics]
    def __init__(self, image_sha256: _Optional[bytes] = ..., nodes: _Optional[_Iterable[_Union[NodeStatistics, _Mapping]]] = ...) -> None: ...

class NodeStatistics(_message.Message):
    __slots__ = ("node", "mean", "variance")
    NODE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    VARIANCE_FIELD_NUMBER: _ClassVar[int]
    node: str
    mean: _containers.RepeatedScalarFieldContainer[float]
    variance: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, node: _Optional[str] = ..., mean: _Optional[_Iterable[float]] = ..., variance: _Optional[_Iterable[float]] = ...) -> None: ...

class DescribeCalibrationBufferRequest(_message.Message):
    __slots__ = ("model_name",)
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    def __init__(self, model_name: _Optional[str] = ...) -> None: ...

class CalibrationBufferDescription(_message.Message):
    __slots__ = ("source", "samples", "bytes", "has_reference_statistics", "sha256")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    HAS_REFERENCE_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    source: str
    samples: int
    bytes: int
    has_reference_statistics: bool
    sha256: bytes
    def __init__(self, source: _Optional[str] = ..., samples: _Optional[int] = ..., bytes: _Optional[int] = ..., has_reference_statistics: bool = ..., sha256: _Optional[bytes] = ...) -> None: ...

class SelfTestRequest(_message.Message):
    __slots__ = ("model_name",)
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    def __init__(self, model_name: _Optional[str] = ...) -> None: ...

class SelfTestResult(_message.Message):
    __slots__ = ("agreement", "relative_error", "reference_inputs", "passed", "threshold", "age_s", "program_generation", "statistics_generation", "mean_absolute_difference")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_ERROR_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_INPUTS_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    MEAN_ABSOLUTE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    agreement: float
    relative_error: float
    reference_inputs: int
    passed: bool
    threshold: float
    age_s: float
    program_generation: int
    statistics_generation: int
    mean_absolute_difference: float
    def __init__(self, agreement: _Optional[float] = ..., relative_error: _Optional[float] = ..., reference_inputs: _Optional[int] = ..., passed: bool = ..., threshold: _Optional[float] = ..., age_s: _Optional[float] = ..., program_generation: _Optional[int] = ..., statistics_generation: _Optional[int] = ..., mean_absolute_difference: _Optional[float] = ...) -> None: ...

class SelfTestRecord(_message.Message):
    __slots__ = ("time_unix_s", "device_time_s", "age_s", "agreement", "relative_error", "mean_absolute_difference", "statistics_generation", "cause")
    TIME_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_S_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_ERROR_FIELD_NUMBER: _ClassVar[int]
    MEAN_ABSOLUTE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    time_unix_s: float
    device_time_s: float
    age_s: float
    agreement: float
    relative_error: float
    mean_absolute_difference: float
    statistics_generation: int
    cause: str
    def __init__(self, time_unix_s: _Optional[float] = ..., device_time_s: _Optional[float] = ..., age_s: _Optional[float] = ..., agreement: _Optional[float] = ..., relative_error: _Optional[float] = ..., mean_absolute_difference: _Optional[float] = ..., statistics_generation: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class GetTelemetryRequest(_message.Message):
    __slots__ = ("include_tiles", "include_self_tests")
    INCLUDE_TILES_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SELF_TESTS_FIELD_NUMBER: _ClassVar[int]
    include_tiles: bool
    include_self_tests: bool
    def __init__(self, include_tiles: bool = ..., include_self_tests: bool = ...) -> None: ...

class WatchTelemetryRequest(_message.Message):
    __slots__ = ("interval_s", "include_tiles", "include_self_tests")
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_TILES_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SELF_TESTS_FIELD_NUMBER: _ClassVar[int]
    interval_s: float
    include_tiles: bool
    include_self_tests: bool
    def __init__(self, interval_s: _Optional[float] = ..., include_tiles: bool = ..., include_self_tests: bool = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("time_unix_s", "device_time_s", "uptime_s", "state", "models", "tiles", "free_tiles", "requests_served", "requests_failed", "memory_bytes", "sequence", "degraded_reasons", "requests_queued", "requests_rejected", "retired_tiles", "health", "store_bytes")
    TIME_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_S_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    FREE_TILES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_SERVED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FAILED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASONS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_QUEUED_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_REJECTED_FIELD_NUMBER: _ClassVar[int]
    RETIRED_TILES_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    time_unix_s: float
    device_time_s: float
    uptime_s: float
    state: str
    models: _containers.RepeatedCompositeFieldContainer[ModelTelemetry]
    tiles: int
    free_tiles: int
    requests_served: int
    requests_failed: int
    memory_bytes: int
    sequence: int
    degraded_reasons: _containers.RepeatedScalarFieldContainer[str]
    requests_queued: int
    requests_rejected: int
    retired_tiles: int
    health: HealthState
    store_bytes: int
    def __init__(self, time_unix_s: _Optional[float] = ..., device_time_s: _Optional[float] = ..., uptime_s: _Optional[float] = ..., state: _Optional[str] = ..., models: _Optional[_Iterable[_Union[ModelTelemetry, _Mapping]]] = ..., tiles: _Optional[int] = ..., free_tiles: _Optional[int] = ..., requests_served: _Optional[int] = ..., requests_failed: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., sequence: _Optional[int] = ..., degraded_reasons: _Optional[_Iterable[str]] = ..., requests_queued: _Optional[int] = ..., requests_rejected: _Optional[int] = ..., retired_tiles: _Optional[int] = ..., health: _Optional[_Union[HealthState, str]] = ..., store_bytes: _Optional[int] = ...) -> None: ...

class ModelTelemetry(_message.Message):
    __slots__ = ("model_name", "age_s", "program_generation", "statistics_generation", "inferences", "last_recalibration_age_s", "median_drift_factor", "adc_saturation", "last_agreement", "energy_j", "tiles", "recalibrations", "recalibrations_refused", "self_tests", "agreement_floor")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    LAST_RECALIBRATION_AGE_S_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_DRIFT_FACTOR_FIELD_NUMBER: _ClassVar[int]
    ADC_SATURATION_FIELD_NUMBER: _ClassVar[int]
    LAST_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    RECALIBRATIONS_FIELD_NUMBER: _ClassVar[int]
    RECALIBRATIONS_REFUSED_FIELD_NUMBER: _ClassVar[int]
    SELF_TESTS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FLOOR_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    age_s: float
    program_generation: int
    statistics_generation: int
    inferences: int
    last_recalibration_age_s: float
    median_drift_factor: float
    adc_saturation: float
    last_agreement: float
    energy_j: float
    tiles: _containers.RepeatedCompositeFieldContainer[TileTelemetry]
    recalibrations: int
    recalibrations_refused: int
    self_tests: _containers.RepeatedCompositeFieldContainer[SelfTestRecord]
    agreement_floor: float
    def __init__(self, model_name: _Optional[str] = ..., age_s: _Optional[float] = ..., program_generation: _Optional[int] = ..., statistics_generation: _Optional[int] = ..., inferences: _Optional[int] = ..., last_recalibration_age_s: _Optional[float] = ..., median_drift_factor: _Optional[float] = ..., adc_saturation: _Optional[float] = ..., last_agreement: _Optional[float] = ..., energy_j: _Optional[float] = ..., tiles: _Optional[_Iterable[_Union[TileTelemetry, _Mapping]]] = ..., recalibrations: _Optional[int] = ..., recalibrations_refused: _Optional[int] = ..., self_tests: _Optional[_Iterable[_Union[SelfTestRecord, _Mapping]]] = ..., agreement_floor: _Optional[float] = ...) -> None: ...

class TileTelemetry(_message.Message):
    __slots__ = ("tile", "layer", "drift_factor", "adc_saturation", "mvms", "age_s", "retired", "findings", "faulty_cells")
    TILE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FACTOR_FIELD_NUMBER: _ClassVar[int]
    ADC_SATURATION_FIELD_NUMBER: _ClassVar[int]
    MVMS_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    FAULTY_CELLS_FIELD_NUMBER: _ClassVar[int]
    tile: int
    layer: str
    drift_factor: float
    adc_saturation: float
    mvms: int
    age_s: float
    retired: bool
    findings: _containers.RepeatedCompositeFieldContainer[FaultFinding]
    faulty_cells: int
    def __init__(self, tile: _Optional[int] = ..., layer: _Optional[str] = ..., drift_factor: _Optional[float] = ..., adc_saturation: _Optional[float] = ..., mvms: _Optional[int] = ..., age_s: _Optional[float] = ..., retired: bool = ..., findings: _Optional[_Iterable[_Union[FaultFinding, _Mapping]]] = ..., faulty_cells: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("sequence", "time_unix_s", "device_time_s", "kind", "message", "details", "model_name", "lost_before")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_S_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    LOST_BEFORE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time_unix_s: float
    device_time_s: float
    kind: str
    message: str
    details: _containers.ScalarMap[str, str]
    model_name: str
    lost_before: int
    def __init__(self, sequence: _Optional[int] = ..., time_unix_s: _Optional[float] = ..., device_time_s: _Optional[float] = ..., kind: _Optional[str] = ..., message: _Optional[str] = ..., details: _Optional[_Mapping[str, str]] = ..., model_name: _Optional[str] = ..., lost_before: _Optional[int] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("after_sequence", "limit")
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    limit: int
    def __init__(self, after_sequence: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("after_sequence",)
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    def __init__(self, after_sequence: _Optional[int] = ...) -> None: ...

class ReadTileRequest(_message.Message):
    __slots__ = ("model_name", "tile")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    TILE_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    tile: int
    def __init__(self, model_name: _Optional[str] = ..., tile: _Optional[int] = ...) -> None: ...

class TileReadout(_message.Message):
    __slots__ = ("tile", "layer", "first_row", "rows", "columns", "g_plus_microsiemens", "g_minus_microsiemens", "age_s")
    TILE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    G_PLUS_MICROSIEMENS_FIELD_NUMBER: _ClassVar[int]
    G_MINUS_MICROSIEMENS_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    tile: int
    layer: str
    first_row: int
    rows: int
    columns: int
    g_plus_microsiemens: bytes
    g_minus_microsiemens: bytes
    age_s: float
    def __init__(self, tile: _Optional[int] = ..., layer: _Optional[str] = ..., first_row: _Optional[int] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., g_plus_microsiemens: _Optional[bytes] = ..., g_minus_microsiemens: _Optional[bytes] = ..., age_s: _Optional[float] = ...) -> None: ...

class DiagnoseRequest(_message.Message):
    __slots__ = ("mutation", "model_name", "false_alarm_rate", "tolerated_cells")
    MUTATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    FALSE_ALARM_RATE_FIELD_NUMBER: _ClassVar[int]
    TOLERATED_CELLS_FIELD_NUMBER: _ClassVar[int]
    mutation: Mutation
    model_name: str
    false_alarm_rate: float
    tolerated_cells: float
    def __init__(self, mutation: _Optional[_Union[Mutation, _Mapping]] = ..., model_name: _Optional[str] = ..., false_alarm_rate: _Optional[float] = ..., tolerated_cells: _Optional[float] = ...) -> None: ...

class DiagnoseResult(_message.Message):
    __slots__ = ("tiles", "retired_tiles", "false_alarm_rate", "age_s", "program_generation")
    TILES_FIELD_NUMBER: _ClassVar[int]
    RETIRED_TILES_FIELD_NUMBER: _ClassVar[int]
    FALSE_ALARM_RATE_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_GENERATION_FIELD_NUMBER: _ClassVar[int]
    tiles: _containers.RepeatedCompositeFieldContainer[TileDiagnosis]
    retired_tiles: _containers.RepeatedScalarFieldContainer[int]
    false_alarm_rate: float
    age_s: float
    program_generation: int
    def __init__(self, tiles: _Optional[_Iterable[_Union[TileDiagnosis, _Mapping]]] = ..., retired_tiles: _Optional[_Iterable[int]] = ..., false_alarm_rate: _Optional[float] = ..., age_s: _Optional[float] = ..., program_generation: _Optional[int] = ...) -> None: ...

class TileDiagnosis(_message.Message):
    __slots__ = ("tile", "layer", "cells", "faulty_cells", "retired", "findings")
    TILE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    FAULTY_CELLS_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    tile: int
    layer: str
    cells: int
    faulty_cells: int
    retired: bool
    findings: _containers.RepeatedCompositeFieldContainer[FaultFinding]
    def __init__(self, tile: _Optional[int] = ..., layer: _Optional[str] = ..., cells: _Optional[int] = ..., faulty_cells: _Optional[int] = ..., retired: bool = ..., findings: _Optional[_Iterable[_Union[FaultFinding, _Mapping]]] = ...) -> None: ...

class FaultFinding(_message.Message):
    __slots__ = ("kind", "row", "column", "measured", "expected", "bound")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    kind: str
    row: int
    column: int
    measured: float
    expected: float
    bound: float
    def __init__(self, kind: _Optional[str] = ..., row: _Optional[int] = ..., column: _Optional[int] = ..., measured: _Optional[float] = ..., expected: _Optional[float] = ..., bound: _Optional[float] = ...) -> None: ...
