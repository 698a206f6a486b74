"""The samples a user names on the command line: arrays, pictures or CIFAR-10, as a model takes them."""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.errors import FileMissingError, InputError, InputValueError

if TYPE_CHECKING:
    from pcmedge._contract.image_pb2 import Manifest
    from pcmedge.cli.output import ProgressLine

LABEL_NAMES = ("labels", "label", "y", "targets", "target")
"""What the labels may be called in a data file."""

ARRAYS = (".npy", ".npz", ".parquet", ".pq")


class Part(enum.StrEnum):
    train = "train"
    test = "test"


SampleCount = Annotated[
    int | None,
    typer.Option(
        "--samples",
        min=1,
        metavar="N",
        help="Take N of them, of every class its share. Default: 100 of pictures, all of an array file.",
        show_default=False,
    ),
]
SampleSeed = Annotated[int, typer.Option("--seed", help="Which N: the same seed takes the same ones.")]
SamplePart = Annotated[
    Part | None,
    typer.Option("--part", help="Where the place has a train and a test part. Default: train.", show_default=False),
]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """``inputs`` by name, [count, ...]; ``labels`` [count], None if there are none; ``available``: how many there were.

    ``classes``: how many classes the labels are of. ``class_names``: what the data calls them, if it does.
    """

    inputs: dict[str, Any]
    labels: Any
    count: int
    available: int
    classes: int
    class_names: tuple[str, ...] = ()

    def __str__(self) -> str:
        spread = f" of {self.classes} classes" if self.classes else ""
        return f"{self.count} of {self.available} samples{spread}"


def read_samples(
    path: Path,
    manifest: Manifest,
    *,
    count: int | None,
    seed: int,
    part: Part | None,
    bar: ProgressLine,
    all_pictures: bool = False,
    label_name: str | None = None,
) -> Samples:
    """What is at ``path`` as inputs of the model of ``manifest``, and the labels.

    ``count``: None takes all of an array file, and 100 of pictures or ``all_pictures``. ``label_name``: what an array
    file calls the labels; None: one of LABEL_NAMES.

    Raises FileMissingError, InputError, InputTypeError, InputValueError, InputShapeError, MissingExtraError.
    """
    if not path.exists():
        raise FileMissingError(f"no such file or folder: {path}", path=path)
    if path.is_file() and (path.suffix.lower() not in (".parquet", ".pq") or not _holds_pictures(path)):
        return _from_arrays(path, manifest, count, seed, LABEL_NAMES if label_name is None else (label_name,))
    from pcmedge.data.samples import MANY, picture_samples

    if not manifest.application.HasField("preprocessing"):
        raise InputError(
            f"{path} holds pictures, but the image of {manifest.model.name!r} does not say how they become its input; "
            "compile it with --preprocessing, or pass the inputs as .npy",
            path=path,
        )
    _require_single_input(manifest)
    found = picture_samples(
        path,
        manifest.application.preprocessing,
        count=count or (sys.maxsize if all_pictures else MANY),
        seed=seed,
        part=None if part is None else part.value,
        progress=lambda done, total: bar.update("pictures", done, total),
    )
    return Samples(
        inputs={manifest.application.preprocessing.input: found.tensors},
        labels=found.labels,
        count=len(found.tensors),
        available=found.available,
        classes=len(found.classes),
        class_names=found.classes,
    )


def _require_single_input(manifest: Manifest) -> None:
    names = [spec.name for spec in manifest.model.inputs]
    if len(names) > 1:
        raise InputError(
            f"{manifest.model.name!r} takes the inputs {', '.join(names)}, of which pictures are one; pass all of them "
            "by name in an .npz file"
        )


def _holds_pictures(path: Path) -> bool:
    """Whether a Parquet file has a column of encoded pictures, rather than one per model input."""
    try:
        import pyarrow.parquet as parquet

        from pcmedge.data.parquet import IMAGE_NAMES

        schema = parquet.read_schema(path)
    except (ImportError, OSError, ValueError):
        return False  # whoever reads it says what is wrong
    lists = ("list", "large_list", "fixed_size_list")
    return any(field.name in IMAGE_NAMES and not str(field.type).startswith(lists) for field in schema)


def _from_arrays(path: Path, manifest: Manifest, count: int | None, seed: int, label_names: tuple[str, ...]) -> Samples:
    import numpy as np

    from pcmedge.cli.arrays import read_arrays
    from pcmedge.data.samples import choose

    wanted = [spec.name for spec in manifest.model.inputs]
    inputs, labels = _named(read_arrays(path), wanted, label_names, path)
    lengths = {len(values) if values.ndim else 0 for values in inputs.values()}
    if labels is not None:
        lengths.add(len(labels) if labels.ndim else 0)
    if len(lengths) != 1 or 0 in lengths:
        raise InputValueError(f"{path}: expected arrays of as many samples each, at least 1; found {sorted(lengths)}")
    available = lengths.pop()
    if count is not None:
        chosen = choose(available, count, seed, labels)
        inputs = {name: values[chosen] for name, values in inputs.items()}
        labels = None if labels is None else labels[chosen]
    application = manifest.application
    pictures = application.preprocessing.input if application.HasField("preprocessing") else ""
    datatypes = {spec.name: spec.datatype for spec in manifest.model.inputs}
    if pictures in inputs and inputs[pictures].dtype == np.uint8 and datatypes[pictures] == "FP32":
        from pcmedge.image.application import preprocess

        made = [preprocess(application.preprocessing, picture) for picture in inputs[pictures]]
        inputs[pictures] = np.concatenate(made)
    return Samples(
        inputs=inputs,
        labels=labels,
        count=len(next(iter(inputs.values()))),
        available=available,
        classes=0 if labels is None else len(np.unique(labels)),
    )


def _named(arrays: Any, wanted: list[str], label_names: tuple[str, ...], path: Path) -> tuple[dict[str, Any], Any]:
    """(arrays by input, labels or None)."""
    if not isinstance(arrays, dict):
        arrays = {wanted[0]: arrays}
    label = next((name for name in label_names if name in arrays and name not in wanted), None)
    rest = {name: values for name, values in arrays.items() if name != label}
    if not set(wanted) <= set(rest) and len(wanted) == len(rest) == 1:
        rest = {wanted[0]: next(iter(rest.values()))}
    if not set(wanted) <= set(rest):
        has = ", ".join(arrays) or "none"
        raise InputError(f"{path}: expected arrays for the inputs {', '.join(wanted)}; found {has}", path=path)
    return {name: rest[name] for name in wanted}, None if label is None else arrays[label]
