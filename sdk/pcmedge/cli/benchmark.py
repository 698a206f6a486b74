"""``pcmedge benchmark``: how fast a device answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import (
    READ_NOISE_HELP,
    DeviceUrl,
    Json,
    Model,
    Precision,
    PrecisionOption,
    ReadNoise,
    Timeout,
    comma_separated,
)
from pcmedge.cli.profile import check_picture
from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device import Benchmark, Device


def run(
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE",
            help="Emulate this chip image in this process instead of asking a device.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N,N,...", help="Batch sizes.")] = "1,8,32",
    calls: Annotated[int, typer.Option(min=1, help="Requests that count, for each batch size.")] = 100,
    warmup: Annotated[int, typer.Option(min=0, help="Requests before them.")] = 10,
    input: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Samples to ask for.", show_default="made-up ones"),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Over one stream, one request at a time.")] = False,
    read_noise: Annotated[ReadNoise, typer.Option(metavar="KIND", help=f"{READ_NOISE_HELP} With IMAGE.")] = (
        ReadNoise.additive
    ),
    precision: PrecisionOption = Precision.exact,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference; with IMAGE.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw latency and throughput (.png, .svg).", show_default=False)
    ] = None,
    model: Model = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Measure latency percentiles and throughput over batch sizes, of a device or of an image emulated here.

    One request after the other; batch sizes take turns. A latency is what the caller waits: conversion, the line,
    waiting at the device, computation.

    \b
    Examples:
      pcmedge benchmark model.pcmi
      pcmedge benchmark --device grpc://127.0.0.1:7390 --batch 1,16,64 --calls 500
      pcmedge benchmark model.pcmi --input pictures.npy --plot speed.png --json
    """
    from pcmedge.cli.arrays import read_inputs
    from pcmedge.cli.output import Output
    from pcmedge.device import benchmark

    sizes = _sizes(batch)
    if plot is not None:
        check_picture(plot)
    out = Output(json=json)
    inputs = None if input is None else read_inputs(input)
    emulated = {"read_noise": read_noise.value, "precision": precision.value, "threads": threads}
    with _opened(image, device, timeout, emulated) as asked, out.progress("measuring") as bar:
        found = benchmark(
            asked,
            inputs,
            model=model,
            batches=sizes,
            calls=calls,
            warmup=warmup,
            stream=stream,
            progress=bar.update,
        )
    if plot is not None:
        _plot(found, plot)
    document = {**_document(found), "plot": plot}
    out.result(document, lambda console: _draw(console, found, plot))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in comma_separated(text))
    except ValueError:
        raise InputValueError(f"--batch: expected sizes such as 1,8,32, found {text!r}", argument="batch") from None


@contextmanager
def _opened(
    image: Path | None, url: str | None, timeout_s: float | None, emulated: Mapping[str, Any]
) -> Iterator[Device]:
    """An emulator with the image in this process, or the device meant."""
    from pcmedge.cli.session import open_device

    if image is None:
        with open_device(url, timeout_s=timeout_s) as device:
            yield device
        return
    import pcmedge

    # An image named on the command line wins over a device named in the environment.
    with pcmedge.Emulator(pcmedge.ChipImage.open(image), clock="manual", **emulated) as emulator:
        yield emulator


def _document(found: Benchmark) -> dict[str, Any]:
    return {
        "device": found.device,
        "model": found.model,
        "warmup": found.warmup,
        "streamed": found.streamed,
        "batches": found.batches,
        "best_batch": found.best.batch,
    }


def _draw(console: Screen, found: Benchmark, plot: Path | None) -> None:
    from rich.table import Table

    over = "one stream" if found.streamed else "single calls"
    console.say(f"{found.model} on {found.device}, {over}, {found.warmup} to warm up")
    table = Table(box=None, header_style="dim")
    for title in ("batch", "calls", "p50 ms", "p90 ms", "p99 ms", "mean ms", "min ms", "max ms", "samples/s"):
        table.add_column(title, justify="right")
    for each in found.batches:
        times = (each.p50_s, each.p90_s, each.p99_s, each.mean_s, each.min_s, each.max_s)
        cells = [f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}" for seconds in times]
        table.add_row(str(each.batch), str(each.calls), *cells, f"{each.samples_per_s:,.1f}")
    console.print(table)
    if plot is not None:
        console.say(f"written to {plot}")


def _plot(found: Benchmark, path: Path) -> None:
    from matplotlib.figure import Figure

    from pcmedge.drift.files import write_whole

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = [each.batch for each in found.batches]
    for name in ("p50", "p90", "p99"):
        left.plot(sizes, [1e3 * getattr(each, f"{name}_s") for each in found.batches], marker="o", label=name)
    left.set(xlabel="batch", ylabel="latency, ms", xscale="log", yscale="log")
    left.legend(frameon=False)
    right.plot(sizes, [each.samples_per_s for each in found.batches], marker="o", color="C3")
    right.set(xlabel="batch", ylabel="samples per second", xscale="log", ylim=(0, None))
    figure.suptitle(f"{found.model} on {found.device}", fontsize="medium")
    write_whole(path, lambda temporary: figure.savefig(temporary))
