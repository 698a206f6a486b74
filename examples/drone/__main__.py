"""Detections and the state of a PCM chip as MAVLink, from a drone's companion computer.

python -m examples.drone --demo                                                  # vehicle, camera and chip simulated
python -m examples.drone --mavlink udpin:127.0.0.1:14550 --source 0 --image model.pcmi
python -m examples.drone --mavlink /dev/ttyAMA0 --source 0 --device unix:///run/pcm0.sock

The chip is recalibrated only while the vehicle stands or hovers (examples/drone/phases.py), never by itself.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
from pcmedge.errors import Error

from examples.camera import options as given
from examples.camera.frames import SourceError
from examples.camera.outputs import Reporter
from examples.drone.companion import Companion
from examples.drone.vehicle import FLIGHT, Vehicle
from examples.drone.vehicle_link import VehicleLink


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.drone", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="a simulated vehicle flies for 38 s, a clip of handwritten digits is seen, and an emulated chip looks, "
        "unless --mavlink, --source or --device say else",
    )
    given.add_source_options(parser)
    given.add_device_options(parser)
    group = parser.add_argument_group("vehicle")
    group.add_argument(
        "--mavlink",
        metavar="ADDRESS",
        help="as pymavlink writes it: udpin:HOST:PORT, udpout:HOST:PORT, tcp:HOST:PORT or a serial port",
    )
    group.add_argument("--baud", type=int, default=921600, help="of a serial port (default: %(default)s)")
    group.add_argument("--system", type=int, default=1, help="the vehicle's MAVLink system id (default: %(default)s)")
    group.add_argument(
        "--rate", type=float, default=2.0, metavar="HZ", help="of NAMED_VALUE_FLOATs (default: %(default)s)"
    )
    group.add_argument("--reads", type=int, default=0, help="of the chip per recalibration (default: the device's)")
    group = parser.add_argument_group("output")
    group.add_argument("--picture", type=Path, metavar="FILE", help="write the last annotated frame (.png)")
    group.add_argument("--json", action="store_true", help="print one JSON document per event")
    options = parser.parse_args(arguments)
    if not (options.demo or options.mavlink):
        parser.error("expected --mavlink ADDRESS, or --demo")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return run(options)
    except (SourceError, Error, OSError) as error:
        print(error, file=sys.stderr)
        return error.exit_code if isinstance(error, Error) else 2


def run(options: argparse.Namespace) -> int:
    reporter = Reporter(options.json)
    with ExitStack() as stack:
        found = stack.enter_context(given.setting(options))
        options.loop = options.loop or bool(found.truths)
        vehicle_link = VehicleLink(
            options.mavlink or "udpin:127.0.0.1:0", system=options.system, baud=options.baud, on_event=reporter.event
        )
        stack.callback(vehicle_link.close)
        capture = given.capture(options, found, reporter.event)
        companion = Companion(
            capture,
            found,
            vehicle_link,
            reporter.event,
            deadline_s=options.deadline,
            rate_hz=options.rate,
            reads=options.reads,
        )
        running = stack.enter_context(ExitStack())
        running.callback(companion.close)
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: companion.stop()))
        until = lambda: False  # noqa: E731
        if options.demo and not options.mavlink:
            vehicle = Vehicle(f"udpout:127.0.0.1:{vehicle_link.port}", system=options.system, plan=FLIGHT)
            stack.callback(vehicle.close)
            until = vehicle.landed.is_set
        companion.run(until)
        picture = companion.picture()
        if options.picture and picture is not None and not cv2.imwrite(str(options.picture), picture):
            raise SourceError(f"cannot write {options.picture}")
        facts = companion.facts()
        # What was still to be said comes before the last word.
        running.close()
        reporter.event("summary", ", ".join(f"{name} {value}" for name, value in facts.items()), **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
