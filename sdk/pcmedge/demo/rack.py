"""The demo's emulator process: ``python -m pcmedge.demo.rack`` serves several emulated chips, each at its own address.

Each is what ``pcmedge serve --clock manual --lab`` serves; one process for all of them starts faster than one each. It
reads one JSON line from standard input (``{"folder": ..., "devices": [{"name", "serial", "seed"}], "physics": ...}``),
prints one with the addresses when every device answers, and ends when standard input does, so that it never outlives
the demo.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

GRACE_S = 1.0
LONGEST_SOCKET_PATH = 90
"""Operating systems cut the paths of sockets off, some at 104 bytes."""


def address_for(folder: str, name: str) -> str:
    """A socket in the demo's private folder, or a free port where the path would be too long."""
    path = Path(folder) / f"{name}.sock"
    return f"unix://{path}" if len(str(path)) <= LONGEST_SOCKET_PATH else "127.0.0.1:0"


def serve_all(spec: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    from pcmedge_emulator.calibration.policy import MANUAL
    from pcmedge_emulator.chip import Chip
    from pcmedge_emulator.clock import Clock
    from pcmedge_emulator.engine.native.library import give_up
    from pcmedge_emulator.service.server import serve

    with contextlib.ExitStack() as stack:
        addresses: dict[str, str] = {}
        for device in spec["devices"]:
            chip = Chip(
                technology=spec["physics"],
                serial=device["serial"],
                seed=device["seed"],
                clock=Clock.manual(),
                default_policy=MANUAL,
                threads=1,
            )
            stack.enter_context(chip)
            server = serve(chip, address_for(spec["folder"], device["name"]), lab=True)
            stack.callback(server.stop, GRACE_S)
            addresses[device["name"]] = server.address
        print(json.dumps({"event": "ready", "addresses": addresses}), flush=True)
        sys.stdin.read()
        give_up()


def main() -> None:
    # Ctrl-C and a closed terminal reach the whole group; the demo's own end is what ends its emulator.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spec = json.loads(sys.stdin.readline())
    try:
        serve_all(spec)
    finally:
        # A demo that was killed could not tidy up.
        shutil.rmtree(spec["folder"], ignore_errors=True)


if __name__ == "__main__":
    main()
