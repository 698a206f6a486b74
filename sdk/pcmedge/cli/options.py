"""Options that mean the same in every verb, declared once."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text (errors too).")]
DeviceUrl = Annotated[
    str | None,
    typer.Option(
        "--device",
        "-d",
        metavar="URL",
        envvar="PCMEDGE_DEVICE",
        help="grpc://HOST:PORT, grpcs://HOST:PORT or unix:///PATH of the device; digital:///PATH of a model.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME", help="Model name; not needed when one model is resident."),
]
Reads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=64,
        help="Reads of the chip that statistics are averaged over (default: the device's).",
        show_default=False,
    ),
]
ImagePath = Annotated[Path, typer.Argument(metavar="IMAGE", help="A chip image (.pcmi).", show_default=False)]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.001,
        metavar="SECONDS",
        help="Deadline of each call (30; 900 for long ones).",
        show_default=False,
    ),
]

PHYSICS_HELP = "pcm-90nm, pcm-14nm, pcm-14nm-single or ideal."
READ_NOISE_HELP = "Short-term noise of each product: additive, input-dependent or off."


class ReadNoise(enum.StrEnum):
    additive = "additive"
    off = "off"
    input_dependent = "input-dependent"


class Precision(enum.StrEnum):
    exact = "exact"
    turbo = "turbo"


PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", help="Arithmetic of the emulation: turbo is int8, faster with --read-noise off."),
]


def comma_separated(text: str) -> tuple[str, ...]:
    """The parts of ``a,b,c``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
