"""How ``pcmedge serve`` lets inference requests wait and share batches: its options, and what they mean."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pcmedge.cli.settings import checked
from pcmedge.durations import parse_duration
from pcmedge.errors import MissingExtraError

MaxBatchSize = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="SAMPLES",
        help="Compute requests of several clients together, up to so many samples; 1: alone.",
    ),
]
MaxQueueDelay = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        callback=checked(parse_duration),
        help="How long a request waits for company to share a batch with, e.g. 2ms.",
    ),
]
MaxQueueSize = Annotated[
    int, typer.Option(min=1, metavar="REQUESTS", help="Requests that may wait; one more is answered BUSY.")
]
MaxBatchesAtOnce = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="BATCHES", help="Batches computed at the same time.", show_default="2; 1 on one processor"
    ),
]


def scheduling(max_batch_size: int, max_queue_delay: str, max_queue_size: int, max_batches_at_once: int | None) -> Any:
    """A Scheduling of these options. MissingExtraError, InputValueError."""
    try:
        from pcmedge_emulator.service.scheduling import Scheduling
    except ModuleNotFoundError as problem:
        raise MissingExtraError.for_extra("emulator", "Emulating a device") from problem
    return Scheduling(
        max_batch_size=max_batch_size,
        max_queue_delay_s=parse_duration(max_queue_delay),
        max_queue_size=max_queue_size,
        max_batches_at_once=max_batches_at_once,
    )
