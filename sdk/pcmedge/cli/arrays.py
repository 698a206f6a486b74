"""Read the arrays a user names on the command line: .npy, .npz, Parquet, pictures.

A file holds either one array, or several by name (the names of the model's inputs). Parquet follows the image format's
tables: one column per input, each row one sample as a (fixed-size) list, its shape in the column's metadata ``shape``
("1,8,8"); scalar columns become arrays of shape (samples,).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcmedge.errors import FileMissingError, InputTypeError, InputValueError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


def read_arrays(path: Path) -> Array | dict[str, Array]:
    """The array in ``path``, or its arrays by name.

    Raises FileMissingError, InputTypeError for an ending we do not read, InputValueError for a damaged file,
    MissingExtraError for Parquet without pyarrow.
    """
    if not path.is_file():
        raise FileMissingError(f"no such file: {path}", path=path)
    ending = path.suffix.lower()
    if ending in (".npy", ".npz"):
        return _read_numpy(path)
    if ending in (".parquet", ".pq"):
        return _read_parquet(path)
    expected = ".npy, .npz or .parquet"
    raise InputTypeError(f"{path}: expected {expected}, found the ending {ending or '(none)'!r}", path=path)


def read_inputs(path: Path) -> Array | dict[str, Array]:
    """As :func:`read_arrays`, but the only array of a file as it is, whatever it is called there."""
    found = read_arrays(path)
    return next(iter(found.values())) if isinstance(found, dict) and len(found) == 1 else found


def first_sample(samples: Array | dict[str, Array]) -> Array | dict[str, Array]:
    """The first sample with its batch axis: the example a torch module is traced with."""
    if isinstance(samples, dict):
        return {name: array[:1] for name, array in samples.items()}
    return samples[:1]


def check_writable_kind(path: Path) -> None:
    """Raise InputTypeError unless :func:`write_arrays` knows the ending; before any work is done."""
    ending = path.suffix.lower()
    if ending not in (".npy", ".npz"):
        raise InputTypeError(f"{path}: expected the ending .npy or .npz, found {ending or '(none)'!r}", path=path)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write one array to .npy, or arrays by name to .npz, whole or not at all.

    Raises InputTypeError for another ending or several arrays for .npy, FileUnwritableError.
    """
    import numpy as np

    from pcmedge.image.files import write_atomically

    check_writable_kind(path)
    data = io.BytesIO()
    if path.suffix.lower() == ".npz":
        np.savez(data, **arrays)  # type: ignore[arg-type]  # the stubs take **kwargs for allow_pickle too
    elif len(arrays) == 1:
        np.save(data, next(iter(arrays.values())))
    else:
        raise InputTypeError(f"{path} can hold one array, not {', '.join(arrays)}; write them to .npz", path=path)
    write_atomically(path, data.getbuffer())


def _read_numpy(path: Path) -> Array | dict[str, Array]:
    import numpy as np

    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as problem:
        raise InputValueError(f"{path} is damaged or holds Python objects: {problem}", path=path) from problem


def _read_parquet(path: Path) -> dict[str, Array]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise MissingExtraError.for_extra("data", "Reading Parquet") from None
    try:
        table = parquet.read_table(path)
    except (arrow.ArrowInvalid, OSError) as problem:
        raise InputValueError(f"{path} is not a readable Parquet file: {problem}", path=path) from problem
    return {field.name: _column(path, field, table.column(field.name)) for field in table.schema}


def _column(path: Path, field: Any, column: Any) -> Array:
    import numpy as np
    import pyarrow as arrow

    if column.null_count:
        raise InputValueError(f"{path}: column {field.name!r} has {column.null_count} empty cells", column=field.name)
    samples = len(column)
    if not (arrow.types.is_list(field.type) or arrow.types.is_fixed_size_list(field.type)):
        return np.asarray(column.to_numpy(zero_copy_only=False) if hasattr(column, "to_numpy") else column)
    flat = np.asarray(column.combine_chunks().flatten())
    text = (field.metadata or {}).get(b"shape", b"").decode()
    shape = tuple(int(part) for part in text.split(",") if part) or (-1,)
    try:
        return flat.reshape((samples, *shape) if samples else (0, *(abs(n) for n in shape)))
    except ValueError:
        found = f"{flat.size} values in {samples} rows"
        raise InputValueError(f"{path}: column {field.name!r} has {found}, not of shape {shape}") from None
