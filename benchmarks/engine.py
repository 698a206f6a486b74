"""The engine against digital inference and other simulators: python -m benchmarks.engine

One network (ResNet-32 16/28/56), one set of weights, the same pictures, the same number of threads; all contenders take
turns, so that ratios are of times taken side by side. Peers run in an environment of their own (make bench makes it).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Before numpy and torch are imported: nobody computes on more threads than said.
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

from pcmedge_emulator.engine.native.library import state

from benchmarks.measuring import command, digital, machine, networks, peers, profiles, report
from benchmarks.measuring.engines import Aged, EngineAbsent
from benchmarks.measuring.goals import Goal, Outcome, judged
from benchmarks.measuring.networks import Workload
from benchmarks.measuring.report import Line
from benchmarks.measuring.rounds import Contender, Progress, Spread, ratio, take_turns, timed

TORCH, FLOAT, INT8 = "torch float32, channels_last", "ONNX Runtime float32", "ONNX Runtime static int8"
EXACT, NOISY = "exact, frozen noise", "exact, noise of every product"
TURBO, TURBO_NOISY = "turbo, frozen noise", "turbo, noise of every product"
PEER = "aihwkit, default inference configuration"
PLAIN = "{}, standard operators alone"
ENGINES: dict[str, tuple[Any, Any, bool]] = {
    EXACT: ("exact", "off", True),
    NOISY: ("exact", "additive", True),
    TURBO: ("turbo", "off", True),
    TURBO_NOISY: ("turbo", "additive", True),
    PLAIN.format(EXACT): ("exact", "off", False),
    PLAIN.format(NOISY): ("exact", "additive", False),
    PLAIN.format(TURBO): ("turbo", "off", False),
}
"""Precision, read noise, and whether with native read-outs: those of the first four, where they can be compiled."""

LARGE = 128
AGAINST_FLOAT: dict[tuple[str, int], tuple[float, float | None]] = {
    (EXACT, LARGE): (1.4, 1.1),
    (NOISY, LARGE): (1.6, None),
    (TURBO, LARGE): (0.7, None),
    (EXACT, 1): (1.5, None),
    (TURBO, 1): (0.9, None),
}
AGAINST_PEER = {(EXACT, LARGE): 20.0, (EXACT, 1): 15.0, (TURBO, LARGE): 40.0, (TURBO, 1): 28.0}
"""Times (contender, batch) may take of ONNX Runtime's float32, and how much faster than aihwkit they must be."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser("engine", __doc__)
    command.add_peers(parser)
    parser.add_argument("--rounds", type=int, default=0, help="turns of each contender (default 25; 2 with --quick)")
    parser.add_argument("--calls", type=int, default=0, help="calls within a turn at batch 1 (default 20)")
    options = parser.parse_args(given)
    options.rounds = options.rounds or (2 if options.quick else 25)
    options.calls = options.calls or (2 if options.quick else 20)
    return options


def measure(options: argparse.Namespace, folder: Path, progress: Progress) -> dict[str, Any]:
    workload = networks.resnet32(folder, options.weights, quick=options.quick, progress=progress)
    large = 8 if options.quick else LARGE
    with ExitStack() as stack:
        absent: dict[str, str] = {}
        runs = _contenders(options, workload, folder, large, stack, absent)
        taken = {
            batch: take_turns(
                [Contender(name, make(batch)) for name, make in runs.items()],
                options.rounds,
                progress=progress,
                what=f"batch {batch}",
            )
            for batch in (1, large)
        }
        tile = getattr(runs.get(PEER), "keywords", {}).get("tile", "")
    rates = machine.rates(options.threads, seconds=0.01 if options.quick else 1.0)
    return report.document(
        "engine",
        settings=command.settings(
            options,
            network=workload.name,
            batches=[1, large],
            precision_of_peer=tile,
            macs=workload.macs,
            native_read_outs=state(wait=True).status,
        ),
        outcomes=_outcomes(taken, large, absent),
        lines=[*_lines(taken, absent, tile), *_floors(workload, taken, rates)],
        more={
            "seconds": {str(batch): found for batch, found in taken.items()},
            "profile": _profile(options, workload, large, absent),
            "rates": rates,
        },
    )


def _contenders(
    options: argparse.Namespace,
    workload: Workload,
    folder: Path,
    large: int,
    stack: ExitStack,
    absent: dict[str, str],
) -> dict[str, Callable[[int], Callable[[], float]]]:
    """By name, who for a batch size gives what to call in a turn. ``absent`` gets whom there is none of, and why."""
    threads, pictures = options.threads, workload.pictures(large)

    def turn(run: Callable[[Any], Any], batch: int) -> Callable[[], float]:
        return timed(lambda: run(pictures[:batch]), options.calls if batch == 1 else 1)

    on_torch = digital.torch_float32(workload, threads)
    found: dict[str, Callable[[int], Callable[[], float]]] = {
        TORCH: lambda batch: timed(on_torch(pictures[:batch]), options.calls if batch == 1 else 1),
        FLOAT: partial(turn, digital.onnxruntime_float32(workload, threads)),
        INT8: partial(turn, digital.onnxruntime_int8(workload, threads, folder)),
    }
    aged = Aged.of(workload)
    for name, (precision, noise, native) in ENGINES.items():
        try:
            engine = aged.engine(precision, noise, threads, native=native)
        except EngineAbsent as problem:
            absent[name] = str(problem)
        else:
            found[name] = partial(turn, partial(_run_engine, engine, aged.input))
    try:
        peer = stack.enter_context(peers.Peer(options.peers, workload, folder, threads=threads, most=large))
    except peers.PeerAbsent as problem:
        absent[PEER] = str(problem)
    else:
        found[PEER] = partial(_turn_of_peer, peer, calls=min(3, options.calls), tile=peer.tile)
    return found


def _run_engine(engine: Any, name: str, pictures: Any) -> Any:
    return engine.run({name: pictures})


def _turn_of_peer(peer: peers.Peer, batch: int, *, calls: int, tile: str) -> Callable[[], float]:
    one = peer.seconds("infer", batch=batch)
    if batch > 1:
        return one

    def median() -> float:
        one()
        return Spread.of([one() for _ in range(calls)]).median

    return median


def _outcomes(taken: dict[int, dict[str, list[float]]], large: int, absent: dict[str, str]) -> list[Outcome]:
    found = []
    for (name, wanted), (limit, stretch) in AGAINST_FLOAT.items():
        batch = large if wanted > 1 else 1
        goal = Goal(what=f"{name}, batch {batch}: time against {FLOAT}", limit=limit, stretch=stretch)
        found.append(judged(goal, ratio(taken[batch], name, FLOAT), absent.get(name, "")))
    for (name, wanted), times in AGAINST_PEER.items():
        batch = large if wanted > 1 else 1
        goal = Goal(what=f"{name}, batch {batch}: speed against aihwkit", limit=times, direction=">=")
        why = absent.get(name) or absent.get(PEER, "")
        found.append(judged(goal, ratio(taken[batch], PEER, name), why))
    return found


def _lines(taken: dict[int, dict[str, list[float]]], absent: dict[str, str], tile: str) -> list[Line]:
    found = []
    for batch, contenders in taken.items():
        for name in (TORCH, FLOAT, INT8, *ENGINES, PEER):
            note = absent.get(name, tile if name == PEER else "")
            milliseconds = [1e3 * seconds for seconds in contenders.get(name, [])]
            against = ratio(contenders, name, FLOAT)
            if against is not None:
                rate = 1e3 * batch / Spread.of(milliseconds).median
                each = f"{report.number(against.median)} x {FLOAT}, {report.number(rate)} images/s"
                note = f"{each}; {note}" if note else each
            spread = Spread.of(milliseconds) if milliseconds else None
            found.append(Line(group=f"batch {batch}", name=name, unit="ms", found=spread, note=note))
    return found


def _floors(workload: Workload, taken: dict[int, dict[str, list[float]]], rates: dict[str, float]) -> list[Line]:
    """What the multiplications alone would take at the rate that a large float32 matrix product reaches here."""
    note = f"{rates['macs_per_s'] / 1e9:,.1f} G multiply-accumulates/s, {rates['bytes_per_s'] / 1e9:,.1f} GB/s copied"
    return [
        Line(
            group="floor",
            name=f"float32 products of batch {batch}",
            unit="ms",
            found=Spread.of([1e3 * workload.macs * batch / rates["macs_per_s"]]),
            note=note,
        )
        for batch in taken
    ]


def _profile(options: argparse.Namespace, workload: Workload, large: int, absent: dict[str, str]) -> dict[str, Any]:
    """Seconds by operator at the large batch, for missed goals."""
    import onnxruntime
    from pcmedge_emulator.engine.layer_times import operator_times

    aged, pictures = Aged.of(workload), workload.pictures(large)
    found: dict[str, Any] = {}
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    found[FLOAT] = profiles.of_session(workload.onnx.read_bytes(), {"x": pictures}, settings)
    for name, (precision, noise, native) in ENGINES.items():
        if name not in absent:
            engine = aged.engine(precision, noise, options.threads, native=native)
            found[name] = operator_times(engine, {aged.input: pictures}, runs=2 if options.quick else 5)
    return found


def main(given: Sequence[str] | None = None) -> dict[str, Any]:
    return command.run(measure, arguments(given))


if __name__ == "__main__":
    main()
