"""``python -m tests.soak.cuts``: power cuts at every operation of every history, and of random ones, under all models.

The short form is tests/test_power_cuts.py; tests/lost_power.py says what the models are. Exit code 1 if a state was
lost or mixed, or a disk refused.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lost_power import cuts
from pcmedge_emulator.store import DATABASE
from power_cuts import Examination, Findings, Recorded, interrupted_start, record
from power_histories import HISTORIES, STEPS

from tests.soak.kills import machine


def examined(names: tuple[str, ...], folder: Path, seed: int) -> tuple[Recorded, Findings]:
    folder.mkdir()
    (folder / "disks").mkdir()
    recorded = record(names, folder / "live")
    return recorded, Examination(recorded, folder / "disks").run(seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.cuts", description=__doc__)
    parser.add_argument("--histories", type=int, default=10, help="random histories beside the written ones")
    parser.add_argument("--starts", type=int, default=10, help="starts after a cut that are cut again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    draw, started_s = random.Random(options.seed), time.monotonic()
    total, starts, operations, calls = Findings(), Findings(), 0, 0
    drawn = [
        ("program a v1", *(draw.choice(sorted(STEPS)) for _ in range(draw.randrange(4, 12))))
        for _ in range(options.histories)
    ]
    with tempfile.TemporaryDirectory(prefix="pcmedge-cuts-") as temporary:
        folder = Path(temporary)
        for number, names in enumerate([*HISTORIES.values(), *drawn]):
            recorded, found = examined(tuple(names), folder / str(number), options.seed)
            operations += len(recorded.operations)
            calls += len(names)
            found.wrong = [f"{', '.join(names)}: {line}" for line in found.wrong]
            total.add(found)
            if number == 0:
                with_log = [
                    cut
                    for cut in cuts(recorded.operations, seed=options.seed)
                    if any(path.name == f"{DATABASE}-wal" and data for path, data in cut.tree.items())
                ]
                for cut in draw.sample(with_log, options.starts):
                    starts.add(interrupted_start(cut.tree, folder / str(number) / "disks", options.seed))
            print(f"{number + 1} histories, {sum(total.cuts.values())} cuts, {len(total.wrong)} wrong", file=sys.stderr)
    wrong = total.wrong + starts.wrong
    document = {
        "histories": len(HISTORIES) + len(drawn),
        "calls": calls,
        "operations": operations,
        "cuts": dict(sorted(total.cuts.items())),
        "distinct_disks": total.disks,
        "states": total.states,
        "during_a_call": {"old_state": total.old, "new_state": total.new},
        "cuts_of_starts_after_a_cut": sum(starts.cuts.values()),
        "lost_mixed_or_refused": len(wrong),
        "wrong": wrong[:20],
        "seed": options.seed,
        "seconds": round(time.monotonic() - started_s, 1),
        "machine": machine(),
    }
    print(json.dumps(document, indent=None if options.json else 2))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
