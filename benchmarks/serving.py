"""What serving costs: python -m benchmarks.serving

An emulated chip with ResNet-32 16/28/56 in this process, and one behind gRPC in a process of its own: what the line
adds to a picture's time, what eight clients of one other process get through it, and how much memory it holds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from pcmedge.cli.polling import wait_in_place

    wait_in_place()
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import pcmedge
from pcmedge.errors import UnavailableError
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock

from benchmarks.measuring import bare, command, load, networks, report
from benchmarks.measuring.goals import Goal, Outcome, judged
from benchmarks.measuring.machine import ROOT
from benchmarks.measuring.networks import Workload
from benchmarks.measuring.report import Line
from benchmarks.measuring.rounds import Contender, Progress, Spread, take_turns, timed

IN_PROCESS, GRPC, STREAM, PIPELINE = "in process", "gRPC", "gRPC stream", "gRPC stream, 8 under way"
UNIX = "gRPC over a Unix socket"
FLOOR, STREAM_FLOOR = "bare grpcio around the same chip", "bare grpcio stream around the same chip"
"""What is left without pcmedge's service and client: nothing over grpcio can add less."""
CLIENTS = 8
REPLY_BYTES = 256
"""About what ten scores and the parameters of an answer take."""
ALONE, TOGETHER = "8 clients, each request alone", "8 clients, dynamic batching"
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BATCHING = ("--max-batch-size", "--max-queue-delay")
"""Options of ``pcmedge serve``: requests of several clients share a run of the engine."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser("serving", __doc__)
    parser.add_argument("--rounds", type=int, default=0, help="turns of each measurement (default 15; 2 with --quick)")
    parser.add_argument("--calls", type=int, default=0, help="requests within a turn (default 200; 5 with --quick)")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="of load within a turn (default 5; 0.2 with --quick)"
    )
    parser.add_argument("--request", type=int, default=1, help="pictures in a request of the eight clients (default 1)")
    parser.add_argument("--max-batch-size", type=int, default=32, help="of dynamic batching")
    parser.add_argument("--max-queue-delay", default="0ms", help="of dynamic batching")
    parser.add_argument("--no-resnet34", action="store_true", help="leave ResNet-34 out: compiling it takes minutes")
    options = parser.parse_args(given)
    options.rounds = options.rounds or (2 if options.quick else 15)
    options.calls = options.calls or (5 if options.quick else 200)
    options.seconds = options.seconds or (0.2 if options.quick else 5.0)
    return options


def measure(options: argparse.Namespace, folder: Path, progress: Progress) -> dict[str, Any]:
    workload = networks.resnet32(folder, options.weights, quick=options.quick, progress=progress)
    added = _added(workload, folder, options, progress)
    sweep = _sweep(workload, options, progress)
    loaded, why = _loaded(workload, folder, options, progress)
    memory: dict[str, dict[str, float] | None] = {"ResNet-32": _memory(workload, folder, options), "ResNet-34": None}
    if not options.no_resnet34:
        other = networks.resnet34(folder, quick=options.quick, progress=progress)
        memory["ResNet-34"] = _memory(other, folder, options)
    return report.document(
        "serving",
        settings=command.settings(options, network=workload.name, clients=CLIENTS),
        outcomes=_outcomes(added, sweep, loaded, memory, why, options),
        lines=_lines(added, sweep, loaded, memory, why, options),
        more={"seconds": added, "images_per_s": {**sweep, **loaded}, "memory_mib": memory},
    )


# --------------------------------------------------------------------------------------------------------- one request


def _added(workload: Workload, folder: Path, options: argparse.Namespace, progress: Progress) -> dict[str, list[float]]:
    """Seconds of one picture by each way, the median of ``calls`` in every turn."""
    picture, name = workload.pictures(1), workload.image.name
    inputs = {str(workload.image.manifest.model.inputs[0].name): picture}
    image, socket = folder / f"{workload.name}.pcmi", f"unix://{folder / 'pcm.sock'}"
    with (
        Chip(clock=Clock.manual(), default_policy=MANUAL, threads=options.threads) as chip,
        _served(workload, folder, options) as server,
        _served(workload, folder, options, listen=socket) as local,
        pcmedge.connect(server.address, wait_s=60) as device,
        pcmedge.connect(local.address, wait_s=60) as neighbour,
        bare.running(image, picture.tobytes(), REPLY_BYTES, threads=options.threads) as floor,
    ):
        chip.program(workload.image)
        one_by_one = _Stream(device, picture, window=1)
        eight = _Stream(device, picture, window=CLIENTS)
        try:
            contenders = [
                Contender(IN_PROCESS, timed(lambda: chip.infer(name, inputs), options.calls)),
                Contender(GRPC, timed(lambda: device.infer(picture), options.calls)),
                Contender(UNIX, timed(lambda: neighbour.infer(picture), options.calls)),
                Contender(STREAM, timed(one_by_one.take, options.calls)),
                Contender(PIPELINE, lambda: timed(lambda: eight.take(options.calls))() / options.calls),
                Contender(FLOOR, timed(floor.call, options.calls)),
                Contender(STREAM_FLOOR, timed(floor.stream, options.calls)),
            ]
            return take_turns(contenders, options.rounds, progress=progress, what="one picture")
        finally:
            one_by_one.close()
            eight.close()


class _Stream:
    """An endless stream of one picture. With a window of 1 an answer is asked for when the one before has come."""

    def __init__(self, device: pcmedge.Device, picture: Any, *, window: int) -> None:
        def pictures() -> Iterator[Any]:
            while True:
                yield picture

        self._answers = device.infer_stream(pictures(), window=window)

    def take(self, count: int = 1) -> None:
        for _ in range(count):
            next(self._answers)

    def close(self) -> None:
        self._answers.close()


# -------------------------------------------------------------------------------------------------------------- many


def _sweep(workload: Workload, options: argparse.Namespace, progress: Progress) -> dict[str, list[float]]:
    """Pictures per second in this process on one thread, by batch size."""
    name, key = workload.image.name, str(workload.image.manifest.model.inputs[0].name)
    sizes = BATCHES[:3] if options.quick else BATCHES
    pictures = workload.pictures(max(sizes))
    with Chip(clock=Clock.manual(), default_policy=MANUAL, threads=1) as chip:
        chip.program(workload.image)

        def run(size: int) -> Callable[[], object]:
            return lambda: chip.infer(name, {key: pictures[:size]})

        calls = 2 if options.quick else 10
        contenders = [Contender(f"in process, batch {size}", timed(run(size), calls)) for size in sizes]
        taken = take_turns(contenders, options.rounds, progress=progress, what="batch sizes")
    return {
        each.name: [size / seconds for seconds in taken[each.name]]
        for each, size in zip(contenders, sizes, strict=True)
    }


def _loaded(
    workload: Workload, folder: Path, options: argparse.Namespace, progress: Progress
) -> tuple[dict[str, list[float]], str]:
    """Pictures per second of eight clients, with and without dynamic batching; and why one is not there."""
    ways: dict[str, list[str]] = {ALONE: []}
    why = ""
    if set(BATCHING) <= _options_of_serve():
        chosen = (str(options.max_batch_size), options.max_queue_delay)
        ways[TOGETHER] = [word for pair in zip(BATCHING, chosen, strict=True) for word in pair]
    else:
        why = f"this version's 'pcmedge serve' lacks {' and '.join(BATCHING)}"
    found: dict[str, list[float]] = {name: [] for name in ways}
    pictures = workload.pictures(options.request)
    with ExitStack() as stack:
        # Both devices stay up, so that they take turns; the one that is not asked does nothing.
        servers = {
            name: stack.enter_context(_served(workload, folder, options, *more)).address for name, more in ways.items()
        }
        for number in range(0 if options.quick else -1, options.rounds):
            for name, address in servers.items():
                progress(name, max(0, number), options.rounds)
                done = load.measure(address, pictures, folder, clients=CLIENTS, seconds=options.seconds)
                if number >= 0:
                    found[name].append(done * options.request / options.seconds)
    return found, why


def _options_of_serve() -> set[str]:
    import typer
    from pcmedge.cli.main import app

    command_line: Any = typer.main.get_command(app)
    return {name for parameter in command_line.commands["serve"].params for name in parameter.opts}


# ------------------------------------------------------------------------------------------------------------- memory


def _memory(workload: Workload, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """MiB of the serving process after single pictures and a batch: resident now, and the most it has been."""
    with (
        _served(workload, folder, options) as server,
        pcmedge.connect(server.address, wait_s=600, timeout_s=600) as device,
    ):
        for size in (1, 1, 4 if options.quick else 32, 1):
            device.infer(workload.pictures(size))
        status = _status(server.pid)
    return {"resident": status["VmRSS"] / 1024, "peak": status["VmHWM"] / 1024}


def _status(pid: int) -> dict[str, int]:
    """Memory of a process by Linux's own words, KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: int(text.split()[0]) for key, _, text in (line.partition(":") for line in lines) if key[:2] == "Vm"}


# ------------------------------------------------------------------------------------------------------------ servers


@dataclass(frozen=True)
class _Server:
    address: str
    pid: int


@contextmanager
def _served(
    workload: Workload, folder: Path, options: argparse.Namespace, *more: str, listen: str = "127.0.0.1:0"
) -> Iterator[_Server]:
    """A ``pcmedge serve`` in a process of its own, with the workload's image on it."""
    image = folder / f"{workload.name}.pcmi"
    words = [str(image), "--listen", listen, "--clock", "manual", "--threads", str(options.threads), "--json", *more]
    home = os.pathsep.join([str(ROOT / "sdk"), str(ROOT / "emulator"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "pcmedge", "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": home.rstrip(os.pathsep)},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        ready = json.loads(line) if line else {}
        if ready.get("event") != "ready":
            raise UnavailableError(
                f"'pcmedge serve {' '.join(words)}' did not start: {ready.get('error', 'no answer')}"
            )
        yield _Server(str(ready["address"]), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


# ------------------------------------------------------------------------------------------------------------- results


def _difference(taken: dict[str, list[float]], name: str) -> Spread:
    """Milliseconds that a way takes longer than the call in this process, turn by turn."""
    return Spread.of([1e3 * (far - near) for far, near in zip(taken[name], taken[IN_PROCESS], strict=True)])


def _best(sweep: dict[str, list[float]]) -> str:
    return max(sweep, key=lambda name: Spread.of(sweep[name]).median)


def _outcomes(
    added: dict[str, list[float]],
    sweep: dict[str, list[float]],
    loaded: dict[str, list[float]],
    memory: dict[str, dict[str, float] | None],
    why: str,
    options: argparse.Namespace,
) -> list[Outcome]:
    found = [
        judged(Goal(what="gRPC, batch 1, added to in-process p50", limit=0.5, unit="ms"), _difference(added, GRPC)),
        judged(Goal(what="gRPC stream, added to in-process p50", limit=0.3, unit="ms"), _difference(added, STREAM)),
    ]
    share = None
    if loaded.get(TOGETHER):
        share = Spread.of([100 * one / two for one, two in zip(loaded[TOGETHER], sweep[_best(sweep)], strict=True)])
    goal = Goal(
        what=f"{TOGETHER}, {options.request} pictures a request, against {_best(sweep)} (the best)",
        limit=75,
        direction=">=",
        unit="%",
    )
    found.append(judged(goal, share, why))
    for name, limit in (("ResNet-32", 300.0), ("ResNet-34", 1536.0)):
        used = memory[name]
        goal = Goal(what=f"memory of the serving emulator with {name}", limit=limit, unit="MiB")
        spread = None if used is None else Spread.of([used["resident"]])
        found.append(judged(goal, spread, "left out by --no-resnet34"))
    return found


def _lines(
    added: dict[str, list[float]],
    sweep: dict[str, list[float]],
    loaded: dict[str, list[float]],
    memory: dict[str, dict[str, float] | None],
    why: str,
    options: argparse.Namespace,
) -> list[Line]:
    found = [
        Line(group="one picture", name=name, unit="ms", found=Spread.of([1e3 * each for each in seconds]))
        for name, seconds in added.items()
    ]
    for name in (GRPC, UNIX, STREAM, FLOOR, STREAM_FLOOR):
        found.append(Line(group="added to in process", name=name, unit="ms", found=_difference(added, name)))
    for name, rates in sweep.items():
        found.append(Line(group="throughput", name=name, unit="images/s", found=Spread.of(rates)))
    for name in (ALONE, TOGETHER):
        spread = Spread.of(loaded[name]) if loaded.get(name) else None
        note = f"{options.request} pictures a request" if spread else why
        found.append(Line(group="throughput", name=name, unit="images/s", found=spread, note=note))
    for name, used in memory.items():
        for kind in ("resident", "peak"):
            spread = None if used is None else Spread.of([used[kind]])
            found.append(Line(group="memory", name=f"{name}, {kind}", unit="MiB", found=spread))
    return found


def main(given: Sequence[str] | None = None) -> dict[str, Any]:
    return command.run(measure, arguments(given))


if __name__ == "__main__":
    main()
