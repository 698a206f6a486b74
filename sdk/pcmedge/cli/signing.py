"""``pcmedge keygen`` and ``pcmedge sign``: who made an image, provably."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pcmedge.cli.options import ImagePath, Json


def _passphrase() -> str | None:
    from pcmedge.image.signing import PASSPHRASE_VARIABLE

    return os.environ.get(PASSPHRASE_VARIABLE) or None


def keygen(
    output: Annotated[
        Path, typer.Argument(metavar="FILE", help="The private key; the public one is FILE.pub.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Make a pair of Ed25519 keys: FILE to sign images with, FILE.pub for the devices that are to trust them.

    The private key is written with mode 600, encrypted if $PCMEDGE_KEY_PASSPHRASE is set, and never replaces a file.

    Exit codes: 0 made, 8 a file exists or cannot be written, 10 the 'sign' extra is missing.

    \b
    Example:
      pcmedge keygen vendor.key
    """
    from pcmedge.cli.output import Output
    from pcmedge.image.signing import SigningKey

    key = SigningKey.generate()
    passphrase = _passphrase()
    public = key.save(output, passphrase)
    document = {
        "private_key": output,
        "public_key": public,
        "key_id": key.public.key_id,
        "encrypted": passphrase is not None,
    }
    how = "encrypted" if passphrase is not None else "not encrypted"
    text = f"key {key.public.key_id.hex()}: {output} signs (keep it secret; {how}), {public} is for the devices"
    Output(json=json).result(document, lambda console: console.say(text))


def sign(
    image: ImagePath,
    key: Annotated[Path, typer.Option("--key", "-k", metavar="FILE", help="Private key of 'pcmedge keygen'.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write; by default the image itself."),
    ] = None,
    json: Json = False,
) -> None:
    """Sign a chip image with an Ed25519 key, so that a device can tell who made it and that nothing changed since.

    Images are signed, not encrypted: whoever has the file has the model. Signatures of other keys stay, so that several
    parties can vouch for one image. The passphrase of an encrypted key is taken from $PCMEDGE_KEY_PASSPHRASE.

    Exit codes: 0 signed, 2 no such file or not a private key, 3 not an intact image, 8 cannot write, 10 the 'sign'
    extra is missing.

    \b
    Examples:
      pcmedge sign model.pcmi --key vendor.key
      pcmedge serve --signatures require --trusted-key vendor.key.pub
    """
    from pcmedge.cli.output import Output
    from pcmedge.image import ChipImage
    from pcmedge.image.signing import SigningKey

    loaded = SigningKey.load(key, _passphrase())
    signed = loaded.sign(ChipImage.open(image))
    target = output or image
    signed.save(target)
    signers = [each.key_id.hex() for each in signed.signatures.signatures]
    document = {
        "path": target,
        "name": signed.name,
        "version": signed.version,
        "sha256": signed.sha256,
        "key_id": loaded.public.key_id,
        "signers": signers,
    }
    text = f"{target}: {signed.name} version {signed.version}, signed by {', '.join(signers)}"
    Output(json=json).result(document, lambda console: console.say(text))
