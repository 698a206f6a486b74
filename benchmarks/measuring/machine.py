"""What a measurement was taken on: processor, memory, software, load, and what the processor can do at all."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TELLING_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "avx512_bf16", "asimddp", "i8mm")
PACKAGES = ("pcmedge", "numpy", "onnx", "onnxruntime", "torch", "grpcio", "protobuf")


def facts() -> dict[str, Any]:
    """Names, sizes and versions; ``load`` is the number of runnable processes over 1, 5 and 15 minutes."""
    information = _processor()
    flags = information.get("flags", information.get("Features", "")).split()
    return {
        "processor": information.get("model name", platform.processor() or platform.machine()),
        "family_model_stepping": [information.get(key, "") for key in ("cpu family", "model", "stepping")],
        "flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "vnni": any(flag in flags for flag in ("avx512_vnni", "avx_vnni")),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "commit": commit(),
        "load": list(os.getloadavg()),
    }


def versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of the checkout, with a "+" where files differ from it; "unknown" outside one."""
    try:
        name = _git("rev-parse", "HEAD")
        return name[:12] + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def rates(threads: int, *, seconds: float = 1.0) -> dict[str, float]:
    """What the machine reaches with ``threads``: float32 multiply-accumulates of a matrix product in ONNX Runtime and
    bytes copied, both per second. With them a time can be compared with its floor.
    """
    product = _product(1024, threads)
    size = 64 * 2**20
    source = np.ones(size // 4, np.float32)
    target = np.empty_like(source)
    return {
        "macs_per_s": 1024**3 / _least(product, seconds),
        # A copy reads and writes every byte once.
        "bytes_per_s": 2 * size / _least(lambda: np.copyto(target, source), seconds),
        "threads": threads,
    }


def _product(size: int, threads: int) -> Any:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    right = np.random.default_rng(0).standard_normal((size, size), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size, size])],
        [numpy_helper.from_array(right, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        onnx.ModelProto.SerializeToString(model), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": right})


def _least(function: Any, seconds: float) -> float:
    """The least time of a call within ``seconds``: a rate that the machine has reached at least once."""
    found, end = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        found.append(time.perf_counter() - begin)
    return min(found)


def _processor() -> Mapping[str, str]:
    source = Path("/proc/cpuinfo")
    if not source.exists():
        return {}
    first = source.read_text().partition("\n\n")[0]
    return dict((part.strip() for part in line.split(":", 1)) for line in first.splitlines() if ":" in line)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
