"""A served chip from the line that says it is ready to the line that says it has stopped."""

from __future__ import annotations

import json as json_module
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pcmedge.cli import operating
from pcmedge.cli.plain import to_plain
from pcmedge.durations import format_duration
from pcmedge.errors import FileUnwritableError

if TYPE_CHECKING:
    from pcmedge.cli.output import Output
    from pcmedge.image import ChipImage

GLANCE_S = 0.5
"""How often a service that waits looks for signals: Python does not see one that another thread of the process took, or
that came in the instant before an endless wait, until something else wakes it."""


@contextmanager
def signals() -> Iterator[threading.Event]:
    """An event that SIGTERM or Ctrl-C sets; the next signal then ends the process the hard way."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()
        for name in before:
            signal.signal(name, signal.SIG_DFL)

    before = {name: signal.signal(name, stop) for name in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def hold(chip: Any, image: ChipImage, out: Output, log: Any, stopping: threading.Event) -> None:
    """Program ``image`` unless exactly this one is on the chip: phase-change memory keeps what was written."""
    for resident in chip.models():
        if resident.image_sha256 == image.sha256:
            age = format_duration(resident.age_s)
            log.info("resident", model=image.name, note=f"is on the chip already, age {age}; not programmed again")
            return
    with out.progress(f"programming {image.name}") as bar:
        chip.program(image, progress=bar.update, cancelled=stopping.is_set)


def serve_until(
    stopping: threading.Event,
    chip: Any,
    listen: str,
    scheduling: Any,
    operation: operating.Operation,
    watching: operating.Watching,
    protection: dict[str, Any],
    *,
    lab: bool,
    store: Path | None,
    ready_file: Path | None,
    out: Output,
) -> None:
    """Serves ``chip``, tells where, and drains when ``stopping`` is set."""
    from pcmedge_emulator.engine.native.library import give_up
    from pcmedge_emulator.service.calm import Calm
    from pcmedge_emulator.service.server import serve

    log, calm = operation.log, Calm()
    server = serve(chip, listen, lab=lab, scheduling=scheduling, observers=watching.observers, **protection)
    try:
        with watching.over(server) as metrics_url:
            ready = {
                "event": "ready",
                "address": server.address,
                "pid": os.getpid(),
                "serial": chip.identity().serial,
                "models": [model.name for model in chip.models()],
                "lab": lab,
                "tls": protection["tls"] is not None,
                "tokens": protection["tokens"],
                "max_batch_size": scheduling.max_batch_size,
                "max_queue_delay_s": scheduling.max_queue_delay_s,
                "max_queue_size": scheduling.max_queue_size,
                "max_batches_at_once": scheduling.batches_at_once,
                "store": store,
                "persistent": store is not None,
                "metrics": metrics_url,
            }
            if ready_file is not None:
                _write_ready(ready_file, ready)
            out.line(ready, f"listening on {server.address}")
            log.info("ready", **{name: value for name, value in ready.items() if name != "event"}, note=_kept(store))
            operating.notify("READY=1")
            while not stopping.wait(GLANCE_S):
                calm.glance()
            operating.notify("STOPPING=1")
            log.info("draining", note="stopping: requests in flight may finish; a second signal ends it at once")
            # Metrics go on while it drains.
            server.stop(operation.grace_s)
    finally:
        give_up()
        server.stop(operation.grace_s)
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
    log.info("stopped", address=server.address)
    out.line({"event": "stopped", "address": server.address}, "stopped")


def _kept(store: Path | None) -> str:
    if store is None:
        return "No --store: the state is in memory only. What is programmed, its age and the journal end with me."
    return f"State is kept in {store}."


def _write_ready(path: Path, ready: dict[str, Any]) -> None:
    """Appears whole or not at all, so that whoever waits for it can read it at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json_module.dumps(to_plain(ready)) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as problem:
        raise FileUnwritableError(f"cannot write the ready file {path}: {problem.strerror}", path=path) from problem
