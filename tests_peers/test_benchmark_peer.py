"""The process that measures aihwkit for ``python -m benchmarks.engine`` and ``python -m benchmarks.device``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
DEFINITION = ROOT / "examples" / "resnet32_cifar10" / "network.py"
WORKER = ROOT / "benchmarks" / "measuring" / "aihwkit_worker.py"


def answers(*orders: dict[str, Any]) -> list[dict[str, Any]]:
    """What the worker says to one order after the other; it ends with its input."""
    text = "".join(json.dumps(order) + "\n" for order in orders)
    found = subprocess.run(
        [sys.executable, "-W", "ignore", str(WORKER)], input=text, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in found.stdout.splitlines()]


def order(folder: Path, **more: Any) -> dict[str, Any]:
    """A narrow network of one block per stage, with weights and pictures as files."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("network", DEFINITION)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BLOCKS, module.CHANNELS = 1, (4, 6, 8)
    torch.save(module.ResNet32().state_dict(), folder / "weights.pt")
    np.save(folder / "pictures.npy", np.zeros((2, 3, 32, 32), np.float32))
    return {
        "definition": str(DEFINITION),
        "settings": {"BLOCKS": 1, "CHANNELS": [4, 6, 8]},
        "weights": str(folder / "weights.pt"),
        "pictures": str(folder / "pictures.npy"),
        "threads": 1,
        "age_s": 86400.0,
        **more,
    }


def test_it_measures_inference_programming_and_drift(tmp_path: Path) -> None:
    asked = ({"do": "infer", "batch": 2}, {"do": "program"}, {"do": "drift", "age_s": 3600.0})
    ready, *measured = answers(order(tmp_path), *asked)
    assert ready["tile"] in ("compiled tile", "torch tile")
    assert set(ready["versions"]) == {"aihwkit", "torch"}
    assert len(measured) == len(asked)
    assert all(each["seconds"] > 0 for each in measured)


def test_it_says_what_is_wrong(tmp_path: Path) -> None:
    (problem,) = answers(order(tmp_path, weights=str(tmp_path / "none.pt")))
    assert "none.pt" in problem["problem"]
