"""The trained networks as ONNX files, and what they reach digitally."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pcmedge.drift.files import write_whole
from pcmedge.errors import FileMissingError

from benchmarks.science.pictures import Pictures
from benchmarks.science.settings import NETWORKS


@dataclass(frozen=True)
class Network:
    """``path``: an ONNX file; ``sha256``: of the trained weights' file."""

    name: str
    path: Path
    sha256: str


def find(models: Path, source: Path, work: Path) -> tuple[dict[str, Network], tuple[str, ...]]:
    """(the networks there are, the names of those that are missing). Weights of torch are exported once.

    ``source``: a Python file whose ``load(path)`` makes the torch network from NAME.pt; NAME.onnx is taken as it is.
    """
    found: dict[str, Network] = {}
    for name in NETWORKS:
        ready, weights = models / f"{name}.onnx", models / f"{name}.pt"
        if ready.exists():
            found[name] = Network(name, ready, _sha256(ready))
        elif weights.exists():
            digest = _sha256(weights)
            path = work / "networks" / f"{name}-{digest[:16]}.onnx"
            if not path.exists():
                _export(weights, source, path)
            found[name] = Network(name, path, digest)
    return found, tuple(name for name in NETWORKS if name not in found)


def right(network: Network, pictures: Pictures) -> NDArray[np.bool_]:
    """Which pictures the network gets right in float32, as ONNX Runtime computes it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network.path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = range(0, len(pictures.labels), 250)
    scores = np.concatenate([session.run(None, {name: pictures.tensors[at : at + 250]})[0] for at in parts])
    return np.asarray(scores.argmax(axis=1) == pictures.labels)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _export(weights: Path, source: Path, path: Path) -> None:
    import onnx
    import torch
    from pcmedge.frontends.torch import load

    spec = importlib.util.spec_from_file_location("science_network", source)
    if spec is None or spec.loader is None or not source.exists():
        raise FileMissingError(f"No network definition {source}. Name the Python file with load(path) by --network.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    torch.set_num_threads(1)
    model = load(module.load(weights), torch.zeros(2, 3, 32, 32))
    write_whole(path, lambda temporary: onnx.save(model, temporary))
