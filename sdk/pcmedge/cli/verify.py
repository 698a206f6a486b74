"""``pcmedge verify``: is this file an intact chip image this SDK can read?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcmedge.cli.options import ImagePath, Json

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.image import ChipImage, VerifyReport


def run(image: ImagePath, json: Json = False) -> None:
    """Check a chip image: container, hashes, manifest, tables, program.

    Contents of tables and program need the 'emulator' extra; without it these checks are skipped and named.

    Exit codes: 0 intact, 2 no such file, 3 not an intact image (the message names the check that failed).

    \b
    Example:
      pcmedge verify model.pcmi
    """
    from pcmedge.cli.output import Output
    from pcmedge.image import ChipImage

    opened = ChipImage.open(image)
    report = opened.verify()
    document = {
        "path": image,
        "ok": True,
        "name": opened.name,
        "version": opened.version,
        "sha256": opened.sha256,
        "size_bytes": opened.size,
        "complete": report.complete,
        "checks": report.checks,
    }
    Output(json=json).result(document, lambda console: _draw(console, opened, report))


def _draw(console: Screen, image: ChipImage, report: VerifyReport) -> None:
    from rich.text import Text

    for check in report.checks:
        mark = Text("ok     ", style="green") if check.outcome == "passed" else Text("skipped", style="yellow")
        console.print(mark, Text(f" {check.name}: {check.detail}"), soft_wrap=True)
    console.say(f"{image.path}: intact image of {image.name} version {image.version}, {image.size:,} bytes")
