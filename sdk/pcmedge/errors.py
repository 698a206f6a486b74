"""Every error pcmedge raises, with its stable reason.

::

    Error                                  root; has .reason, .message, .metadata
    ├── ImageError                         the chip image itself
    │   ├── ImageCorruptError              truncated, bit-flipped, inconsistent
    │   ├── ImageFeatureError              needs a feature this reader or device lacks
    │   ├── ImageProfileError              compiled for another chip profile
    │   └── ImageTooLargeError             more tiles than the chip has at all
    ├── CompileError                       your model or your options
    │   ├── UnsupportedOperatorError       lists every offending node at once
    │   ├── CalibrationError               calibration data missing, of wrong shape, not finite
    │   └── AnalogShareError               --require-analog not met
    ├── InputError                         an argument of a call
    │   ├── InputShapeError
    │   ├── InputTypeError
    │   └── InputValueError                not finite, out of range, unparsable
    ├── NotFoundError
    │   ├── ModelNotFoundError
    │   └── FileMissingError
    ├── DeviceStateError                   the call is right, the device is not ready for it
    │   ├── NotProgrammedError
    │   ├── CapacityError                  not enough *free* tiles; `replace` would do
    │   ├── LeaseHeldError                 somebody else programs the device
    │   ├── GenerationMismatchError        the device is not in the state the caller expected
    │   ├── RecalibrationRefusedError      the guard kept the old statistics
    │   └── ClockError                     the clock mode does not allow this
    ├── UnavailableError                   no device there, or it went away
    │   ├── DeadlineError
    │   └── BusyError                      a bounded queue is full
    ├── CancelledError
    ├── AddressInUseError
    ├── FileUnwritableError                a file we were to write: full disk, no permission
    ├── StoreError                         what survives a power cut
    │   ├── StoreInUseError
    │   ├── StoreUnwritableError
    │   └── StoreCorruptError
    ├── UnimplementedError                 the contract has it, this device does not
    ├── MissingExtraError                  pip install 'pcmedge[...]'
    └── InternalError                      our bug, please report

The reason is the stable API: it travels in ``google.rpc.ErrorInfo`` (domain ``pcm``) and decides the class on the
client, so an error is the same over gRPC and in process. A message says what was expected, what was found and what to
do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

ERROR_DOMAIN = "pcm"


class Error(Exception):
    """Root of every error pcmedge raises.

    ``reason`` is the stable name of the kind of error, ``status`` the gRPC status it travels with, ``metadata``
    string facts for programs (names, counts, shapes), ``message`` the sentence for people.
    """

    reason: ClassVar[str] = "INTERNAL"
    status: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = {key: str(value) for key, value in metadata.items()}

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.metadata))


def _rebuild(kind: type[Error], message: str, metadata: Mapping[str, str]) -> Error:
    return kind(message, **metadata)


class ImageError(Error):
    reason = "IMAGE_INVALID"
    status = "INVALID_ARGUMENT"
    exit_code = 3


class ImageCorruptError(ImageError):
    """The bytes are not an intact chip image; ``check`` in the metadata names the check that failed."""

    reason = "IMAGE_CORRUPT"
    status = "DATA_LOSS"


class ImageFeatureError(ImageError):
    reason = "IMAGE_FEATURE_UNSUPPORTED"
    status = "FAILED_PRECONDITION"


class ImageProfileError(ImageError):
    reason = "IMAGE_PROFILE_MISMATCH"
    status = "FAILED_PRECONDITION"


class ImageTooLargeError(ImageError):
    reason = "IMAGE_TOO_LARGE"
    status = "FAILED_PRECONDITION"


class CompileError(Error):
    reason = "COMPILE_FAILED"
    status = "INVALID_ARGUMENT"
    exit_code = 4


class UnsupportedOperatorError(CompileError):
    reason = "UNSUPPORTED_OPERATOR"


class CalibrationError(CompileError):
    reason = "CALIBRATION_INVALID"


class AnalogShareError(CompileError):
    reason = "ANALOG_SHARE_TOO_LOW"


class InputError(Error):
    reason = "INPUT_INVALID"
    status = "INVALID_ARGUMENT"
    exit_code = 2


class InputShapeError(InputError):
    reason = "INPUT_SHAPE"


class InputTypeError(InputError):
    reason = "INPUT_TYPE"


class InputValueError(InputError):
    reason = "INPUT_VALUE"


class NotFoundError(Error):
    reason = "NOT_FOUND"
    status = "NOT_FOUND"
    exit_code = 2


class ModelNotFoundError(NotFoundError):
    reason = "MODEL_NOT_FOUND"


class FileMissingError(NotFoundError):
    reason = "FILE_MISSING"


class DeviceStateError(Error):
    reason = "DEVICE_STATE"
    status = "FAILED_PRECONDITION"
    exit_code = 5


class NotProgrammedError(DeviceStateError):
    reason = "NOT_PROGRAMMED"


class CapacityError(DeviceStateError):
    reason = "TILES_OCCUPIED"


class LeaseHeldError(DeviceStateError):
    reason = "LEASE_HELD"


class GenerationMismatchError(DeviceStateError):
    reason = "GENERATION_MISMATCH"


class RecalibrationRefusedError(DeviceStateError):
    reason = "RECALIBRATION_REFUSED"


class ClockError(DeviceStateError):
    reason = "CLOCK_MODE"


class UnavailableError(Error):
    reason = "UNAVAILABLE"
    status = "UNAVAILABLE"
    exit_code = 6


class DeadlineError(UnavailableError):
    reason = "DEADLINE_EXCEEDED"
    status = "DEADLINE_EXCEEDED"


class BusyError(UnavailableError):
    reason = "BUSY"
    status = "RESOURCE_EXHAUSTED"


class CancelledError(Error):
    reason = "CANCELLED"
    status = "CANCELLED"
    exit_code = 130


class AddressInUseError(Error):
    reason = "ADDRESS_IN_USE"
    status = "FAILED_PRECONDITION"
    exit_code = 7


class FileUnwritableError(Error):
    """A result file could not be written (full disk, no permission); what stood there before still stands."""

    reason = "FILE_UNWRITABLE"
    status = "FAILED_PRECONDITION"
    exit_code = 8


class StoreError(Error):
    reason = "STORE"
    status = "FAILED_PRECONDITION"
    exit_code = 8


class StoreInUseError(StoreError):
    reason = "STORE_IN_USE"


class StoreUnwritableError(StoreError):
    """The store could not be written (read-only, full disk). The state before the call stands.

    Metadata ``in_doubt`` = "true": a restart may find the change done all the same; repeat it with its request id.
    """

    reason = "STORE_UNWRITABLE"
    status = "RESOURCE_EXHAUSTED"


class StoreCorruptError(StoreError):
    reason = "STORE_CORRUPT"
    status = "DATA_LOSS"


class UnimplementedError(Error):
    reason = "UNIMPLEMENTED"
    status = "UNIMPLEMENTED"
    exit_code = 9


class MissingExtraError(Error):
    reason = "MISSING_EXTRA"
    status = "FAILED_PRECONDITION"
    exit_code = 10

    @classmethod
    def for_extra(cls, extra: str, needed_for: str) -> MissingExtraError:
        """The usual message: what is missing, for what, and the pip line that installs it."""
        return cls(
            f"{needed_for} needs the '{extra}' extra, which is not installed. Run: pip install 'pcmedge[{extra}]'",
            extra=extra,
        )


class InternalError(Error):
    reason = "INTERNAL"
    status = "INTERNAL"
    exit_code = 70


def _kinds(root: type[Error]) -> dict[str, type[Error]]:
    # A subclass without a reason of its own (one that is a builtin error as well) is not what a reason stands for.
    found = {root.reason: root} if "reason" in vars(root) else {}
    for kind in root.__subclasses__():
        found.update(_kinds(kind))
    return found


def error_from_reason(reason: str, message: str, metadata: Mapping[str, str] | None = None) -> Error:
    """The typed error for a reason received from a device; an unknown reason becomes a plain :class:`Error`."""
    kinds = _kinds(Error)
    kinds["INTERNAL"] = InternalError
    return kinds.get(reason, Error)(message, **dict(metadata or {}))
