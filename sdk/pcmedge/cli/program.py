"""``pcmedge program``: write a chip image onto a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, ImagePath, Json, Timeout

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import ProgramResult


def run(
    image: ImagePath,
    replace: Annotated[
        bool, typer.Option("--replace", help="Erase resident images if tiles are short (outage).")
    ] = False,
    use_retired: Annotated[
        bool, typer.Option("--use-retired", help="Also take tiles that a diagnosis retired.")
    ] = False,
    keep_inactive: Annotated[bool, typer.Option("--keep-inactive", help="Leave it resident, not answering.")] = False,
    verify: Annotated[
        bool, typer.Option("--program-and-verify", help="Iterate each device towards its target.")
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(metavar="MICROSIEMENS", min=0, help="Accepted deviation of a device.", show_default=False),
    ] = None,
    max_iterations: Annotated[
        int | None, typer.Option(min=1, help="Most iterations per device.", show_default=False)
    ] = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Program a device with a chip image. Until it is done, the image programmed before keeps answering.

    Ctrl-C cancels the programming on the device, which stays as it was (exit code 130).

    \b
    Examples:
      pcmedge program model.pcmi --device grpc://127.0.0.1:7390
      pcmedge program model.pcmi --program-and-verify --margin 0.5
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device
    from pcmedge.image import ChipImage
    from pcmedge.protocol.values import ProgramAndVerify

    out = Output(json=json)
    opened = ChipImage.open(image)
    iterate = verify or margin is not None or max_iterations is not None
    plan = ProgramAndVerify(margin_microsiemens=margin or 0.0, max_iterations=max_iterations or 0) if iterate else None
    with open_device(device, timeout_s=timeout) as connected, out.progress(f"programming {opened.name}") as bar:
        result = connected.program(
            opened,
            replace=replace,
            use_retired=use_retired,
            activate=not keep_inactive,
            program_and_verify=plan,
            progress=bar.show,
        )
    out.result(result, lambda console: _draw(console, result))


def _draw(console: Screen, result: ProgramResult) -> None:
    model = result.model
    state = "active" if model.active else "resident, not active"
    console.say(
        f"{model.name} version {model.version} on {model.tiles} tiles, {state}; "
        f"program generation {model.program_generation}",
    )
    if result.replaced_models:
        names = ", ".join(result.replaced_models)
        console.say(f"replaced {names}; nothing answered for {result.outage_s:.2f} s")
    if result.tiles:
        worst = max(result.tiles, key=lambda tile: tile.rms_error_microsiemens)
        converged = min(tile.converged_fraction for tile in result.tiles)
        console.say(
            f"worst tile {worst.tile} ({worst.layer}): RMS error {worst.rms_error_microsiemens:.3g} µS; "
            f"least converged tile: {converged:.1%}",
        )
