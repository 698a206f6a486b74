"""``pcmedge buffer``: the inputs recalibration measures on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Model, Timeout
from pcmedge.errors import InputError

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import BufferDescription


def run(
    replace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure on these inputs from now on.", show_default=False)
    ] = None,
    append: Annotated[Path | None, typer.Option(metavar="FILE", help="Add these inputs.", show_default=False)] = None,
    model: Model = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Show, replace or extend the calibration buffer of a model.

    \b
    Examples:
      pcmedge buffer
      pcmedge buffer --replace field-inputs.npy
    """
    from pcmedge.cli.arrays import read_inputs
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    if replace is not None and append is not None:
        raise InputError("give --replace or --append, not both")
    source = replace or append
    samples = None if source is None else read_inputs(source)
    with open_device(device, timeout_s=timeout) as connected:
        if samples is None:
            found = connected.calibration_buffer(model=model)
        elif replace is not None:
            found = connected.replace_calibration_buffer(samples, model=model)
        else:
            found = connected.append_calibration_buffer(samples, model=model)
    Output(json=json).result(found, lambda console: _draw(console, found))


def _draw(console: Screen, found: BufferDescription) -> None:
    if not found.samples:
        console.say("no calibration buffer; recalibration can only use global drift compensation")
        return
    paired = "with" if found.has_reference_statistics else "without"
    console.say(
        f"{found.samples} samples, {found.bytes:,} bytes, source {found.source}; {paired} digital reference statistics"
    )
