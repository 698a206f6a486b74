from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClockMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOCK_MODE_UNSPECIFIED: _ClassVar[ClockMode]
    CLOCK_MODE_REAL: _ClassVar[ClockMode]
    CLOCK_MODE_ACCELERATED: _ClassVar[ClockMode]
    CLOCK_MODE_MANUAL: _ClassVar[ClockMode]

class FaultKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_KIND_UNSPECIFIED: _ClassVar[FaultKind]
    FAULT_KIND_STUCK_AT_RESET: _ClassVar[FaultKind]
    FAULT_KIND_STUCK_AT_G_MAX: _ClassVar[FaultKind]
    FAULT_KIND_STUCK_AT_RANDOM: _ClassVar[FaultKind]
    FAULT_KIND_DEAD_ROW: _ClassVar[FaultKind]
    FAULT_KIND_DEAD_COLUMN: _ClassVar[FaultKind]
    FAULT_KIND_TILE_LOST: _ClassVar[FaultKind]
    FAULT_KIND_ADC_OFFSET: _ClassVar[FaultKind]
    FAULT_KIND_ADC_GAIN: _ClassVar[FaultKind]
CLOCK_MODE_UNSPECIFIED: ClockMode
CLOCK_MODE_REAL: ClockMode
CLOCK_MODE_ACCELERATED: ClockMode
CLOCK_MODE_MANUAL: ClockMode
FAULT_KIND_UNSPECIFIED: FaultKind
FAULT_KIND_STUCK_AT_RESET: FaultKind
FAULT_KIND_STUCK_AT_G_MAX: FaultKind
FAULT_KIND_STUCK_AT_RANDOM: FaultKind
FAULT_KIND_DEAD_ROW: FaultKind
FAULT_KIND_DEAD_COLUMN: FaultKind
FAULT_KIND_TILE_LOST: FaultKind
FAULT_KIND_ADC_OFFSET: FaultKind
FAULT_KIND_ADC_GAIN: FaultKind

class GetClockRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Clock(_message.Message):
    __slots__ = ("mode", "rate", "device_time_s")
    MODE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_S_FIELD_NUMBER: _ClassVar[int]
    mode: ClockMode
    rate: float
    device_time_s: float
    def __init__(self, mode: _Optional[_Union[ClockMode, str]] = ..., rate: _Optional[float] = ..., device_time_s: _Optional[float] = ...) -> None: ...

class SetClockRequest(_message.Message):
    __slots__ = ("request_id", "mode", "rate")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mode: ClockMode
    rate: float
    def __init__(self, request_id: _Optional[str] = ..., mode: _Optional[_Union[ClockMode, str]] = ..., rate: _Optional[float] = ...) -> None: ...

class AdvanceTimeRequest(_message.Message):
    __slots__ = ("request_id", "by_s")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BY_S_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    by_s: float
    def __init__(self, request_id: _Optional[str] = ..., by_s: _Optional[float] = ...) -> None: ...

class AdvanceTimeResponse(_message.Message):
    __slots__ = ("clock", "recalibrations")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    RECALIBRATIONS_FIELD_NUMBER: _ClassVar[int]
    clock: Clock
    recalibrations: int
    def __init__(self, clock: _Optional[_Union[Clock, _Mapping]] = ..., recalibrations: _Optional[int] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("request_id", "name")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class RestoreSnapshotRequest(_message.Message):
    __slots__ = ("request_id", "name")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots",)
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[Snapshot]
    def __init__(self, snapshots: _Optional[_Iterable[_Union[Snapshot, _Mapping]]] = ...) -> None: ...

class DeleteSnapshotRequest(_message.Message):
    __slots__ = ("request_id", "name")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteSnapshotResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("name", "created_unix_s", "device_time_s", "bytes", "models")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_S_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    created_unix_s: float
    device_time_s: float
    bytes: int
    models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., created_unix_s: _Optional[float] = ..., device_time_s: _Optional[float] = ..., bytes: _Optional[int] = ..., models: _Optional[_Iterable[str]] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("kind", "tile", "row", "column", "amount", "spread", "minus", "number")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TILE_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    MINUS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    kind: FaultKind
    tile: int
    row: int
    column: int
    amount: float
    spread: bool
    minus: bool
    number: int
    def __init__(self, kind: _Optional[_Union[FaultKind, str]] = ..., tile: _Optional[int] = ..., row: _Optional[int] = ..., column: _Optional[int] = ..., amount: _Optional[float] = ..., spread: bool = ..., minus: bool = ..., number: _Optional[int] = ...) -> None: ...

class InjectFaultsRequest(_message.Message):
    __slots__ = ("request_id", "faults")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    faults: _containers.RepeatedCompositeFieldContainer[Fault]
    def __init__(self, request_id: _Optional[str] = ..., faults: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ...) -> None: ...

class ClearFaultsRequest(_message.Message):
    __slots__ = ("request_id", "tiles")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tiles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request_id: _Optional[str] = ..., tiles: _Optional[_Iterable[int]] = ...) -> None: ...

class ListFaultsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFaultsResponse(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedCompositeFieldContainer[Fault]
    def __init__(self, faults: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ...) -> None: ...

class SetTemperatureRequest(_message.Message):
    __slots__ = ("request_id", "celsius")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CELSIUS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    celsius: float
    def __init__(self, request_id: _Optional[str] = ..., celsius: _Optional[float] = ...) -> None: ...

class Temperature(_message.Message):
    __slots__ = ("celsius",)
    CELSIUS_FIELD_NUMBER: _ClassVar[int]
    celsius: float
    def __init__(self, celsius: _Optional[float] = ...) -> None: ...

class SetNoiseRequest(_message.Message):
    __slots__ = ("request_id", "read_noise_per_mvm")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    READ_NOISE_PER_MVM_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    read_noise_per_mvm: str
    def __init__(self, request_id: _Optional[str] = ..., read_noise_per_mvm: _Optional[str] = ...) -> None: ...

class Noise(_message.Message):
    __slots__ = ("read_noise_per_mvm",)
    READ_NOISE_PER_MVM_FIELD_NUMBER: _ClassVar[int]
    read_noise_per_mvm: str
    def __init__(self, read_noise_per_mvm: _Optional[str] = ...) -> None: ...
