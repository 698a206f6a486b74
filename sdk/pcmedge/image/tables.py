"""The Arrow tables of an image: their schemas, writing them, and reading them without trust."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import Manifest, TensorSpec
from pcmedge.errors import MissingExtraError
from pcmedge.image.datatypes import numpy_dtype
from pcmedge.image.format import corrupt
from pcmedge.image.ipc_guard import check_uncompressed
from pcmedge.image.manifest import BUFFER, COLUMNS, REFERENCE, STATISTICS, TILES
from pcmedge.image.placement import Tile

Array = NDArray[Any]
Floats = NDArray[np.float32]


def arrow() -> Any:
    """The pyarrow module; MissingExtraError if it is not installed."""
    try:
        importlib.import_module("pyarrow.ipc")
        return importlib.import_module("pyarrow")
    except ModuleNotFoundError:
        raise MissingExtraError.for_extra("emulator", "reading the tables of a chip image") from None


def schema(name: str) -> Any:
    """The Arrow schema of the table "tiles", "columns" or "statistics"; no column has nulls."""
    pa = arrow()
    text, i4, i8, f4 = pa.string(), pa.int32(), pa.int64(), pa.float32()
    f4s = pa.list_(pa.field("item", f4, nullable=False))
    kinds = {
        TILES: {
            "tile": i4, "layer": text, "block": text, "first_group": i4, "groups": i4, "first_row": i4, "rows": i4,
            "first_column": i4, "columns": i4, "offset": i8, "length": i8, "sha256": pa.binary(32), "adc_step": f4,
        },
        COLUMNS: {"layer": text, "block": text, "weight_scale": f4s},
        STATISTICS: {"node": text, "layer": text, "reference_mean": f4s, "reference_variance": f4s},
    }  # fmt: skip
    return pa.schema([pa.field(column, kind, nullable=False) for column, kind in kinds[name].items()])


def write_table(name: str, columns: Mapping[str, Any]) -> bytes:
    """An uncompressed Arrow IPC file of one of the fixed tables; ``columns`` holds one sequence per column."""
    pa = arrow()
    kinds = schema(name)
    arrays = [pa.array(columns[field.name], type=field.type) for field in kinds]
    return _to_file(pa, pa.table(arrays, schema=kinds))


def write_samples(arrays: Mapping[str, Array]) -> bytes:
    """An uncompressed Arrow IPC file with one fixed_size_list column per named array of shape (samples, ...)."""
    pa = arrow()
    columns, kinds = [], []
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array).reshape(-1)
        if flat.dtype == np.bool_:
            flat = flat.astype(np.uint8)
        values = pa.array(flat)
        kinds.append(_samples_field(pa, name, array.dtype, array.shape[1:]))
        columns.append(pa.FixedSizeListArray.from_arrays(values, type=kinds[-1].type))
    return _to_file(pa, pa.table(columns, schema=pa.schema(kinds)))


def read_table(data: memoryview, name: str) -> list[dict[str, Any]]:
    """The rows of one of the fixed tables as Python values."""
    table = _open(data, name, lambda found: found.equals(schema(name)))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def read_samples(data: memoryview, name: str, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """The arrays (samples, ...) of a table of samples, read-only views of ``data``; columns must be those of ``specs``.

    The element type and every fixed dimension must be those of the manifest's TensorSpec.
    """
    pa = arrow()
    shapes: dict[str, tuple[int, ...]] = {}

    def as_expected(found: Any) -> bool:
        if found.names != list(specs):
            return False
        for column, spec in specs.items():
            field = found.field(column)
            shapes[column] = _shape(field, spec, name)
            if not field.equals(_samples_field(pa, column, numpy_dtype(spec.datatype), shapes[column])):
                return False
        return True

    table = _open(data, name, as_expected)
    arrays = {}
    for column, spec in specs.items():
        flat = table.column(column).combine_chunks().flatten().to_numpy(zero_copy_only=True)
        array = flat.reshape(table.num_rows, *shapes[column])
        if spec.datatype == "BOOL":
            array = array.astype(np.bool_)
        elif array.dtype.kind == "f":
            _check_numbers(array, name, column)
        array.flags.writeable = False
        arrays[column] = array
    return arrays


def read_tiles(data: memoryview) -> tuple[Tile, ...]:
    return tuple(Tile(**row) for row in read_table(data, TILES))


def read_weight_scales(data: memoryview, manifest: Manifest) -> dict[tuple[str, str], Floats]:
    """{(layer, block): weight_scale of every column (groups * columns)}, in the order of the manifest's layers."""
    expected = {(ly.name, bl.name): bl.groups * bl.columns for ly in manifest.layers for bl in ly.blocks}
    rows = read_table(data, COLUMNS)
    if [((row["layer"], row["block"]), len(row["weight_scale"])) for row in rows] != list(expected.items()):
        raise corrupt("columns-layers", "the table 'columns' does not have each block once, in order, with its columns")
    scales = {(row["layer"], row["block"]): _floats(row["weight_scale"]) for row in rows}
    for (layer, block), scale in scales.items():
        if not (np.isfinite(scale).all() and (scale >= 0).all()):
            raise corrupt("columns-values", f"layer {layer!r} block {block!r}: weight_scale negative or not finite")
    return scales


def read_statistics(data: memoryview, manifest: Manifest) -> dict[str, tuple[str, Floats, Floats]]:
    """{BatchNormalization node: (layer, mean, variance)}, one value per channel."""
    layers = {layer.name for layer in manifest.layers} | {""}
    nodes: dict[str, tuple[str, Floats, Floats]] = {}
    for row in read_table(data, STATISTICS):
        node, layer = row["node"], row["layer"]
        if node in nodes or not node or layer not in layers:
            raise corrupt("statistics-nodes", f"statistics of node {node!r}, layer {layer!r}: unknown or twice")
        mean, variance = _floats(row["reference_mean"]), _floats(row["reference_variance"])
        if len(mean) != len(variance) or len(mean) == 0:
            raise corrupt("statistics-values", f"node {node!r} has {len(mean)} means and {len(variance)} variances")
        if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
            raise corrupt("statistics-values", f"statistics of node {node!r} are not finite or negative")
        nodes[node] = (layer, mean, variance)
    if manifest.calibration_buffer.has_reference_statistics:
        missing = sorted({ly.statistics_node for ly in manifest.layers if ly.statistics_node} - set(nodes))
        if missing:
            raise corrupt("statistics-nodes", f"reference statistics are missing for {', '.join(missing[:5])}")
    return nodes


def input_specs(manifest: Manifest) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in manifest.model.inputs}


def reference_specs(manifest: Manifest) -> dict[str, TensorSpec]:
    """Columns of the table "reference": "input:<name>" and "output:<name>"."""
    inputs = {f"input:{spec.name}": spec for spec in manifest.model.inputs}
    return inputs | {f"output:{spec.name}": spec for spec in manifest.model.outputs}


def read_sample_table(data: memoryview, name: str, manifest: Manifest) -> dict[str, Array]:
    specs = {BUFFER: input_specs, REFERENCE: reference_specs}[name](manifest)
    return read_samples(data, name, specs)


def _check_numbers(array: Array, table: str, column: str) -> None:
    """Inputs are finite; outputs may be infinite (a log of 0), but are numbers."""
    allowed = ~np.isnan(array) if column.startswith("output:") else np.isfinite(array)
    if not allowed.all():
        raise corrupt("table-values", f"table {table!r} column {column!r} has values that are not finite numbers")


def _samples_field(pa: Any, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> Any:
    item = pa.uint8() if dtype == np.bool_ else pa.from_numpy_dtype(dtype)
    kind = pa.list_(pa.field("item", item, nullable=False), math.prod(shape))
    text = ",".join(str(size) for size in shape)
    return pa.field(name, kind, nullable=False, metadata={b"shape": text.encode("ascii")})


def _shape(field: Any, spec: TensorSpec, table: str) -> tuple[int, ...]:
    """The shape of one sample from the field's metadata, checked against the manifest's TensorSpec."""
    text = (field.metadata or {}).get(b"shape", b"-").decode("ascii", "replace")
    parts = text.split(",") if text else []
    fixed = list(spec.shape)[1:]
    if len(parts) == len(fixed) and all(part.isdecimal() and len(part) <= 10 for part in parts):
        sizes = tuple(int(part) for part in parts)
        if all(want in (-1, size) for size, want in zip(sizes, fixed, strict=True)) and math.prod(sizes) < 2**31:
            return sizes
    raise corrupt("table-schema", f"table {table!r} column {field.name!r}: shape {text!r} is not one of {fixed}")


def _to_file(pa: Any, table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=None, use_threads=False)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _open(data: memoryview, name: str, as_expected: Callable[[Any], bool]) -> Any:
    check_uncompressed(data, name)
    pa = arrow()
    try:
        reader = pa.ipc.open_file(pa.py_buffer(data))
        if not as_expected(reader.schema):
            raise corrupt("table-schema", f"table {name!r} does not have the columns an image needs", segment=name)
        table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise corrupt("table-format", f"table {name!r} is not an intact Arrow table: {error}", segment=name) from error
    for column in table.column_names:
        if _nulls(pa, table.column(column)):
            raise corrupt("table-values", f"table {name!r} column {column!r} has nulls", segment=name)
    return table


def _nulls(pa: Any, column: Any) -> int:
    count = int(column.null_count)
    for chunk in column.chunks:
        if pa.types.is_list(chunk.type) or pa.types.is_fixed_size_list(chunk.type):
            count += chunk.values.null_count
    return count


def _floats(values: Sequence[float]) -> Floats:
    found = np.array(values, dtype=np.float32)
    found.flags.writeable = False
    return found
