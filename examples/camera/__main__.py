"""Label what a camera sees with a network on a PCM chip.

python -m examples.camera --demo                                        # everything self-made; no camera, no chip
python -m examples.camera --source 0 --device grpc://127.0.0.1:7390     # the first camera, a chip behind a port
python -m examples.camera --source rtsp://host/stream --image model.pcmi --headless --json

Frames keep coming when the device goes away, and answers when it is back. q, Escape or Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
from pcmedge.errors import Error

from examples.camera import options as given
from examples.camera.demo_clip import demo_image
from examples.camera.device_link import DeviceLink
from examples.camera.frames import Capture, SourceError
from examples.camera.outputs import Reporter, VideoFile, show, why_no_window
from examples.camera.overlay import annotate, status_lines
from examples.camera.perception import Tally, perceive


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.camera", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="a clip of handwritten digits and a chip, unless --source or --device say else",
    )
    parser.add_argument("--write-demo-image", type=Path, metavar="FILE", help="write the demo's chip image, and end")
    given.add_source_options(parser)
    given.add_device_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--headless", action="store_true", help="no window")
    group.add_argument("--video", type=Path, metavar="FILE", help="write an annotated video (.mp4)")
    group.add_argument("--picture", type=Path, metavar="FILE", help="write the last annotated frame (.png)")
    group.add_argument("--json", action="store_true", help="print one JSON document per frame and event")
    group.add_argument("--every-frame", action="store_true", help="of a file: wait for each answer, drop no frame")
    group.add_argument("--frames", type=int, metavar="N", help="end after N frames")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.write_demo_image:
        demo_image().save(options.write_demo_image)
        print(f"wrote {options.write_demo_image}; pcmedge serve {options.write_demo_image}")
        return 0
    try:
        return run(options)
    except (SourceError, Error) as error:
        print(error, file=sys.stderr)
        return error.exit_code if isinstance(error, Error) else 2


def run(options: argparse.Namespace) -> int:
    reporter = Reporter(options.json)
    window = not options.headless
    if window and (reason := why_no_window()):
        print(f"no window: {reason}", file=sys.stderr)
        window = False
    tally = Tally()
    with ExitStack() as stack:
        found = stack.enter_context(given.setting(options))
        capture = given.capture(options, found, reporter.event, options.every_frame)
        stack.callback(capture.close)
        link = DeviceLink(found.open_device, on_event=reporter.event)
        stack.callback(link.close)
        video = VideoFile(options.video, capture.fps) if options.video else None
        if video:
            stack.callback(video.close)
        # A signal ends the source, and the loop ends with it: the video file is whole, the summary is printed.
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: capture.latest.close()))
        drawing = window or video or options.picture
        picture = None
        for count, seen in enumerate(perceive(capture, link, found.finder, options.deadline), start=1):
            truth = found.truth(seen.frame.number)
            tally.add(seen, truth)
            reporter.frame(seen, truth)
            if drawing:
                picture = annotate(seen, status_lines(tally, capture.latest.dropped, link.health, link.away))
            if video and picture is not None:
                video.write(picture)
            if window and picture is not None and not show(picture):
                break
            if count == options.frames:
                break
        if options.picture and picture is not None and not cv2.imwrite(str(options.picture), picture):
            raise SourceError(f"cannot write {options.picture}")
        report(reporter, tally, capture)
    return 0


def report(reporter: Reporter, tally: Tally, capture: Capture) -> None:
    """What the run came to."""
    facts: dict[str, Any] = {
        "frames": sum(tally.statuses.values()),
        "dropped": capture.latest.dropped,
        **{
            name.replace("-", "_"): tally.statuses[name]
            for name in ("answered", "fallback", "late", "away", "nothing-there")
        },
        "latency_p50_ms": tally.latency_ms(50),
        "latency_p95_ms": tally.latency_ms(95),
    }
    text = ", ".join(f"{name} {value}" for name, value in facts.items())
    if tally.judged:
        facts["right"], facts["judged"] = tally.right, tally.judged
        text += f"; {tally.right} of {tally.judged} labels right"
    reporter.event("summary", text, **facts)


if __name__ == "__main__":
    sys.exit(main())
