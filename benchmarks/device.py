"""The device's own work: python -m benchmarks.device

Programming, ageing, recalibration and drift studies of ResNet-32 16/28/56 on one emulated chip, in memory; the study
beside aihwkit, which answers from an environment of its own (make bench makes it).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import numpy as np
from pcmedge.drift import DriftPlan, run_study
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.crossbar.tile import program_tile
from pcmedge_emulator.physics import get_technology, stream

from benchmarks.measuring import command, machine, networks, peers, profiles, report
from benchmarks.measuring.goals import Goal, Outcome, judged
from benchmarks.measuring.networks import Workload
from benchmarks.measuring.report import Line
from benchmarks.measuring.rounds import Contender, Progress, Spread, ratio, take_turns, timed

HOUR_S = 3600.0
OLDER = 1.3
"""Each ageing makes the chip so many times older: the grid on which conductances are evaluated is finer."""

PROGRAM, PROGRAM_VERB, AGE = "program all devices", "the whole verb program", "advance, and the first answer"
PLAIN, ADABS, PAIRED = "plain inference", "AdaBS", "paired AdaBS, one read"
ADABS_BATCH, ADABS_BATCHES = 200, 13

PEER_BATCH = 128
STUDY_AGES_S = (25.0, 3600.0, 86400.0, 30 * 86400.0, 365 * 86400.0)
EXTRAPOLATED_CHIPS = 1000
STUDIES = {"exact": 20.0, "turbo": 40.0}
"""How much faster than aihwkit a study must be, by precision."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser("device", __doc__)
    command.add_peers(parser)
    parser.add_argument("--rounds", type=int, default=0, help="turns of each measurement (default 15; 2 with --quick)")
    parser.add_argument("--chips", type=int, default=0, help="of the drift study (default 100; 2 with --quick)")
    parser.add_argument("--images", type=int, default=0, help="of the drift study (default 1000; 16 with --quick)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the drift study, ours and the peer's")
    parser.add_argument("--no-study", action="store_true", help="leave the drift study out: it takes most of the time")
    options = parser.parse_args(given)
    options.rounds = options.rounds or (2 if options.quick else 15)
    options.chips = options.chips or (2 if options.quick else 100)
    options.images = options.images or (16 if options.quick else 1000)
    return options


def measure(options: argparse.Namespace, folder: Path, progress: Progress) -> dict[str, Any]:
    workload = networks.resnet32(folder, options.weights, quick=options.quick, progress=progress)
    samples = (4 if options.quick else ADABS_BATCH) * ADABS_BATCHES
    with _chip(workload, options.threads) as chip:
        program = _program(workload, chip, options, progress)
        age = _age(workload, chip, options, progress)
        adabs = _adabs(workload, chip, samples, options, progress)
        where = _profiles(workload, chip)
    study, absent = ({}, {}) if options.no_study else _study(workload, folder, options, progress)
    taken = {**program, **age, **adabs}
    devices = int(workload.image.manifest.placement.devices)
    return report.document(
        "device",
        settings=command.settings(options, network=workload.name, devices=devices, adabs_images=samples),
        outcomes=_outcomes(taken, study, absent, devices, samples, options),
        lines=_lines(taken, study, absent, options),
        more={
            "seconds": taken,
            "study": study,
            "profile": where,
            "rates": machine.rates(options.threads, seconds=0.01 if options.quick else 1.0),
        },
    )


def _chip(workload: Workload, threads: int) -> Chip:
    chip = Chip(clock=Clock.manual(), default_policy=MANUAL, threads=threads)
    chip.program(workload.image)
    return chip


def _program(workload: Workload, chip: Chip, options: argparse.Namespace, progress: Progress) -> dict[str, list[float]]:
    """The devices' conductances and drift exponents alone, and everything until the chip can answer."""
    image, technology = workload.image, get_technology("pcm-90nm")
    tiles = [(tile.tile, image.target(tile)) for tile in image.tiles()]
    g_max = image.manifest.profile.g_max_microsiemens

    def devices() -> None:
        for number, target in tiles:
            program_tile(target, g_max, technology, stream("benchmark", 0, "program", number))

    contenders = [
        Contender(PROGRAM, timed(devices)),
        Contender(PROGRAM_VERB, timed(lambda: chip.program(image, replace=True))),
    ]
    return take_turns(contenders, options.rounds, progress=progress, what="program")


def _age(workload: Workload, chip: Chip, options: argparse.Namespace, progress: Progress) -> dict[str, list[float]]:
    name, picture = workload.image.name, workload.pictures(1)
    chip.advance(HOUR_S)
    run = {_input(workload): picture}

    def older() -> None:
        chip.advance((OLDER - 1) * _age_s(chip))
        chip.infer(name, run)

    return take_turns([Contender(AGE, timed(older))], options.rounds, progress=progress, what="age")


def _age_s(chip: Chip) -> float:
    return chip.models()[0].age_s


def _input(workload: Workload) -> str:
    return str(workload.image.manifest.model.inputs[0].name)


def _adabs(
    workload: Workload, chip: Chip, samples: int, options: argparse.Namespace, progress: Progress
) -> dict[str, list[float]]:
    """Recalibrations on as many pictures as plain inference gets, in batches of one size."""
    name, inputs = workload.image.name, {_input(workload): workload.pictures(samples)}
    batch = samples // ADABS_BATCHES
    reference = workload.image.reference_statistics()
    # Any statistics will do for the paired one's arithmetic: the image's own.
    chip.replace_buffer(name, inputs, statistics=reference)

    def plain() -> None:
        for start in range(0, samples, batch):
            chip.infer(name, {key: values[start : start + batch] for key, values in inputs.items()})

    def recalibrate(method: str, **more: Any) -> Callable[[], object]:
        return lambda: chip.recalibrate(name, method, reads=1, force=True, compare=False, **more)

    published = {"batches": ADABS_BATCHES, "batch_size": batch}
    contenders = [
        Contender(PLAIN, timed(plain)),
        Contender(ADABS, timed(recalibrate("adabs", **published))),
        Contender(PAIRED, timed(recalibrate("adabs-paired"))),
    ]
    return take_turns(contenders, options.rounds, progress=progress, what="recalibrate")


def _profiles(workload: Workload, chip: Chip) -> dict[str, Any]:
    """Python's profile of the verbs that have goals; a call of ONNX Runtime or numpy is one line of it."""
    name = workload.image.name
    return {
        PROGRAM_VERB: profiles.of_function(lambda: chip.program(workload.image, replace=True)),
        AGE: profiles.of_function(lambda: chip.advance(HOUR_S)),
        ADABS: profiles.of_function(lambda: chip.recalibrate(name, "adabs", force=True, compare=False)),
    }


def _study(
    workload: Workload, folder: Path, options: argparse.Namespace, progress: Progress
) -> tuple[dict[str, Any], dict[str, str]]:
    """Seconds per chip, age and picture: ours of one whole study per precision, the peer's before and after it."""
    found: dict[str, Any] = {}
    absent: dict[str, str] = {}
    theirs: list[float] = []
    with ExitStack() as stack:
        try:
            others = [
                stack.enter_context(
                    peers.Peer(options.peers, workload, folder, threads=options.threads, most=PEER_BATCH)
                )
                for _ in range(options.workers)
            ]
        except peers.PeerAbsent as problem:
            absent["peer"] = str(problem)
            others = []

        def their_turn() -> None:
            for number in range(min(3, options.rounds) if others else 0):
                progress("aihwkit", number, 3)
                theirs.append(_their_study(others, options))

        their_turn()
        for precision in STUDIES:
            plan = _plan(options, precision)
            if plan is None:
                absent[precision] = f'this version has no precision="{precision}" for studies'
                continue
            found[precision] = _our_study(workload, plan, options, progress)
            their_turn()
    found["aihwkit"] = theirs
    return found, absent


def _plan(options: argparse.Namespace, precision: str) -> DriftPlan | None:
    settings: dict[str, Any] = {"ages_s": STUDY_AGES_S, "chips": options.chips, "modes": ("gdc",)}
    if precision != "exact":
        if "precision" not in {field.name for field in dataclasses.fields(DriftPlan)}:
            return None
        # Frozen noise: an int8 product has no place for noise of its own.
        settings |= {"precision": precision, "read_noise": "off"}
    return DriftPlan(**settings)


def _our_study(workload: Workload, plan: DriftPlan, options: argparse.Namespace, progress: Progress) -> float:
    inputs = workload.pictures(options.images)
    labels = np.zeros(options.images, np.int64)
    begin = time.perf_counter()
    run_study(
        workload.image,
        inputs,
        labels,
        plan=plan,
        workers=options.workers,
        progress=lambda done, total: progress("drift study", done, total),
    )
    return (time.perf_counter() - begin) / (plan.chips * len(plan.ages) * options.images)


def _their_study(others: Sequence[peers.Peer], options: argparse.Namespace) -> float:
    """Of one chip on every worker at once: program it, and at each age drift it (with its compensation) and run the
    pictures in batches of 128. One age and one batch are measured, the rest of the loop repeats them.
    """

    def chip(peer: peers.Peer) -> float:
        batch = min(PEER_BATCH, options.images)
        program, drift = peer.seconds("program")(), peer.seconds("drift", age_s=86400.0)()
        pictures = options.images / batch * peer.seconds("infer", batch=batch)()
        return program + len(STUDY_AGES_S) * (drift + pictures)

    with ThreadPoolExecutor(len(others)) as pool:
        seconds = max(pool.map(chip, others))
    return seconds / (len(others) * len(STUDY_AGES_S) * options.images)


def _outcomes(
    taken: dict[str, list[float]],
    study: dict[str, Any],
    absent: dict[str, str],
    devices: int,
    samples: int,
    options: argparse.Namespace,
) -> list[Outcome]:
    found = [judged(Goal(what=f"{PROGRAM}, {devices:,} of them", limit=60, unit="ms"), _ms(taken[PROGRAM]))]
    goal = Goal(what=f"age to a new time, snapshot and session ready: {AGE}", limit=60, unit="ms")
    found.append(judged(goal, _ms(taken[AGE])))
    goal = Goal(what=f"AdaBS on {samples:,} images against plain inference on them", limit=1.3)
    found.append(judged(goal, ratio(taken, ADABS, PLAIN)))
    for precision, times in STUDIES.items():
        what = (
            f"drift study, {precision}: {options.chips} chips x {len(STUDY_AGES_S)} times x {options.images:,} images, "
            f"{options.workers} workers: speed against aihwkit"
        )
        why = "left out by --no-study" if options.no_study else absent.get(precision) or absent.get("peer", "")
        spread = None
        if precision in study and study.get("aihwkit"):
            spread = Spread.of([theirs / study[precision] for theirs in study["aihwkit"]])
        found.append(judged(Goal(what=what, limit=times, direction=">="), spread, why))
    return found


def _lines(
    taken: dict[str, list[float]], study: dict[str, Any], absent: dict[str, str], options: argparse.Namespace
) -> list[Line]:
    groups = {PROGRAM: "program", PROGRAM_VERB: "program", AGE: "age"}
    found = [
        Line(group=groups.get(name, "recalibrate"), name=name, unit="ms", found=_ms(seconds))
        for name, seconds in taken.items()
    ]
    paired = ratio(taken, PAIRED, PLAIN)
    found.append(Line(group="recalibrate", name=f"{PAIRED}, against {PLAIN}", unit="x", found=paired))
    for precision in STUDIES:
        seconds = study.get(precision)
        one = None if seconds is None else Spread.of([1e6 * seconds])
        found.append(
            Line(
                group="drift study",
                name=f"{precision}, per chip, time and image",
                unit="µs",
                found=one,
                note=absent.get(precision, ""),
            )
        )
        if seconds is not None:
            hours = seconds * EXTRAPOLATED_CHIPS * len(STUDY_AGES_S) * options.images / 3600
            name = f"{precision}, {EXTRAPOLATED_CHIPS:,} chips, extrapolated"
            found.append(Line(group="drift study", name=name, unit="h", found=Spread.of([hours])))
    theirs = [1e6 * seconds for seconds in study.get("aihwkit", [])]
    found.append(
        Line(
            group="drift study",
            name="aihwkit, per chip, time and image",
            unit="µs",
            found=Spread.of(theirs) if theirs else None,
            note=absent.get("peer", ""),
        )
    )
    return found


def _ms(seconds: Sequence[float]) -> Spread:
    return Spread.of([1e3 * each for each in seconds])


def main(given: Sequence[str] | None = None) -> dict[str, Any]:
    return command.run(measure, arguments(given))


if __name__ == "__main__":
    main()
