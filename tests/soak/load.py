"""``python -m tests.soak.load``: what eight clients notice of a device that recalibrates every second."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
from pcmedge.demo import compile_digits, load_digits
from pcmedge.image import ChipImage
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .consistency import Consistency, judge
from .device_process import ROOT, environment, served
from .upkeep import RATE, WITH, WITHOUT, Plan, Upkeep

LIMIT = 2.0
SAMPLES, REPEATS = 4, 2


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
        made = self.committed + self.refused
        if made < wanted:
            found.append(f"{made} recalibrations were made, expected {wanted:.0f} or more")
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
