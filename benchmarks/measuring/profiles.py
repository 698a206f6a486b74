"""Where the time goes: a session's operators by ONNX Runtime's own profiler, and a function by Python's."""

from __future__ import annotations

import cProfile
import json
import pstats
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RUNS = 5


def of_session(model: bytes, feeds: Mapping[str, Any], options: Any, runs: int = RUNS) -> dict[str, float]:
    """Seconds of one run by operator type, the most expensive first: the mean of ``runs`` after one that warms up."""
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="pcmedge-profile-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(runs + 1):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    starts = [event["ts"] for event in events if event["name"] == "model_run"]
    # The profiler writes a run's event when it ends, with the time it began.
    second = sorted(starts)[1]
    found: dict[str, float] = defaultdict(float)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= second:
            found[event["args"]["op_name"]] += event["dur"] * 1e-6 / runs
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def of_function(function: Callable[[], object], most: int = 15) -> list[dict[str, Any]]:
    """Python functions by the time spent in themselves, the most expensive first."""
    profile = cProfile.Profile()
    profile.runcall(function)
    rows = []
    for (path, line, name), (_, calls, own, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        place = name if path == "~" else f"{Path(path).name}:{line} {name}"
        rows.append({"function": place, "calls": calls, "own_s": own, "with_callees_s": cumulative})
    return sorted(rows, key=lambda row: -row["own_s"])[:most]
