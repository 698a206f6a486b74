"""From what an Interpreter is given to a chip image: compiled images as they are, .tflite models compiled once."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message

from pcmedge.errors import CalibrationError, FileMissingError, ImageError, InputTypeError, InputValueError
from pcmedge.image import ChipImage

_IMAGE_MAGIC = b"\x89PCMI"
_TFLITE_IDENTIFIER = b"TFL3"

KEPT_IN_MEMORY = 4
_kept: OrderedDict[str, ChipImage] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Given:
    """What an Interpreter is given: a model by path or content, and how to compile it if it has not been.

    ``options`` are those of :func:`pcmedge.compile`; ``cache`` is a folder of compiled images.
    """

    path: str | os.PathLike[str] | None
    content: bytes | None
    calibration: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cache: str | os.PathLike[str] | None = None

    @property
    def has_model(self) -> bool:
        return bool(self.path or self.content)


def image_of(given: Given) -> ChipImage:
    """The image a model stands for.

    A ``.tflite`` model is compiled once per content, calibration and options: the last images are kept in memory, and
    all of them in the folder ``cache`` if one is named.
    """
    data = model_bytes(given)
    if data.startswith(_IMAGE_MAGIC):
        if given.calibration is not None or given.options:
            names = [*(["calibration"] if given.calibration is not None else []), *given.options]
            raise InputValueError(
                f"{', '.join(names)}: for compiling, and a chip image (.pcmi) has been compiled. Leave them out, or "
                "give the .tflite model.",
                argument=names[0],
            )
        return ChipImage.from_bytes(data)
    if data[4:8] != _TFLITE_IDENTIFIER:
        raise InputValueError(
            f"expected a .tflite model or a chip image (.pcmi), found neither in {given.path or 'model_content'}",
            argument="model_path",
        )
    if given.calibration is None:
        raise CalibrationError(
            "This .tflite model has not been compiled for a chip, and the converter ranges of its tiles come from "
            "typical inputs. Give some hundred of them, calibration=samples (first axis the batch), "
            "or compile once (pcmedge compile model.tflite --calibration samples.npy) and give the .pcmi file."
        )
    given = replace(given, calibration=_materialised(given.calibration))
    key = _key(data, given)
    if key is None:
        return _compiled(data, given)
    with _lock:
        if (known := _kept.get(key)) is not None:
            _kept.move_to_end(key)
            return known
    image = _stored(key, given.cache) or _compiled(data, given)
    if given.cache is not None:
        _store(image, key, given.cache)
    with _lock:
        _kept[key] = image
        while len(_kept) > KEPT_IN_MEMORY:
            _kept.popitem(last=False)
    return image


def model_bytes(given: Given) -> bytes:
    """The bytes of the model given, by path or as they are."""
    path, content = given.path, given.content
    if bool(path) == bool(content):
        raise InputValueError(
            "expected model_path or model_content, one of the two; found " + ("both" if path else "neither"),
            argument="model_path",
        )
    if content:
        if not isinstance(content, bytes | bytearray | memoryview):
            raise InputTypeError(
                f"model_content is the bytes of a model; found {type(content).__name__}", argument="model_content"
            )
        return bytes(content)
    try:
        return Path(os.fsdecode(path or "")).read_bytes()
    except TypeError:
        raise InputTypeError(f"model_path is a path; found {type(path).__name__}", argument="model_path") from None
    except OSError as error:
        raise FileMissingError(f"expected a model at '{path}'; cannot read it: {error.strerror}", path=path) from error


def _compiled(data: bytes, given: Given) -> ChipImage:
    import pcmedge

    # From the bytes that were looked at and hashed, also if the file has changed since.
    with tempfile.TemporaryDirectory(prefix="pcmedge-") as folder:
        copy = Path(folder) / f"{Path(os.fsdecode(given.path)).stem if given.path else 'model'}.tflite"
        copy.write_bytes(data)
        return pcmedge.compile(copy, calibration=given.calibration, **given.options)


def _stored(key: str, cache: str | os.PathLike[str] | None) -> ChipImage | None:
    if cache is None:
        return None
    try:
        return ChipImage.open(_file(key, cache))
    except (FileMissingError, ImageError):
        # Not there yet, or damaged: it is made (again).
        return None


def _store(image: ChipImage, key: str, cache: str | os.PathLike[str]) -> None:
    file = _file(key, cache)
    if image.path == file:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputValueError(
            f"cache: expected a folder to keep images in, found '{cache}' ({error.strerror})"
        ) from error
    image.save(file)


def _file(key: str, cache: str | os.PathLike[str]) -> Path:
    return Path(cache) / f"{key}.pcmi"


def _materialised(calibration: Any) -> Any:
    """The samples as something that can be read twice."""
    if isinstance(calibration, Iterable) and not hasattr(calibration, "__len__") and not hasattr(calibration, "shape"):
        return list(calibration)
    return calibration


def _key(data: bytes, given: Given) -> str | None:
    """What decides the image, as a name; None if something in it cannot be compared."""
    from pcmedge import __version__

    digest = hashlib.sha256(f"pcmedge {__version__}\0".encode())
    digest.update(hashlib.sha256(data).digest())
    decisive = {name: value for name, value in given.options.items() if name != "progress"}
    try:
        for part in (given.calibration, decisive):
            _add(digest, part)
    except TypeError:
        return None
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Add a value to a digest so that different values never add the same bytes. TypeError for unknown kinds."""
    if isinstance(value, Mapping):
        digest.update(b"{%d" % len(value))
        for key in sorted(value):
            _add(digest, key)
            _add(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(b"[%d" % len(value))
        for item in value:
            _add(digest, item)
    elif isinstance(value, os.PathLike):
        # A profile may be a file: its contents decide.
        _add(digest, Path(value).read_bytes() if Path(value).is_file() else os.fspath(value))
    elif isinstance(value, Message):
        _add(digest, value.SerializeToString(deterministic=True))
    elif isinstance(value, str | bytes | bool | int | float | None):
        text = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(b"%s %d " % (type(value).__name__.encode(), len(text)))
        digest.update(text)
    else:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError
        digest.update(f"array {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
