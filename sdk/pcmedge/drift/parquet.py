"""A drift study as Parquet."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.drift.files import write_whole
from pcmedge.drift.plan import REPAIRED
from pcmedge.drift.result import Row
from pcmedge.errors import MissingExtraError

if TYPE_CHECKING:
    from pcmedge.drift.result import DriftStudy


def write(study: DriftStudy, path: Path) -> None:
    """See :meth:`pcmedge.drift.DriftStudy.to_parquet`."""
    write_rows(
        study.rows,
        path,
        {
            "plan": study.plan.to_json(),
            "model": study.model,
            "image_sha256": study.image_sha256,
            "data_sha256": study.data_sha256,
            "digital_accuracy": json.dumps(study.digital_accuracy),
        },
    )


def write_rows(rows: Iterable[Row], path: Path, metadata: Mapping[str, str]) -> None:
    """Rows as columns (zstd), ``metadata`` under keys ``pcmedge.<name>`` of the file's key-value metadata.

    Nothing of the moment goes into the file: the same study gives the same bytes. Which samples were right is a column
    only where rows keep it; programmings and retired tiles are where chips were repaired.
    """
    rows = tuple(rows)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("data", "Writing Parquet") from error
    schema = pa.schema(
        [
            ("age_s", pa.float64()),
            ("chip", pa.int32()),
            ("seed", pa.int64()),
            ("mode", pa.string()),
            ("realisation", pa.int32()),
            ("accuracy", pa.float64()),
            ("digital_accuracy", pa.float64()),
            ("samples", pa.int64()),
            ("median_drift_factor", pa.float64()),
            ("mean_shift", pa.float64()),
            *([("correct", pa.binary())] if any(row.correct for row in rows) else []),
            *([("programmings", pa.int32()), ("retired_tiles", pa.int32())] if _repaired(rows) else []),
        ],
        metadata={
            "pcmedge.version": version("pcmedge"),
            **{f"pcmedge.{name}": value for name, value in metadata.items()},
        },
    )
    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)
    write_whole(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def _repaired(rows: Iterable[Row]) -> bool:
    return any(row.mode.endswith(REPAIRED) for row in rows)
