"""``pcmedge verify``: is this file an intact chip image this SDK can read?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import ImagePath, Json

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.image import Check, ChipImage


def run(
    image: ImagePath,
    trusted_key: Annotated[
        list[Path] | None,
        typer.Option(
            "--trusted-key",
            metavar="FILE",
            help="The image must be signed by this public key, or one of several.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check a chip image: container, hashes, manifest, tables, program, and who signed it.

    Contents of tables and program need the 'emulator' extra, --trusted-key the extra 'sign'; without 'emulator' its
    checks are skipped and named. Hashes alone find damage, not malice: whoever can write the file can hash it again.

    Exit codes: 0 intact, 2 no such file, 3 not an intact image or not signed as asked (the message names the check that
    failed), 10 the 'sign' extra is missing.

    \b
    Examples:
      pcmedge verify model.pcmi
      pcmedge verify model.pcmi --trusted-key vendor.key.pub
    """
    from pcmedge.cli.output import Output
    from pcmedge.image import ChipImage

    opened = ChipImage.open(image)
    report = opened.verify()
    checks = report.checks + _signed(opened, trusted_key or [])
    signers = [each.key_id.hex() for each in opened.signatures.signatures]
    document = {
        "path": image,
        "ok": True,
        "name": opened.name,
        "version": opened.version,
        "sha256": opened.sha256,
        "size_bytes": opened.size,
        "complete": report.complete,
        "checks": checks,
        "signers": signers,
        "trusted": bool(trusted_key),
    }
    Output(json=json).result(document, lambda console: _draw(console, opened, checks, signers))


def _signed(image: ChipImage, keys: list[Path]) -> tuple[Check, ...]:
    """Whether one of the keys signed the image, if there are any to check against; raises if none did."""
    if not keys:
        return ()
    from pcmedge.image import Check
    from pcmedge.image.signing import PublicKey, check_signed

    signer = check_signed(image, [PublicKey.load(key) for key in keys])
    return (Check("signature", "passed", f"by {signer.key_id.hex()}, over the manifest's SHA-256"),)


def _draw(console: Screen, image: ChipImage, checks: tuple[Check, ...], signers: list[str]) -> None:
    from rich.text import Text

    for check in checks:
        mark = Text("ok     ", style="green") if check.outcome == "passed" else Text("skipped", style="yellow")
        console.print(mark, Text(f" {check.name}: {check.detail}"), soft_wrap=True)
    console.say(f"{image.path}: intact image of {image.name} version {image.version}, {image.size:,} bytes")
    if signers and not any(check.name == "signature" for check in checks):
        console.say(f"it says it is signed by {', '.join(signers)}; --trusted-key checks that")
