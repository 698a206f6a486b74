"""The original files of CIFAR-10: pickles, read without giving a pickle anything to run.

A pickle is a program. Two walls keep a hostile one from doing more than fail: only the operations that these files are
made of are let through, with bounded sizes; and the three numpy names they call stand for inert objects of ours, so
that neither Python nor numpy code sees what is inside before we have checked it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pcmedge.data.pictures import HEIGHT, WIDTH, LabelledPictures, Progress, check_count, checked_labels
from pcmedge.errors import Error, InputShapeError, InputValueError

PIXELS: Final = 3 * HEIGHT * WIDTH
MAX_BYTES: Final = 64 << 20
"""Of one file; the original ones have 31 MB."""

# Protocol 2 as Python 2 wrote them, and protocols 3 to 5 as they come out when somebody saved them again.
_OPERATION_NAMES: Final = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    SETITEM SETITEMS APPEND APPENDS BININT BININT1 BININT2 SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES BYTEARRAY8
    SHORT_BINUNICODE BINUNICODE GLOBAL STACK_GLOBAL REDUCE BUILD BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE
"""
_OPERATIONS: Final = frozenset(_OPERATION_NAMES.split())
_MAX_MEMO: Final = 1 << 20
_GLOBALS: Final = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}


def read(files: Sequence[Path], classes: Sequence[str], progress: Progress | None = None) -> LabelledPictures:
    """The pictures of one or several batches, in order. Takes twice the memory of the result while it reads."""
    parts = [_batch(path) for path in files]
    total = check_count(sum(len(labels) for _, labels in parts), str(files[0]))
    pictures = np.empty((total, HEIGHT, WIDTH, 3), dtype=np.uint8)
    done = 0
    for rows, labels in parts:
        pictures[done : done + len(labels)] = rows.reshape(-1, 3, HEIGHT, WIDTH).transpose(0, 2, 3, 1)
        done += len(labels)
        if progress is not None:
            progress(done, total)
    truth = checked_labels([label for _, labels in parts for label in labels], classes, str(files[0]))
    return LabelledPictures(pictures=pictures, labels=truth, classes=tuple(classes))


def _batch(path: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Pixels uint8 [N, 3072] (all red ones row by row, then green, then blue) and N labels."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputValueError(f"{path} is larger than {MAX_BYTES >> 20} MiB; a CIFAR-10 batch has 31 MB.", path=path)
    try:
        content = _load(data)
    except Error:
        raise
    except Exception as problem:  # a pickle can make its reader raise nearly anything
        raise InputValueError(f"{path} is not a CIFAR-10 batch we read: {problem}", path=path) from problem
    if not isinstance(content, dict):
        raise InputValueError(f"{path}: expected a dictionary, found {type(content).__name__}.", path=path)
    pixels = content.get(b"data", content.get("data"))
    labels = content.get(b"labels", content.get("labels"))
    if not isinstance(pixels, _Array) or not isinstance(labels, list) or not all(type(each) is int for each in labels):
        raise InputValueError(f"{path}: expected 'data' (uint8 array) and 'labels' (list of integers).", path=path)
    rows = pixels.uint8(path)
    if rows.shape[1:] != (PIXELS,) or len(rows) != len(labels):
        raise InputShapeError(
            f"{path}: expected {PIXELS} values and one label per picture, found data of shape {list(rows.shape)} and "
            f"{len(labels)} labels.",
            path=path,
        )
    return rows, labels


def _load(data: bytes) -> Any:
    for operation, argument, _ in pickletools.genops(data):
        if operation.name not in _OPERATIONS:
            raise pickle.UnpicklingError(f"the operation {operation.name} does not belong into one")
        if "PUT" in operation.name and isinstance(argument, int) and argument > _MAX_MEMO:
            raise pickle.UnpicklingError(f"{operation.name} {argument} is out of bounds")
    return _Reader(io.BytesIO(data), encoding="bytes").load()


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        known = _GLOBALS.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which does not belong into one")
        return _Name(known)


class _Name:
    """A name that a pickle may call. A new object each time and without attributes, so that nothing can be changed."""

    __slots__ = ("_known",)
    _known: str

    def __init__(self, known: str) -> None:
        object.__setattr__(self, "_known", known)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("it changes a name")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a name")

    def __call__(self, *arguments: Any) -> Any:
        if self._known == "reconstruct":
            return _Array()
        if self._known == "frombuffer":  # numpy's protocol 5: (buffer, dtype, shape, order)
            array = _Array()
            array.fill(arguments[2], arguments[1], arguments[3] == "F", arguments[0])
            return array
        if self._known == "dtype":
            return _Type(arguments[0])
        if self._known == "encode":  # how Python 3 writes bytes in protocol 2
            text, encoding = arguments
            if isinstance(text, str) and encoding == "latin1":
                return text.encode("latin1")
        raise pickle.UnpicklingError(f"it calls {self._known} in a way that does not belong into one")


class _Type:
    """Stands for a numpy dtype; only its name counts."""

    __slots__ = ("name",)

    def __init__(self, name: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        return None  # version, byte order, ...: without meaning for single bytes


class _Array:
    """Stands for a numpy array until its parts are checked."""

    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content: tuple[Any, Any, Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.fill(shape, kind, fortran, data)

    def fill(self, shape: Any, kind: Any, fortran: Any, data: Any) -> None:
        self.content = (shape, kind, fortran, data)

    def uint8(self, path: Path) -> NDArray[np.uint8]:
        """The array itself. Raises InputValueError unless it is two-dimensional uint8 of exactly its bytes."""
        shape: Any
        data: Any
        shape, kind, fortran, data = self.content or (None, None, None, None)
        sizes = isinstance(shape, tuple) and len(shape) == 2 and all(type(size) is int and size > 0 for size in shape)
        if not (
            sizes
            and isinstance(kind, _Type)
            and kind.name in ("u1", b"u1", "uint8")
            and type(data) in (bytes, bytearray)
        ):
            raise InputValueError(f"{path}: 'data' must be a two-dimensional array of uint8.", path=path)
        if fortran or shape[0] * shape[1] != len(data):
            raise InputValueError(f"{path}: 'data' of shape {shape} does not match its {len(data)} bytes.", path=path)
        return np.frombuffer(data, dtype=np.uint8).reshape(shape)
