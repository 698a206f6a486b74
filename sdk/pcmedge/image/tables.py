"""The Arrow tables of an image: their schemas, writing them, and reading them without trust."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any, Final

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
_TILE_COLUMNS: Final = tuple(field.name for field in fields(Tile))


def arrow() -> Any:
    """The pyarrow module; MissingExtraError if it is not installed."""
    try:
        importlib.import_module("pyarrow.ipc")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise MissingExtraError.for_extra("emulator", "reading the tables of a chip image") from None


def schema(name: str) -> Any:
    """The Arrow schema of the table "tiles", "columns" or "statistics"; no column has nulls."""
    pa = arrow()
    names = pa.dictionary(pa.int16(), pa.string())
    i4, i8, f4 = pa.int32(), pa.int64(), pa.float32()
    kinds = {
        TILES: {
            "tile": i4, "layer": names, "block": names, "first_group": i4, "groups": i4, "first_row": i4, "rows": i4,
            "first_column": i4, "columns": i4, "offset": i8, "length": i8, "sha256": pa.binary(32), "adc_step": f4,
        },
        COLUMNS: {"layer": names, "block": names, "column": i4, "weight_scale": f4},
        STATISTICS: {"node": names, "layer": names, "channel": i4, "reference_mean": f4, "reference_variance": f4},
    }  # fmt: skip
    return pa.schema([pa.field(column, kind, nullable=False) for column, kind in kinds[name].items()])


def write_table(name: str, columns: Mapping[str, Any]) -> bytes:
    """An uncompressed Arrow IPC file of one of the fixed tables; ``columns`` holds one sequence per column."""
    pa = arrow()
    kinds = schema(name)
    arrays = []
    for field in kinds:
        values = columns[field.name]
        if pa.types.is_dictionary(field.type):
            arrays.append(_dictionary(pa, values))
        else:
            arrays.append(pa.array(values, type=field.type))
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


def read_table(data: memoryview, name: str) -> dict[str, Any]:
    """The columns of one of the fixed tables: numpy arrays, lists of str for names, lists of bytes for hashes."""
    table = _open(data, name, lambda found: found.equals(schema(name)))
    return {column: _values(table.column(column)) for column in table.column_names}


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
    columns = read_table(data, TILES)
    plain = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    return tuple(Tile(**dict(zip(_TILE_COLUMNS, row, strict=True))) for row in zip(*plain, strict=True))


def read_weight_scales(data: memoryview, manifest: Manifest) -> dict[tuple[str, str], Floats]:
    """{(layer, block): weight_scale of every column (groups * columns)}, in the order of the manifest's layers."""
    table = read_table(data, COLUMNS)
    keys = list(zip(table["layer"], table["block"], strict=True))
    values = _split(keys, table["column"], table["weight_scale"], COLUMNS)
    expected = {(ly.name, bl.name): bl.groups * bl.columns for ly in manifest.layers for bl in ly.blocks}
    if {key: len(scale) for key, scale in values.items()} != expected:
        raise corrupt("columns-layers", "the table 'columns' does not have every column of every layer once")
    for (layer, block), scale in values.items():
        if not (np.isfinite(scale).all() and (scale >= 0).all()):
            raise corrupt("columns-values", f"layer {layer!r} block {block!r}: weight_scale negative or not finite")
    return {key: values[key] for key in expected}


def read_statistics(data: memoryview, manifest: Manifest) -> dict[str, tuple[str, Floats, Floats]]:
    """{BatchNormalization node: (layer, mean, variance)}, one value per channel."""
    table = read_table(data, STATISTICS)
    keys = list(zip(table["node"], table["layer"], strict=True))
    means = _split(keys, table["channel"], table["reference_mean"], STATISTICS)
    variances = _split(keys, table["channel"], table["reference_variance"], STATISTICS)
    layers = {layer.name for layer in manifest.layers}
    nodes = {}
    for (node, layer), mean in means.items():
        if node in nodes or not node or layer not in layers | {""}:
            raise corrupt("statistics-nodes", f"statistics of node {node!r}, layer {layer!r}: unknown or twice")
        variance = variances[node, layer]
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


def _dictionary(pa: Any, values: Sequence[str]) -> Any:
    """Names as int16 indices into the distinct values, in order of first appearance."""
    index = {value: number for number, value in enumerate(dict.fromkeys(values))}
    indices = np.fromiter((index[value] for value in values), dtype=np.int16, count=len(values))
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(list(index), type=pa.string()))


def _to_file(pa: Any, table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=None, unify_dictionaries=True, use_threads=False)
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
        if pa.types.is_dictionary(chunk.type):
            count += chunk.dictionary.null_count
        elif pa.types.is_fixed_size_list(chunk.type):
            count += chunk.values.null_count
    return count


def _values(column: Any) -> Any:
    """numpy array of a number column, list of str or bytes of any other."""
    kinds = arrow().types
    if kinds.is_dictionary(column.type) or kinds.is_fixed_size_binary(column.type):
        return column.to_pylist()
    return column.to_numpy()


def _split(keys: Sequence[Any], numbers: Array, values: Floats, table: str) -> dict[Any, Floats]:
    """Cut a column where its key changes; within one key ``numbers`` must count 0, 1, 2, ..."""
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    parts: dict[Any, Floats] = {}
    for start, stop in pairwise([*starts, len(keys)]):
        if keys[start] in parts or not np.array_equal(numbers[start:stop], np.arange(stop - start)):
            raise corrupt("table-values", f"rows of {keys[start]} in table {table!r} are not together and in order")
        part = np.array(values[start:stop], dtype=np.float32)
        part.flags.writeable = False
        parts[keys[start]] = part
    return parts
