"""``python -m tests.soak.soak``: a device under mixed load for long, and whether it holds more and more."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pcmedge
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .company import Company
from .device_process import Served, served
from .habits import PAUSES
from .place import Place
from .vitals import Growth, Vitals, Watch, growth

MEMORY = ("uss_kib", "pss_kib", "rss_kib")
LIMIT = 0.02
"""What memory may grow by after warming up. Unit: 1."""

KEPT_EVENTS = 500
"""Of the journal, an option of the service: few, so that it is full of what this load writes before anything is judged.
The other bounds are 1,024 answers to request ids, 256 self-tests of a model and 64 operations.
"""

LONGEST_REST_S = 60.0

Said = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``seconds`` of load that are judged, after ``warm_up_s`` that are not; ``rest_s`` without load before counting
    what is left; ``fill`` events go into the journal first.
    """

    seconds: float = 1200.0
    warm_up_s: float = 600.0
    every_s: float = 2.0
    rest_s: float = 5.0
    fill: int = 2048
    pace: float = 1.0
    seed: int = 1
    large: bool = True


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``at_rest``: vitals with nobody asking, after warming up and at the end."""

    plan: Plan
    growth: dict[str, Growth]
    at_rest: tuple[Vitals, Vitals]
    samples: list[dict[str, float]]
    rounds: dict[str, int]
    refusals: dict[str, int]
    defects: list[str]
    errors_logged: list[str]
    alive: bool

    @property
    def misses(self) -> list[str]:
        """What was promised and not kept."""
        before, after = self.at_rest
        found = []
        for name in MEMORY:
            at_rest = getattr(after, name) / getattr(before, name) - 1.0
            for what, share in (("between peaks", self.growth[name].floor_share), ("at rest", at_rest)):
                if share >= LIMIT:
                    found.append(f"{name} grew by {share:.2%} {what}, allowed are {LIMIT:.0%}")
        for name in ("threads", "descriptors"):
            was, now = getattr(before, name), getattr(after, name)
            if now > was:
                found.append(f"{now} {name} with nobody asking, {was} after warming up")
        found += self.defects[:20] + self.errors_logged[:20]
        idle = sorted({habit.__name__ for habit in PAUSES} - set(self.rounds)) if self.plan.seconds >= 600 else []
        if idle:
            found.append(f"never succeeded: {', '.join(idle)}")
        return found if self.alive else [*found, "the device is gone"]

    def document(self) -> dict[str, Any]:
        return {
            "plan": asdict(self.plan),
            "growth": {
                name: asdict(each) | {"share": each.share, "floor_share": each.floor_share}
                for name, each in self.growth.items()
            },
            "at_rest": [asdict(each) for each in self.at_rest],
            "rounds": self.rounds,
            "refusals": self.refusals,
            "misses": self.misses,
            "samples": self.samples,
        }


def run(plan: Plan, say: Said = lambda phase, seconds: None) -> Outcome:
    """The load on a device with a store on disk, as a service has one."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        words = ("--lab", "--clock", "manual", "--seed", str(plan.seed), "--store", folder / "store")
        with served(folder, *words, "--max-batch-size", "16", "--journal-max-events", str(KEPT_EVENTS)) as device:
            return _loaded(plan, device, say)


def _loaded(plan: Plan, device: Served, say: Said) -> Outcome:
    place = Place.at(device.address, large=plan.large)
    with pcmedge.connect(device.address, wait_s=60) as operator:
        place.settle(operator)
        say("filling the journal", 0.0)
        place.fill(operator, plan.fill)
    with Watch(device.pid, plan.every_s) as watch, Company(place, seed=plan.seed, pace=plan.pace) as company:
        started_s = time.monotonic()
        _wait(started_s, plan.warm_up_s, "warming up", say)
        before = _at_rest(company, device, plan.rest_s)
        company.go()
        _wait(started_s, plan.warm_up_s + plan.seconds, "under load", say)
        after = _at_rest(company, device, plan.rest_s)
        alive = device.alive()
    tally = company.tally
    return Outcome(
        plan=plan,
        growth={name: growth(watch.taken, name, plan.warm_up_s) for name in (*MEMORY, "threads", "descriptors")},
        at_rest=(before, after),
        samples=watch.rows(),
        rounds=dict(sorted(tally.rounds.items())),
        refusals={f"{habit}: {reason}": count for (habit, reason), count in sorted(tally.refusals.items())},
        defects=tally.defects,
        errors_logged=device.errors(),
        alive=alive,
    )


def _wait(started_s: float, until_s: float, phase: str, say: Said) -> None:
    while (passed_s := time.monotonic() - started_s) < until_s:
        say(phase, passed_s)
        time.sleep(min(1.0, until_s - passed_s))


def _at_rest(company: Company, device: Served, rest_s: float) -> Vitals:
    """When threads and descriptors have been the same for ``rest_s``: to end them takes a busy machine a while."""
    company.rest()
    found, since_s = Vitals.of(device.pid, 0.0), time.monotonic()
    end_s = since_s + LONGEST_REST_S
    while (now_s := time.monotonic()) - since_s < rest_s and now_s < end_s:
        time.sleep(0.1)
        before, found = found, Vitals.of(device.pid, 0.0)
        if (found.threads, found.descriptors) != (before.threads, before.descriptors):
            since_s = time.monotonic()
    return found


def table(outcome: Outcome) -> Table:
    found = Table("figure", "early", "late", "growth", "median early", "late", "growth", "at rest, before and after")
    before, after = outcome.at_rest
    for name, each in outcome.growth.items():
        scale, unit = (1024, " MiB") if name in MEMORY else (1, "")
        rest = f"{getattr(before, name) / scale:.5g}{unit}, {getattr(after, name) / scale:.5g}{unit}"
        figures = (each.early_floor, each.late_floor, each.early, each.late)
        one, two, three, four = (f"{value / scale:.5g}{unit}" for value in figures)
        found.add_row(
            name.removesuffix("_kib"), one, two, f"{each.floor_share:+.2%}", three, four, f"{each.share:+.2%}", rest
        )
    return found


def plot(outcome: Outcome, file: Path) -> None:
    """Memory over time as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3), dpi=80)
    minutes = [row["seconds"] / 60 for row in outcome.samples]
    for name in ("rss_kib", "uss_kib"):
        axes.plot(minutes, [row[name] / 1024 for row in outcome.samples], label=name[:3].upper(), linewidth=1)
    axes.axvline(outcome.plan.warm_up_s / 60, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="minutes", ylabel="MiB of the serving process", ylim=(0, None))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def _arguments() -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.soak",
        description="Mixed load on a 'pcmedge serve' process: inference, reprogramming, ageing, recalibration, "
        "faults, snapshots, streams that are dropped, clients that vanish. Exit status 1 if memory grows by "
        f"{LIMIT:.0%} or more after warming up, a thread or descriptor is left, an inference of the untouched model "
        "fails, or any call ends untyped.",
    )
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of load that are judged (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=plan.warm_up_s, help="seconds of load before (%(default)s)")
    parser.add_argument("--every", type=float, default=plan.every_s, help="seconds between samples (%(default)s)")
    parser.add_argument("--pace", type=float, default=plan.pace, help="multiplies the clients' rests (%(default)s)")
    parser.add_argument("--seed", type=int, default=plan.seed, help="of device and clients (%(default)s)")
    parser.add_argument("--no-large", action="store_true", help="leave ResNet-32 out")
    parser.add_argument("--plot", type=Path, help="write memory over time into this PNG")
    parser.add_argument("--json", action="store_true", help="print the outcome, samples included, as JSON")
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    plan = Plan(
        seconds=options.seconds, warm_up_s=options.warm_up, every_s=options.every, pace=options.pace,
        seed=options.seed, large=not options.no_large,
    )  # fmt: skip
    console = Console(stderr=options.json)
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("starting", total=plan.warm_up_s + plan.seconds)
        outcome = run(plan, lambda phase, seconds: bars.update(bar, description=phase, completed=seconds))
    if options.plot:
        plot(outcome, options.plot)
    if options.json:
        print(json.dumps(outcome.document(), indent=1))
    console.print(table(outcome))
    console.print(f"{sum(outcome.rounds.values())} rounds, {sum(outcome.refusals.values())} typed refusals")
    for miss in outcome.misses:
        console.print(f"[b]missed[/b] {miss[:500]}")
    sys.exit(1 if outcome.misses else 0)


if __name__ == "__main__":
    main()
