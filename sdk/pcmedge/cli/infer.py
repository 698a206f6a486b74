"""``pcmedge infer``: ask a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import DeviceUrl, Json, Model, Timeout
from pcmedge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcmedge.cli.output import Output, Screen
    from pcmedge.device import Device, FallbackDevice
    from pcmedge.device.results import InferResult

SHOWN_ROWS = 20
"""Samples a table shows; ``--json`` and ``--output`` hold all of them."""


def run(
    input: Annotated[
        Path,
        typer.Option(
            "--input", "-i", metavar="FILE", help="A batch (.npy, .npz, .parquet) or a picture.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the outputs to .npy or .npz.", show_default=False),
    ] = None,
    model: Model = None,
    detailed: Annotated[bool, typer.Option("--detailed", help="Also age, generations, noise, latency.")] = False,
    classify: Annotated[
        bool, typer.Option("--classify", help="Preprocess as the image says; answer with labels (pictures: always).")
    ] = False,
    top_k: Annotated[int, typer.Option(min=1, help="Labels to show for a picture.")] = 5,
    fallback: Annotated[
        str | None,
        typer.Option(
            metavar="URL_OR_MODEL",
            help="Who answers if the device cannot: another device, or a model file run on this machine.",
            show_default=False,
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            metavar="SECONDS",
            help="With --fallback: a device that takes longer cannot.",
            show_default=False,
        ),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="With --fallback: nor can one whose self-test agrees less (default: its own threshold).",
            show_default=False,
        ),
    ] = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Run inputs through a model on a device. The first axis is the batch.

    \b
    Examples:
      pcmedge infer --input batch.npy --output scores.npy
      pcmedge infer --input inputs.npz --model transformer --detailed
      pcmedge infer --input digit.png --json
      pcmedge infer --input batch.npy --fallback model.pcmi --deadline 0.5
    """
    from pcmedge.cli.arrays import check_writable_kind, read_inputs, write_arrays
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device, open_pair
    from pcmedge.data.pictures import ENDINGS, read_picture

    out = Output(json=json)
    if fallback is None and (deadline is not None or min_agreement is not None):
        raise InputError("--deadline and --min-agreement say when to turn to a --fallback; none is given")

    def connect() -> Device | FallbackDevice:
        if fallback is None:
            return open_device(device, timeout_s=timeout)
        return open_pair(device, fallback, timeout_s=timeout, deadline_s=deadline, min_agreement=min_agreement)

    picture = input.suffix.lower() in ENDINGS
    if picture or classify:
        pixels = read_picture(input) if picture else _one_array(input)
        with connect() as connected:
            ranking = connected.classify(pixels, top_k=top_k, model=model)
            turned = _turnovers(out, connected)
        classes = [{"label": label, "probability": probability} for label, probability in ranking]
        out.result({"classes": classes} | turned, lambda console: _draw_classes(console, ranking))
        return
    if output is not None:
        check_writable_kind(output)
    inputs = read_inputs(input)
    with connect() as connected:
        result = connected.infer_detailed(inputs, model=model)
        turned = _turnovers(out, connected)
    if output is not None:
        write_arrays(output, result.outputs)
    out.result(_document(result, output) | turned, lambda console: _draw(console, result, output, detailed=detailed))


def _turnovers(out: Output, device: Device | FallbackDevice) -> dict[str, Any]:
    """What a document says of why the fallback was asked, if there is one; a person is told."""
    from pcmedge.device import FallbackDevice

    if not isinstance(device, FallbackDevice):
        return {}
    turnovers = device.turnovers()
    if not out.json:
        for turnover in turnovers:
            out.note(f"the {turnover.to_device} answers: {turnover.message}")
    return {"turnovers": turnovers}


def _one_array(path: Path) -> Any:
    """The picture in an array file: uint8 (height, width) or (height, width, channels)."""
    from pcmedge.cli.arrays import read_arrays

    found = read_arrays(path)
    if isinstance(found, dict):
        if len(found) != 1:
            raise InputError(f"{path} holds {len(found)} arrays ({', '.join(found)}); --classify takes one picture")
        return next(iter(found.values()))
    return found


def _draw_classes(console: Screen, ranking: Sequence[tuple[str, float]]) -> None:
    for label, probability in ranking:
        console.say(f"{probability:>7.2%}  {label}")


def _document(result: InferResult, output: Path | None) -> dict[str, Any]:
    """The result with its arrays described, and spelled out unless they went to a file."""
    from pcmedge.device import FallbackResult

    outputs = {}
    for name, array in result.outputs.items():
        outputs[name] = {"dtype": str(array.dtype), "shape": array.shape} | ({} if output else {"data": array})
    return {
        "model": result.model,
        "outputs": outputs,
        "output_file": output,
        "age_s": result.age_s,
        "program_generation": result.program_generation,
        "statistics_generation": result.statistics_generation,
        "noise": result.noise,
        "device_serial": result.device_serial,
        "latency_s": result.latency_s,
    } | ({"answered_by": result.answered_by} if isinstance(result, FallbackResult) else {})


def _draw(console: Screen, result: InferResult, output: Path | None, *, detailed: bool) -> None:
    from pcmedge.durations import format_duration

    for name, array in result.outputs.items():
        shape = " x ".join(str(size) for size in array.shape)
        console.say(f"{name}: {array.dtype} {shape}")
        if output is None:
            _draw_rows(console, array)
    if output is not None:
        console.say(f"written to {output}")
    if detailed:
        noise = "on" if result.noise else "off"
        console.say(
            f"model {result.model} on {result.device_serial}, age {format_duration(result.age_s)}, "
            f"program generation {result.program_generation}, statistics generation {result.statistics_generation}, "
            f"read noise {noise}, {result.latency_s * 1e3:.1f} ms",
        )


def _draw_rows(console: Screen, array: Any) -> None:
    """One line per sample: the values, and the largest one's place if the output is one vector per sample."""
    for row, values in enumerate(array[:SHOWN_ROWS]):
        flat = values.reshape(-1)
        shown = " ".join(f"{value:>9.4g}" for value in flat[:10]) + (" ..." if flat.size > 10 else "")
        largest = f"   max at {int(flat.argmax())}" if array.ndim == 2 and flat.size > 1 else ""
        console.say(f"{row:>5}  {shown}{largest}")
    if len(array) > SHOWN_ROWS:
        console.say(f"       ... {len(array) - SHOWN_ROWS} more; --output or --json have them all")
