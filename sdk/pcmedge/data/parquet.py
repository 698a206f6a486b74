"""Parquet with encoded pictures: a column of JPEG or PNG bytes and a column of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pcmedge.data.pictures import LabelledPictures, Progress, check_count, checked_labels, decode_all
from pcmedge.errors import Error, InputTypeError, InputValueError, MissingExtraError

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels")
ROWS = 1024
"""Rows in memory at a time; of CIFAR-10 half a megabyte (JPEG)."""


def read(files: Sequence[Path], classes: Sequence[str], progress: Progress | None = None) -> LabelledPictures:
    """The rows of one or several files, in order. Two columns, others are not read:

    ``image`` (or ``img``): bytes of a PNG or JPEG, or a struct with such a field ``bytes``; ``label`` (or ``labels``):
    integers. Class names: the schema's key ``classes`` (names with commas between), the names that Hugging Face's
    datasets library writes, else ``classes``.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("data", "Reading Parquet") from error
    opened: list[tuple[Path, Any, str, str]] = []
    try:
        for path in files:
            with _told(path, arrow):
                file = parquet.ParquetFile(path)
                opened.append((path, file, *_columns(path, file.schema_arrow)))
        names = _class_names(opened[0][1].schema_arrow.metadata or {}) or tuple(classes)
        total = check_count(sum(file.metadata.num_rows for _, file, _, _ in opened), str(files[0]))
        labels: list[int] = []
        pictures = decode_all(_rows(opened, labels, arrow), total, progress)
        truth = checked_labels(labels, names, str(files[0]))
        return LabelledPictures(pictures=pictures, labels=truth, classes=names)
    finally:
        for _, file, _, _ in opened:
            file.close()


class _told:
    """Turns whatever Arrow raises while it reads a file into an InputValueError that names the file."""

    def __init__(self, path: Path, arrow: Any) -> None:
        self.path = path
        self.kinds = (arrow.ArrowException, OSError, ValueError, KeyError, MemoryError)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, traceback: object) -> None:
        if isinstance(problem, self.kinds) and not isinstance(problem, Error):
            raise InputValueError(f"{self.path} is damaged or not Parquet: {problem}", path=self.path) from problem


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    """Names of the picture and the label column, once they are there and of the right types."""
    import pyarrow.types as types

    found = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
    image = next((name for name in IMAGE_NAMES if schema.names.count(name) == 1), None)
    label = next((name for name in LABEL_NAMES if schema.names.count(name) == 1), None)
    if image is None or label is None:
        raise InputTypeError(f"{path}: expected the columns 'image' and 'label', found: {found}.", path=path)
    kind = schema.field(image).type
    if types.is_struct(kind):
        inner = kind.field(kind.get_field_index("bytes")).type if kind.get_field_index("bytes") >= 0 else None
        kind = inner
    if kind is None or not (types.is_binary(kind) or types.is_large_binary(kind)):
        raise InputTypeError(
            f"{path}: column '{image}' must hold JPEG or PNG bytes, or a struct with a field 'bytes' of them; found "
            f"{schema.field(image).type}.",
            path=path,
        )
    if not types.is_integer(schema.field(label).type):
        raise InputTypeError(
            f"{path}: column '{label}' must hold integers, found {schema.field(label).type}.", path=path
        )
    return image, label


def _rows(opened: list[tuple[Path, Any, str, str]], labels: list[int], arrow: Any) -> Iterator[tuple[str, bytes]]:
    """Encoded pictures one by one; their labels go into ``labels`` on the way."""
    for path, file, image, label in opened:
        batches = file.iter_batches(batch_size=ROWS, columns=[image, label], use_threads=False)
        row = 0
        while True:
            with _told(path, arrow):
                batch = next(batches, None)
            if batch is None:
                break
            with _told(path, arrow):
                cells, truth = batch.column(image), batch.column(label)
                if arrow.types.is_struct(cells.type):
                    cells = cells.field("bytes") if not cells.null_count else cells
                if cells.null_count or truth.null_count:
                    raise InputValueError(f"{path}: rows {row} to {row + len(batch) - 1} have empty cells.", path=path)
                labels.extend(truth.to_pylist())
            for index, cell in enumerate(cells):
                yield f"{path}, row {row + index}", cell.as_py()
            row += len(batch)


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    """Names from the file's own notes; empty when it has none that make sense."""
    try:
        if b"classes" in metadata:
            return tuple(name.strip() for name in metadata[b"classes"].decode().split(","))
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        names = features[next(name for name in LABEL_NAMES if name in features)]["names"]
        return tuple(str(name) for name in names)
    except (ValueError, LookupError, TypeError, StopIteration, RecursionError):
        return ()
