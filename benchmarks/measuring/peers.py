"""Other simulators, each in a process of its own environment that waits for orders: they take turns with ours."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.measuring.machine import ROOT
from benchmarks.measuring.networks import RESNET32, Workload

DEFAULT_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
"""Where ``make bench`` and ``make test-peers`` install the extra ``peers``."""

WORKER = Path(__file__).with_name("aihwkit_worker.py")


class PeerAbsent(Exception):
    """The peer cannot be measured here; the message says why."""


class Peer:
    """aihwkit with the workload's weights, aged ``age_s``; a context manager. Raises :class:`PeerAbsent`."""

    def __init__(
        self, python: Path, workload: Workload, folder: Path, *, threads: int, most: int, age_s: float = 86400.0
    ) -> None:
        import torch

        weights, pictures = folder / f"{workload.name}-peer.pt", folder / f"{workload.name}-peer-{most}.npy"
        torch.save(workload.module.state_dict(), weights)
        np.save(pictures, workload.pictures(most))
        blocks = sum(1 for name, _ in workload.module.stage1.named_children())
        channels = [getattr(workload.module, f"stage{number}")[0].conv1.out_channels for number in (1, 2, 3)]
        order = {
            "definition": str(RESNET32),
            "settings": {"BLOCKS": blocks, "CHANNELS": channels},
            "weights": str(weights),
            "pictures": str(pictures),
            "threads": threads,
            "age_s": age_s,
        }
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        try:
            self._process = subprocess.Popen(
                [str(python), "-W", "ignore", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        except OSError as problem:
            # Results are published; where this clone lies is nobody's business.
            where = Path(os.path.relpath(python, ROOT)) if Path(python).is_relative_to(ROOT) else python
            raise PeerAbsent(f"no peers' Python at {where}: make bench installs it") from problem
        try:
            ready = self._ask(order)
        except BaseException:
            self.close()
            raise
        self.tile = str(ready["tile"])
        self.versions = dict(ready["versions"])

    def seconds(self, do: str, **more: Any) -> Callable[[], float]:
        """For a contender: what the peer measured of one call of its own."""
        return lambda: float(self._ask({"do": do, **more})["seconds"])

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerAbsent("the peer's process ended without an answer; its stderr is above")
        found: dict[str, Any] = json.loads(line)
        if "problem" in found:
            raise PeerAbsent(found["problem"])
        return found

    def close(self) -> None:
        """The worker ends with its input."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
