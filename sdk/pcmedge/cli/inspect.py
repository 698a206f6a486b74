"""``pcmedge inspect``: draw a chip image. Needs neither a device nor an extra."""

from __future__ import annotations

from typing import Annotated

import typer

from pcmedge.cli.options import ImagePath, Json


def run(
    image: ImagePath,
    layers: Annotated[bool, typer.Option("--layers", "-l", help="Also every node: where it runs and why.")] = False,
    json: Json = False,
) -> None:
    """Draw a chip image: layers on their tiles, utilisation, energy and latency per inference.

    --json prints the whole manifest. The maps of the tiles need the 'emulator' extra.

    \b
    Examples:
      pcmedge inspect model.pcmi
      pcmedge inspect model.pcmi --layers
      pcmedge inspect model.pcmi --json | jq .manifest.placement
    """
    from pcmedge.cli.drawing import draw_image, image_document
    from pcmedge.cli.output import Output
    from pcmedge.image import ChipImage

    opened = ChipImage.open(image)
    Output(json=json).result(image_document(opened), lambda console: draw_image(console, opened, nodes=layers))
