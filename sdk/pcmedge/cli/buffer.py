"""``pcmedge buffer``: the inputs recalibration measures on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Model, Timeout
from pcmedge.cli.samples import SampleCount, SamplePart, SampleSeed
from pcmedge.errors import InputError

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import BufferDescription
    from pcmedge.image import ChipImage


def run(
    replace: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Measure on these inputs from now on: a folder of pictures, CIFAR-10, .npy, .npz or .parquet.",
            show_default=False,
        ),
    ] = None,
    append: Annotated[Path | None, typer.Option(metavar="PATH", help="Add these inputs.", show_default=False)] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            metavar="IMAGE",
            help="The image on the device: with digital statistics from it, recalibration stays paired.",
            show_default=False,
        ),
    ] = None,
    samples: SampleCount = None,
    seed: SampleSeed = 0,
    part: SamplePart = None,
    model: Model = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Show, replace or extend the calibration buffer of a model.

    Pictures become inputs by the image's own preprocessing. With --image their digital statistics are measured here
    (extra 'emulator'), which paired recalibration compares the chip with.

    \b
    Examples:
      pcmedge buffer
      pcmedge buffer --replace photos/ --image model.pcmi
      pcmedge buffer --replace field-inputs.npy
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.samples import read_samples
    from pcmedge.cli.session import open_device
    from pcmedge.image import ChipImage

    if replace is not None and append is not None:
        raise InputError("give --replace or --append, not both")
    source = replace or append
    if source is None and (image is not None or samples is not None or part is not None):
        raise InputError("--image, --samples and --part say something about inputs: give --replace or --append too")
    out = Output(json=json)
    opened = None if image is None else ChipImage.open(image)
    with open_device(device, timeout_s=timeout) as connected:
        if source is None:
            found = connected.calibration_buffer(model=model)
        else:
            verb = connected.replace_calibration_buffer if replace is not None else connected.append_calibration_buffer
            with out.progress("calibration buffer") as bar:
                manifest = connected.manifest(model) if opened is None else opened.manifest
                read = read_samples(source, manifest, count=samples, seed=seed, part=part, bar=bar)
                found = verb(
                    read.inputs,
                    model=model,
                    image=opened,
                    progress=lambda done, total: bar.update("digital statistics", done, total),
                )
            if not json:
                out.note(f"took {read} at {source}")
    if source is not None and opened is None and not found.has_reference_statistics and not json:
        out.note("without digital statistics recalibration is not paired; give --image, the image on the device")
    out.result(found, lambda console: _draw(console, found))


def rebuffer(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A chip image (.pcmi).", show_default=False)],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="The inputs: a folder of pictures, CIFAR-10, .npy, .npz or .parquet.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The image to write.", show_default=False)
    ],
    samples: SampleCount = None,
    seed: SampleSeed = 0,
    part: SamplePart = None,
    image_version: Annotated[
        int | None,
        typer.Option(min=1, help="Version of the new image. Default: one more.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Make an image of an image: the same network with your own inputs as its calibration buffer.

    Their digital statistics are measured on the image itself; the model it was compiled from is not needed. The buffer
    holds the inputs, so keep the new image as you would keep them. Signatures are of the image before: the new one has
    none until it is signed (pcmedge sign).

    \b
    Examples:
      pcmedge rebuffer model.pcmi photos/ -o mine.pcmi
      pcmedge rebuffer model.pcmi inputs.npz -o mine.pcmi --samples 26 --seed 1
    """
    from pcmedge.cli.drawing import image_document
    from pcmedge.cli.output import Output
    from pcmedge.cli.samples import read_samples
    from pcmedge.compiler import with_buffer
    from pcmedge.image import ChipImage

    out = Output(json=json)
    opened = ChipImage.open(image)
    with out.progress("calibration buffer") as bar:
        read = read_samples(data, opened.manifest, count=samples, seed=seed, part=part, bar=bar)
        made = with_buffer(
            opened,
            read.inputs,
            version=image_version,
            progress=lambda done, total: bar.update("digital statistics", done, total),
        )
    made.save(output)
    document = image_document(made) | {"path": output}
    if opened.signatures.signatures:
        out.note("the signatures of the image before do not cover the new one; sign it: pcmedge sign")
    out.result(document, lambda console: _draw_made(console, made, f"{read} at {data}", output))


def _draw_made(console: Screen, made: ChipImage, source: str, output: Path) -> None:
    buffer = made.manifest.calibration_buffer
    paired = "with" if buffer.has_reference_statistics else "without"
    console.say(f"{made.name} version {made.version}: a buffer of {source}, {paired} digital statistics")
    console.say(f"written to {output}, {made.size:,} bytes")


def _draw(console: Screen, found: BufferDescription) -> None:
    if not found.samples:
        console.say("no calibration buffer; recalibration can only use global drift compensation")
        return
    paired = "with" if found.has_reference_statistics else "without"
    console.say(
        f"{found.samples} samples, {found.bytes:,} bytes, source {found.source}; {paired} digital reference statistics"
    )
