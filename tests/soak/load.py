"""``python -m tests.soak.load``: what eight clients notice of a device that recalibrates every second."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
from pcmedge.compiler import digital_statistics
from pcmedge.demo import compile_digits, load_digits
from pcmedge.device import Device, Policy
from pcmedge.image import ChipImage
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .consistency import Consistency, judge
from .device_process import ROOT, environment, served

RATE = 3600.0
"""Device seconds per second: an hour of ageing, and a recalibration, every second."""

SHIFT = 0.15
"""How far the means of the two calibration buffers are from the true ones, in standard deviations of each channel: the
guard still commits, and outputs lie apart."""

LIMIT = 2.0
WITHOUT, WITH = "without", "with"
SAMPLES, REPEATS = 4, 2
SETTLE_S = 1.5
"""After the policy was changed, for a recalibration that is under way."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``seconds`` of load on each side, in blocks; ``every_s`` a recalibration, by "policy" or by "request"."""

    seconds: float = 120.0
    block_s: float = 15.0
    clients: int = 8
    every_s: float = 1.0
    by: str = "policy"
    rest_s: float = 0.0
    seed: int = 1
    network: str = "digits"

    def blocks(self) -> Iterator[str]:
        """Without, with, with, without, ...: a machine that becomes slower or faster does so for both sides."""
        count = max(1, round(self.seconds / self.block_s))
        for number in range(count):
            yield from (WITHOUT, WITH) if number % 2 == 0 else (WITH, WITHOUT)


@dataclass
class Side:
    """Blocks of one kind."""

    latency_s: list[Any] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        return float(np.percentile(np.concatenate(self.latency_s), share) * 1e3)

    def document(self) -> dict[str, Any]:
        count = sum(map(len, self.latency_s))
        return {
            "requests": count,
            "requests_per_s": count / self.seconds,
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
            "max_ms": self.percentile(100),
            "p99_ms_by_block": [float(np.percentile(each, 99) * 1e3) for each in self.latency_s],
            "failed": self.failed,
        }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    plan: Plan
    sides: dict[str, Side]
    consistency: Consistency
    committed: int
    refused: int

    @property
    def ratio(self) -> float:
        return self.sides[WITH].percentile(99) / self.sides[WITHOUT].percentile(99)

    def misses(self, limit: float | None = LIMIT) -> list[str]:
        """``limit`` of the ratio of both 99th percentiles; None: reported only."""
        found = [
            f"{len(side.failed)} requests failed {name}: {side.failed[0]}"
            for name, side in self.sides.items()
            if side.failed
        ]
        if self.consistency.mixed or self.consistency.wrong_set:
            found.append(
                f"{self.consistency.mixed} answers from mixed statistics, "
                f"{self.consistency.wrong_set} from others than named"
            )
        wanted = 0.8 * self.sides[WITH].seconds / self.plan.every_s
        if self.committed < wanted:
            found.append(f"{self.committed} recalibrations were committed, expected {wanted:.0f} or more")
        if limit is not None and self.ratio > limit:
            found.append(f"p99 is {self.ratio:.2f} times as long with recalibrations, allowed is {limit:g}")
        return found

    def document(self) -> dict[str, Any]:
        return {
            "plan": asdict(self.plan),
            "sides": {name: side.document() for name, side in self.sides.items()},
            "p99_ratio": self.ratio,
            "recalibrations": {"committed": self.committed, "refused": self.refused},
            "consistency": asdict(self.consistency),
            "misses": self.misses(),
        }


def _network(name: str) -> tuple[ChipImage, Any]:
    """An image, and the few samples everybody asks about."""
    if name == "digits":
        return compile_digits(), load_digits().test.tensors[:SAMPLES]
    image = ChipImage.open(ROOT / "examples" / "resnet32_cifar10" / "models" / "resnet32.pcmi")
    (samples,) = image.reference_set()[0].values()
    return image, samples[:SAMPLES]


class Upkeep:
    """Puts the two calibration buffers on the device in turn, and has it recalibrated or lets it."""

    def __init__(self, device: Device, image: ChipImage, plan: Plan) -> None:
        self._device, self._plan, self._name = device, plan, image.name
        self._samples = image.calibration_buffer()
        true, random = digital_statistics(image, self._samples), np.random.default_rng(plan.seed)
        offsets = {node: SHIFT * random.choice([-1.0, 1.0], mean.shape) for node, (mean, _) in true.items()}
        self._buffers = {
            side: {
                node: (mean + side * offsets[node] * np.sqrt(variance), variance)
                for node, (mean, variance) in true.items()
            }
            for side in (1, -1)
        }
        self._started = device.events(after=0, limit=4096)[-1].sequence
        self.put: list[int] = []

    def swap(self) -> None:
        side = -self.put[-1] if self.put else 1
        self._device.replace_calibration_buffer(self._samples, model=self._name, statistics=self._buffers[side])
        self.put.append(side)

    @contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """The policy of a block, and its swaps."""
        every = Policy(kind="interval", interval_s=self._plan.every_s * RATE)
        by_policy = kind == WITH and self._plan.by == "policy"
        self._device.set_policy(every if by_policy else Policy(kind="manual"), model=self._name)
        over, failures = threading.Event(), list[BaseException]()

        def keep() -> None:
            try:
                due_s = time.monotonic()
                while not over.is_set():
                    self.swap()
                    if not by_policy:
                        self._device.recalibrate(model=self._name)
                    due_s += self._plan.every_s
                    over.wait(max(0.0, due_s - time.monotonic()))
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=keep)
        if kind == WITH:
            thread.start()
        try:
            time.sleep(min(SETTLE_S, self._plan.block_s))
            yield
        finally:
            over.set()
            if kind == WITH:
                thread.join()
        if failures:
            raise failures[0]

    def sides(self) -> tuple[dict[int, int], int, int]:
        """Which buffer each statistics generation was measured on; recalibrations committed and refused."""
        found: dict[int, int] = {}
        side, put, committed, refused = 0, iter(self.put), 0, 0
        for event in self._device.events(after=self._started, limit=4096):
            if event.model != self._name:
                continue
            if event.kind == "buffer-changed":
                side = next(put)
            elif event.kind == "recalibrated":
                committed += 1
                found[int(event.details["statistics_generation"])] = side
            elif event.kind == "recalibration-refused":
                refused += 1
        return found, committed, refused


def run(plan: Plan, say: Callable[[str, int, int], None] = lambda what, done, total: None) -> Outcome:
    """Both sides in turn, on one device with a store on disk."""
    image, samples = _network(plan.network)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        image.save(folder / "model.pcmi")
        np.save(folder / "samples.npy", np.tile(samples, (REPEATS, *[1] * (samples.ndim - 1))))
        words = (
            "--lab",
            "--clock",
            str(RATE),
            "--read-noise",
            "off",
            "--seed",
            str(plan.seed),
            "--store",
            folder / "store",
        )
        with (
            served(folder, folder / "model.pcmi", *words) as device,
            pcmedge.connect(device.address, wait_s=60) as operator,
            _asking(device.address, image, folder, plan) as ask,
        ):
            upkeep = Upkeep(operator, image, plan)
            upkeep.swap()
            operator.recalibrate(model=image.name)
            sides = {WITHOUT: Side(), WITH: Side()}
            named, outputs = [], []
            kinds = list(plan.blocks())
            for number, kind in enumerate(kinds):
                say(kind, number, len(kinds))
                with upkeep.during(kind):
                    got, failed = ask(plan.block_s)
                side = sides[kind]
                side.latency_s.append(got["latency_s"])
                side.failed += failed
                side.seconds += plan.block_s
                named.append(got["named"])
                outputs.append(got["outputs"])
            known, committed, refused = upkeep.sides()
    found = judge(np.concatenate(named), np.concatenate(outputs), known, repeats=REPEATS)
    return Outcome(plan=plan, sides=sides, consistency=found, committed=committed, refused=refused)


@contextmanager
def _asking(
    address: str, image: ChipImage, folder: Path, plan: Plan
) -> Iterator[Callable[[float], tuple[Any, list[str]]]]:
    """The clients' process; what is yielded has them ask for some seconds."""
    name = image.manifest.model.inputs[0].name
    words = [address, image.name, name, str(folder / "samples.npy"), str(plan.clients), str(plan.rest_s)]
    command = [sys.executable, "-m", "tests.soak.asking", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines, file = process.stdout, folder / "answers.npz"

        def told() -> Any:
            line = lines.readline()
            if not line:
                raise RuntimeError(f"the clients' process ended with status {process.wait()}")
            return json.loads(line)

        def ask(seconds: float) -> tuple[Any, list[str]]:
            process.stdin.write(json.dumps({"seconds": seconds, "file": str(file)}) + "\n")
            process.stdin.flush()
            failed = told()["failed"]
            with np.load(file) as found:
                return dict(found), failed

        try:
            told()
            yield ask
        finally:
            process.stdin.close()
            process.wait(timeout=60)


def table(outcome: Outcome) -> Table:
    found = Table("recalibrations", "requests", "requests/s", "p50 ms", "p99 ms", "max ms", "failed")
    for name, side in outcome.sides.items():
        each = side.document()
        figures = [f"{each[key]:.2f}" for key in ("p50_ms", "p99_ms", "max_ms")]
        found.add_row(name, str(each["requests"]), f"{each['requests_per_s']:.0f}", *figures, str(len(side.failed)))
    return found


def _arguments() -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.load",
        description="Clients of one process ask a 'pcmedge serve' process whose clock makes an hour of every second, "
        "in blocks with a recalibration a second and blocks without. Exit status 1 if a request fails, an answer comes "
        f"from mixed statistics or others than it names, or p99 is more than {LIMIT:g} times as long with them.",
    )
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of load on each side (%(default)s)")
    parser.add_argument("--block", type=float, default=plan.block_s, help="seconds of a block (%(default)s)")
    parser.add_argument("--clients", type=int, default=plan.clients, help="at once (%(default)s)")
    parser.add_argument("--every", type=float, default=plan.every_s, help="seconds per recalibration (%(default)s)")
    parser.add_argument("--by", choices=("policy", "request"), default=plan.by, help="who recalibrates (%(default)s)")
    parser.add_argument("--rest", type=float, default=plan.rest_s, help="seconds a client rests (%(default)s)")
    parser.add_argument("--network", choices=("digits", "resnet32"), default=plan.network, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=plan.seed, help="of device and buffers (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    plan = Plan(
        seconds=options.seconds, block_s=options.block, clients=options.clients, every_s=options.every, by=options.by,
        rest_s=options.rest, seed=options.seed, network=options.network,
    )  # fmt: skip
    console = Console(stderr=options.json)
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("starting", total=None)
        outcome = run(plan, lambda what, done, total: bars.update(bar, description=what, completed=done, total=total))
    if options.json:
        print(json.dumps(outcome.document(), indent=1))
    console.print(table(outcome))
    found = outcome.consistency
    console.print(
        f"p99 {outcome.ratio:.2f} times as long; {outcome.committed} recalibrations committed, {outcome.refused} "
        f"refused; of {found.answers} answers {found.mixed} from mixed statistics, {found.wrong_set} from others than "
        f"named "
        f"({found.generations} generations, {found.groups} groups, margin {found.margin:.2f})"
    )
    misses = outcome.misses()
    for miss in misses:
        console.print(f"[b]missed[/b] {miss}")
    sys.exit(1 if misses else 0)


if __name__ == "__main__":
    main()
