"""The child process: ``worker FORMAT CORPUS SEED START STOP GIB``. A JSON line before each file and one after it."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

GIB = 2**30
GROWTH_LIMIT_MIB = 1024
"""A small file that makes a process grow by more than this is a defect, also below the limit on its memory."""


def main() -> None:
    format, folder, seed, start, stop, gib = sys.argv[1:]
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    # What the runtimes print belongs to nobody's report.
    os.dup2(2, 1)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    from hostile.corpus import SUFFIX, read
    from hostile.judge import Verdict, judge
    from hostile.mutants import mutant

    resource.setrlimit(resource.RLIMIT_AS, (int(float(gib) * GIB),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = read(Path(folder), format)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"hostile{SUFFIX[format]}"
        for index in range(int(start), int(stop)):
            print(json.dumps({"begin": index}), file=lines)
            made = mutant(format, files, int(seed), index)
            if made.data == files[made.source]:
                verdict, grown = Verdict("same", "the mutation changed nothing"), 0
            else:
                path.write_bytes(made.data)
                before = _reset_peak_mib()
                verdict = judge(format, path)
                grown = _peak_mib() - before
            if grown > GROWTH_LIMIT_MIB and verdict.outcome in ("refused", "right", "read"):
                verdict = Verdict("memory", f"grew by {grown} MiB; {verdict.outcome}: {verdict.detail}")
            report = {"index": index, "source": made.source, "kind": made.kind, "outcome": verdict.outcome,
                      "detail": verdict.detail, "grown_mib": grown}  # fmt: skip
            print(json.dumps(report), file=lines)


def _reset_peak_mib() -> int:
    """Resident memory now; the kernel's peak counts from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_mib()


def _peak_mib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


if __name__ == "__main__":
    main()
