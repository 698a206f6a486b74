"""``DigitalDevice``: a .tflite or .onnx file on this machine's processor, behind the same Device as a chip."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcmedge._contract.image_pb2 import Manifest, Preprocessing
from pcmedge.device._calls import Session
from pcmedge.device.async_emulator import awaited
from pcmedge.device.device import Device
from pcmedge.device.transport import LocalTransport
from pcmedge.digital import selftest
from pcmedge.digital.handlers import DigitalHandlers
from pcmedge.digital.runtime import Runtime
from pcmedge.errors import FileMissingError, InputTypeError, InputValueError
from pcmedge.image.application import describe_application
from pcmedge.image.naming import model_name

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_IMAGE_MAGIC = b"\x89PCMI"


def DigitalDevice(
    model: str | os.PathLike[str] | bytes,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    reference: tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]] | None = None,
    threads: int = 1,
) -> Device:
    """A model computed digitally on this processor, behind the Device API: the yardstick beside a chip.

    ``model``: path or bytes of a ``.tflite`` file (runs on LiteRT, the extra "tflite", or on tflite-runtime) or of an
    ``.onnx`` file (on ONNX Runtime, the extra "emulator"). Inputs and outputs have the file's layout and dtypes; the
    first axis is the batch, and a file made for one batch size computes larger ones piece by piece. ``name``: what it
    is served as, else the file's stem. ``labels``, ``preprocessing``: for :meth:`Device.classify`, as in
    :func:`pcmedge.compile`. ``reference``: inputs and expected outputs by name for the self-test; without them it
    repeats made inputs and expects what they gave when the device was made. ``threads``: of one inference.

    Calls that need a chip (program, recalibrate, read_tile, lab, ...) raise UnimplementedError. The file is read by a
    runtime written in C++: open only files you trust, or open them in a process of their own. Raises FileMissingError,
    InputValueError for what is no such model or one the runtime refuses, CompileError for external data,
    MissingExtraError.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputValueError(f"threads is a whole number of at least 1; found {threads!r}", argument="threads")
    data, source = _read(model)
    runtime = _runtime(data, source, threads)
    manifest = Manifest()
    manifest.model.name = model_name(name, Path(source).stem)
    manifest.model.version = 1
    manifest.model.description = f"computed digitally by {runtime.software}"
    manifest.model.inputs.extend(runtime.inputs)
    manifest.model.outputs.extend(runtime.outputs)
    kept = selftest.recorded(runtime, manifest, reference)
    outputs = manifest.model.outputs
    probabilities = {spec.name for spec in outputs if selftest.sums_to_one(spec, kept.outputs[spec.name])}
    manifest.application.CopyFrom(
        describe_application(labels, preprocessing, manifest.model.inputs, outputs, probabilities)
    )
    manifest.application.signatures.extend(runtime.signatures)
    handlers = DigitalHandlers(runtime, manifest, sha256=hashlib.sha256(data).digest(), size=len(data), reference=kept)
    return Device(
        LocalTransport(handlers, address=f"digital {manifest.model.name}", on_close=handlers.close), session=Session()
    )


AsyncDigitalDevice = awaited(DigitalDevice, "AsyncDigitalDevice", "pcmedge.DigitalDevice")


def _read(model: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """The bytes of the file, and what to call it in messages."""
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model), "model"
    try:
        path = Path(model)
    except TypeError:
        raise InputTypeError(
            f"expected a .tflite or .onnx model as a path or its bytes; found {type(model).__name__}", argument="model"
        ) from None
    try:
        return path.read_bytes(), path.name
    except OSError as error:
        raise FileMissingError(f"expected a model at '{path}'; cannot read it: {error.strerror}", path=path) from error


def _runtime(data: bytes, source: str, threads: int) -> Runtime:
    from pcmedge.digital.tflite_runtime import TfliteRuntime, is_tflite

    if is_tflite(data):
        return TfliteRuntime(data, source, threads=threads)
    if data.startswith(_IMAGE_MAGIC):
        raise InputValueError(
            f"'{source}' is a chip image: it holds target conductances, not the digital model. Give the .tflite or "
            ".onnx file it was compiled from, or emulate the image without analog effects: "
            "pcmedge.Emulator(image, physics='ideal', converters='ideal', read_noise='off')",
            argument="model",
        )
    from pcmedge.digital.onnx_runtime import OnnxRuntime

    return OnnxRuntime(data, source, threads=threads)
