"""Scripts of the calibration buffer: samples, and the digital statistics that keep recalibration paired."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pcmedge._contract import device_pb2
from pcmedge.device import _decode
from pcmedge.device._calls import Script, Session, Work, build_message, mutation_message
from pcmedge.device._images import image_bytes, models
from pcmedge.device._inference import Array, Inputs, ModelSpec, check_samples, find_model, model_spec
from pcmedge.device._versions import needs
from pcmedge.device.results import BufferDescription
from pcmedge.errors import (
    InputError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    ModelNotFoundError,
)
from pcmedge.protocol import tensors
from pcmedge.protocol.values import Mutation

if TYPE_CHECKING:
    from pcmedge.image import ChipImage

_SAMPLES_BYTES = 4 << 20
CAPABILITY = "buffer.statistics"
_STATISTICS = (
    "use for digital statistics of a calibration buffer; leave image= and statistics= out, and it recalibrates without "
    "pairing"
)

Statistics = Mapping[str, tuple[ArrayLike, ArrayLike]]


def calibration_buffer(session: Session, *, model: str | None = None) -> Script[BufferDescription]:
    """What recalibration measures on."""
    name = yield from find_model(session, model)
    reply = yield session.read(
        "DescribeCalibrationBuffer", build_message(device_pb2.DescribeCalibrationBufferRequest, model_name=name)
    )
    return _decode.buffer(reply)


def replace_calibration_buffer(
    session: Session,
    samples: Inputs,
    *,
    model: str | None = None,
    image: str | os.PathLike[str] | bytes | ChipImage | None = None,
    statistics: bool | Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    mutation: Mutation | None = None,
) -> Script[BufferDescription]:
    """Replace the calibration buffer by the application's own inputs [samples, ...] (a dict by name for several).

    Recalibration stays paired if the samples' digital statistics go with them. They are measured here, on the image
    the model was programmed from: ``image`` (a path, a ChipImage or its bytes; by its SHA-256 it must be the resident
    one), or without it the chip's own where the chip is in this process. Where there is none the samples go alone, and
    the description's ``has_reference_statistics`` is false. ``statistics``: True makes that an error, False sends none,
    and a mapping batch norm -> (mean, variance) sends these. ``progress(done, total)`` counts samples measured.

    Raises InputShapeError, InputTypeError, InputValueError for samples, statistics or another image;
    UnimplementedError from a device that does not take statistics; MissingExtraError without the extra "emulator".
    """
    spec = yield from model_spec(session, model)
    arrays = check_samples(spec, samples)
    digital = yield from _statistics(session, spec, arrays, image, statistics, progress)
    return (yield from _send(session, "ReplaceCalibrationBuffer", spec, arrays, digital, mutation))


def append_calibration_buffer(
    session: Session,
    samples: Inputs,
    *,
    model: str | None = None,
    image: str | os.PathLike[str] | bytes | ChipImage | None = None,
    statistics: bool | Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    mutation: Mutation | None = None,
) -> Script[BufferDescription]:
    """Add inputs [samples, ...] to the calibration buffer, which is the application's from then on.

    The digital statistics of the samples, as in :meth:`replace_calibration_buffer`, are combined with those of the
    buffer; DeviceStateError if they are asked for (``image``, ``statistics``) and the buffer has none.
    """
    spec = yield from model_spec(session, model)
    arrays = check_samples(spec, samples)
    if image is None and statistics is None and session.resident_image is not None:
        present = yield from calibration_buffer(session, model=spec.name)
        statistics = None if present.has_reference_statistics or not present.samples else False
    digital = yield from _statistics(session, spec, arrays, image, statistics, progress)
    return (yield from _send(session, "AppendCalibrationBuffer", spec, arrays, digital, mutation))


def _statistics(
    session: Session,
    spec: ModelSpec,
    arrays: dict[str, Array],
    image: str | os.PathLike[str] | bytes | ChipImage | None,
    statistics: bool | Mapping[str, tuple[ArrayLike, ArrayLike]] | None,
    progress: Callable[[int, int], None] | None,
) -> Script[device_pb2.CalibrationStatistics | None]:
    """The statistics to send with samples; None for none."""
    if statistics is not None and not isinstance(statistics, bool | Mapping):
        raise InputTypeError(
            f"statistics is True, False or a mapping batch norm -> (mean, variance); found {type(statistics).__name__}",
            argument="statistics",
        )
    if statistics is False:
        if image is not None:
            raise InputError("statistics=False measures nothing: leave image= out", argument="image")
        return None
    if isinstance(statistics, Mapping):
        yield from needs(session, CAPABILITY, _STATISTICS)
        resident = yield from _resident_sha256(session, spec.name)
        return _message(resident, statistics)
    if image is None and session.resident_image is None:
        if statistics:
            raise InputError(
                f"digital statistics are measured on the image that {spec.name!r} was programmed from, which is not "
                "here; pass it: image='model.pcmi'",
                argument="image",
            )
        return None
    opened = _opened(image, session, spec.name)
    yield from needs(session, CAPABILITY, _STATISTICS)
    resident = yield from _resident_sha256(session, spec.name)
    if opened.sha256 != resident:
        raise InputValueError(
            f"model {spec.name!r} was programmed from the image with SHA-256 {resident.hex()[:12]}, the one passed "
            f"({opened.name} version {opened.version}) has {opened.sha256.hex()[:12]}; statistics of another network "
            "would spoil every recalibration. Pass the image that is on the device",
            argument="image",
            expected=resident.hex(),
            found=opened.sha256.hex(),
        )
    if not all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f"):
        return None  # There is nothing to measure: the device refuses such samples, and says why.

    def measured() -> Statistics:
        from pcmedge.compiler import digital_statistics

        return digital_statistics(opened, arrays, progress=progress)

    found = yield Work(measured)
    return _message(resident, found) if found else None


def _opened(image: str | os.PathLike[str] | bytes | ChipImage | None, session: Session, name: str) -> ChipImage:
    from pcmedge.image import ChipImage

    if image is None:
        assert session.resident_image is not None  # the caller looked
        return session.resident_image(name)
    if isinstance(image, ChipImage):
        return image
    if isinstance(image, str | os.PathLike):
        return ChipImage.open(image)
    return ChipImage.from_bytes(image_bytes(image))


def _resident_sha256(session: Session, name: str) -> Script[bytes]:
    for each in (yield from models(session)):
        if each.name == name:
            return bytes.fromhex(each.image_sha256)
    raise ModelNotFoundError(f"model {name!r} is no longer on the device", model=name)


def _message(image_sha256: bytes, statistics: Statistics) -> device_pb2.CalibrationStatistics:
    message = device_pb2.CalibrationStatistics(image_sha256=image_sha256)
    for node, pair in statistics.items():
        try:
            mean, variance = (np.asarray(values, np.float32) for values in pair)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputTypeError(
                f"statistics of {node!r} are (mean, variance), an array per channel each: {error}", node=node
            ) from error
        if mean.ndim != 1 or variance.shape != mean.shape:
            raise InputShapeError(
                f"statistics of {node!r}: expected mean and variance of shape (channels,), found {mean.shape} and "
                f"{variance.shape}",
                node=node,
            )
        message.nodes.add(node=str(node), mean=mean.tolist(), variance=variance.tolist())
    return message


def _send(
    session: Session,
    name: str,
    spec: ModelSpec,
    arrays: dict[str, Array],
    statistics: device_pb2.CalibrationStatistics | None,
    mutation: Mutation | None,
) -> Script[BufferDescription]:
    header = device_pb2.CalibrationBufferHeader(mutation=mutation_message(mutation), model_name=spec.name)
    requests = _requests(header, [arrays[tensor.name] for tensor in spec.inputs], statistics)
    return _decode.buffer((yield session.change(name, requests, timeout_s=session.operation_timeout_s)))


def _requests(
    header: device_pb2.CalibrationBufferHeader,
    arrays: list[Array],
    statistics: device_pb2.CalibrationStatistics | None,
) -> Iterator[device_pb2.CalibrationBufferRequest]:
    yield device_pb2.CalibrationBufferRequest(header=header)
    if statistics is not None:
        yield device_pb2.CalibrationBufferRequest(statistics=statistics)
    count = len(arrays[0])
    step = max(1, _SAMPLES_BYTES // max(1, sum(array[0].nbytes for array in arrays)))
    for start in range(0, count, step):
        parts = [array[start : start + step] for array in arrays]
        samples = device_pb2.CalibrationSamples(count=len(parts[0]), inputs=[tensors.pack(part) for part in parts])
        yield device_pb2.CalibrationBufferRequest(samples=samples)
