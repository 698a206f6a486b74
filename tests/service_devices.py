"""Devices for the service tests: the same emulated chip behind every way of reaching one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pcmedge
from cli_process import killed_in_the_end
from pcmedge.device import Device
from pcmedge.image import ChipImage
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.service.handlers import DEFAULT_SCHEDULING
from pcmedge_emulator.service.scheduling import Scheduling
from pcmedge_emulator.service.server import Server, serve

WAYS = ("grpc", "unix", "in process")


@contextlib.contextmanager
def served(
    *images: ChipImage,
    listen: str = "127.0.0.1:0",
    lab: bool = True,
    scheduling: Scheduling = DEFAULT_SCHEDULING,
    **chip: Any,
) -> Iterator[Server]:
    """A server on a real port over a chip with a manual clock and these images."""
    with Chip(clock=Clock.manual(), **chip) as made:
        for image in images:
            made.program(image)
        with serve(made, listen, lab=lab, scheduling=scheduling) as server:
            yield server


@contextlib.contextmanager
def device_by(way: str, *images: ChipImage, **chip: Any) -> Iterator[Device]:
    """A device reached over TCP, over a unix socket, or in this process."""
    if way == "in process":
        with pcmedge.Emulator(clock="manual", **chip) as device:
            for image in images:
                device.program(image)
            yield device
        return
    with tempfile.TemporaryDirectory() as folder:
        listen = "127.0.0.1:0" if way == "grpc" else f"unix://{folder}/pcm.sock"
        with served(*images, listen=listen, **chip) as server, pcmedge.connect(server.address) as device:
            yield device


_SERVER = """
import sys
from pcmedge.image import ChipImage
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.service.server import serve
with Chip() as chip:
    chip.program(ChipImage.open(sys.argv[1]))
    with serve(chip, sys.argv[2]) as server:
        print(server.address, flush=True)
        server.wait()
"""


@contextlib.contextmanager
def server_process(image: ChipImage, folder: Path, listen: str = "127.0.0.1:0") -> Iterator[tuple[Any, str]]:
    """A device in a process of its own, to be killed: (process, address)."""
    path = folder / "image.pcmi"
    image.save(path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _SERVER, str(path), listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            with killed_in_the_end(process):
                address = process.stdout.readline().strip()
            assert address, "the device did not start"
            yield process, address
        finally:
            process.kill()
