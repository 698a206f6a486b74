"""What both applications are told on the command line: which device, which frames."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pcmedge
from pcmedge import ChipImage, Device, FallbackDevice

from examples.camera.demo_clip import Clip, demo_image, make_clip
from examples.camera.device_link import AnyDevice, OnEvent
from examples.camera.frames import Capture
from examples.camera.regions import FINDERS, Finder

LONGEST_PROBE_S = 2.0
"""How long a chip that is away is left alone at most: a camera wants it back soon."""


def add_source_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("frames")
    group.add_argument("--source", metavar="SOURCE", help="a video file, a camera's number or the URL of a stream")
    group.add_argument("--fps", type=float, help="pace of a file (default: its own), or asked of a camera")
    group.add_argument("--loop", action="store_true", help="play a file again and again")
    group.add_argument(
        "--region",
        choices=FINDERS,
        help="what the network is shown: the middle square (default), all, or a framed board",
    )


def add_device_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("device")
    group.add_argument(
        "--device", metavar="URL", default=os.environ.get("PCMEDGE_DEVICE"), help="default: $PCMEDGE_DEVICE"
    )
    group.add_argument(
        "--image", metavar="FILE", help="a chip image for an emulator in this process, or for --fallback"
    )
    group.add_argument(
        "--fallback",
        nargs="?",
        const="",
        metavar="FILE",
        help="answers while the device cannot: a chip image, computed digitally, or a .onnx or .tflite model with "
        "labels and preprocessing of --image; without FILE the image itself",
    )
    group.add_argument("--physics", default="pcm-90nm", help="of that emulator (default: %(default)s)")
    group.add_argument("--clock", default="real", help="of that emulator: real, or device seconds per second")
    group.add_argument(
        "--deadline", type=float, default=0.25, metavar="SECONDS",
        help="a frame is answered this long after it was captured, or not at all (default: %(default)s)",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the options come to. ``truths``: of the demo's frames, else empty."""

    source: str | Path
    finder: Finder
    open_device: Callable[[], AnyDevice]
    truths: tuple[str, ...] = ()

    def truth(self, frame_number: int) -> str | None:
        return self.truths[frame_number % len(self.truths)] if self.truths else None


@contextmanager
def setting(options: argparse.Namespace) -> Iterator[Setting]:
    """The source and the device of the options; with ``--demo``, the clip and the chip image are made for it."""
    if not (options.demo or options.source):
        raise SystemExit("expected --source (a video file, a camera's number or a stream's URL), or --demo")
    if not (options.demo or options.device or options.image):
        raise SystemExit("expected --device URL (or $PCMEDGE_DEVICE), --image FILE or --demo")
    with tempfile.TemporaryDirectory(prefix="pcmedge-clip-") as folder:
        clip: Clip | None = None
        image = ChipImage.open(options.image) if options.image else None
        if options.demo and image is None and (options.fallback is not None or not options.device):
            image = demo_image()
        if options.demo and not options.source:
            clip = make_clip(Path(folder))
        yield Setting(
            source=clip.path if clip else options.source,
            finder=FINDERS[options.region or ("board" if clip else "centre")],
            open_device=opener(options, image),
            truths=clip.truths if clip else (),
        )


def opener(options: argparse.Namespace, image: ChipImage | None) -> Callable[[], AnyDevice]:
    """How to open the device, once it is needed. One behind an address need not be there yet."""
    # Two devices share the deadline of a frame.
    deadline_s = options.deadline if options.fallback is None else options.deadline / 2

    if options.fallback is not None and image is None and not options.fallback.endswith(".pcmi"):
        raise SystemExit("expected --image FILE beside --fallback: network or labels and preprocessing come from it")

    def chip() -> Device:
        if options.device:
            return pcmedge.connect(options.device, lazy=True, timeout_s=deadline_s)
        return pcmedge.Emulator(image, physics=options.physics, clock=options.clock)

    def pair() -> FallbackDevice:
        spare = digital(options.fallback, image)
        return FallbackDevice(chip(), spare, deadline_s=deadline_s, probe_longest_s=LONGEST_PROBE_S)

    return chip if options.fallback is None else pair


def digital(file: str, image: ChipImage | None) -> Device:
    """The same network without a chip. ``file``: empty for the image's own."""
    if not file or file.endswith(".pcmi"):
        found = ChipImage.open(file) if file else image
        return pcmedge.Emulator(found, physics="ideal", converters="ideal", read_noise="off", clock="manual")
    assert image is not None
    application = image.manifest.application
    device: Device = pcmedge.DigitalDevice(
        file, name=image.name, labels=list(application.labels), preprocessing=application.preprocessing
    )
    return device


def capture(options: argparse.Namespace, found: Setting, on_event: OnEvent, every_frame: bool = False) -> Capture:
    return Capture(found.source, fps=options.fps, loop=options.loop, every_frame=every_frame, on_event=on_event)
