"""``pcmedge doctor``: is this installation sound, this image intact, this device fit for it?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import DeviceUrl, Json

if TYPE_CHECKING:
    from pcmedge.cli.checks import Check
    from pcmedge.cli.output import Screen
    from pcmedge.image import ChipImage

_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def run(
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="Also check this chip image.", show_default=False)
    ] = None,
    device: DeviceUrl = None,
    json: Json = False,
) -> int:
    """Check the installation, and an image and a device if you name them.

    Prints one line per check: ok, warn or fail, what was found and what to do. Exit code 1 if a check failed.

    \b
    Examples:
      pcmedge doctor
      pcmedge doctor model.pcmi --device grpc://127.0.0.1:7390
      pcmedge doctor --json | jq '.checks[] | select(.status != "ok")'
    """
    from pcmedge import __version__
    from pcmedge.cli.checks import installation
    from pcmedge.cli.output import Output

    checks = installation()
    opened = None
    if image is not None:
        opened = _image(image, checks)
    if device is not None:
        _device(device, opened, checks)
    failed = [check for check in checks if check.status == "fail"]
    document = {"version": __version__, "ok": not failed, "checks": checks}
    Output(json=json).result(document, lambda console: _draw(console, checks))
    return 1 if failed else 0


def _image(path: Path, checks: list[Check]) -> ChipImage | None:
    from pcmedge.cli.checks import Check
    from pcmedge.errors import Error
    from pcmedge.image import ChipImage

    try:
        image = ChipImage.open(path)
        image.verify()
    except Error as problem:
        advice = "Copy or compile the image again." if path.exists() else "Check the path."
        checks.append(Check(area="image", name=path.name, status="fail", found=problem.message, advice=advice))
        return None
    found = f"{image.name} version {image.version}, profile {image.manifest.profile.name}, {image.size:,} bytes, intact"
    checks.append(Check(area="image", name=path.name, status="ok", found=found))
    return image


def _device(url: str, image: ChipImage | None, checks: list[Check]) -> None:
    from pcmedge.cli.checks import Check
    from pcmedge.cli.devices import describe_device
    from pcmedge.device._versions import compared, version_of
    from pcmedge.errors import Error
    from pcmedge.protocol.version import CONTRACT_MINOR, CONTRACT_VERSION, OURS, spelled

    try:
        found = describe_device(url, timeout_s=5.0)
    except Error as problem:
        advice = "Is it running? Start an emulated one: pcmedge serve"
        checks.append(Check(area="device", name=url, status="fail", found=problem.message, advice=advice))
        return
    identity = found.identity
    text = f"{identity.product} {identity.serial} by {identity.vendor}, firmware {identity.firmware_version}"
    checks.append(Check(area="device", name=url, status="ok", found=text))
    device = version_of(identity)
    same = device == (CONTRACT_VERSION, CONTRACT_MINOR)
    checks.append(
        Check(
            area="device",
            name="contract",
            status="ok" if same else "warn",
            found=f"device speaks version {spelled(*device)}, this SDK {OURS}",
            advice="" if same else compared(device),
        )
    )
    if image is not None:
        checks.append(_fit(identity, image))


def _fit(identity: Any, image: ChipImage) -> Check:
    """Whether the device could hold the image: its geometry, converters, features and tiles."""
    from pcmedge.cli.checks import Check

    geometry, profile = identity.geometry, image.manifest.profile
    pairs = {
        name: (getattr(geometry, name), getattr(profile, name))
        for name in ("tile_rows", "tile_columns", "dac_bits", "adc_bits")
    }
    different = [f"{name} {has} against {wants}" for name, (has, wants) in pairs.items() if has != wants]
    unknown = set(image.manifest.required_features) - set(identity.image_features)
    if different:
        found = f"device and image differ: {', '.join(different)}"
        advice = f"Compile for this device: pcmedge compile --profile {geometry.profile}"
        return Check(area="device", name="fit", status="fail", found=found, advice=advice)
    if unknown:
        found = f"device does not know what the image needs: {', '.join(sorted(unknown))}"
        return Check(area="device", name="fit", status="fail", found=found, advice="Update the device.")
    tiles = image.manifest.placement.tiles
    if tiles > geometry.tiles:
        found = f"the image needs {tiles} tiles, the chip has {geometry.tiles}"
        return Check(
            area="device", name="fit", status="fail", found=found, advice="Use a larger chip or a smaller model."
        )
    found = f"profile matches; needs {tiles} tiles, {geometry.free_tiles} of {geometry.tiles} are free"
    if tiles > geometry.free_tiles:
        advice = "Program with --replace, or erase another image first."
        return Check(area="device", name="fit", status="warn", found=found, advice=advice)
    return Check(area="device", name="fit", status="ok", found=found)


def _draw(console: Screen, checks: list[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    area = ""
    for check in checks:
        if check.area != area:
            area = check.area
            table.add_row("", Text(area, style="bold"), "")
        table.add_row(Text(check.status, style=_STYLE[check.status]), "  " + check.name, Text(check.found))
        if check.advice:
            table.add_row(
                "", "", Text("→ " + check.advice, style=_STYLE[check.status] if check.status != "ok" else "dim")
            )
    console.print(table)
    counts = {status: sum(check.status == status for check in checks) for status in ("ok", "warn", "fail")}
    console.say("  ".join(f"{number} {status}" for status, number in counts.items() if number or status == "ok"))
