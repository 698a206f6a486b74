"""Digital baselines: the same network without a chip, at its best in the frameworks people deploy with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring.networks import Workload, quiet

Run = Callable[[NDArray[np.float32]], Any]

CALIBRATION_PICTURES = 64


def torch_float32(workload: Workload, threads: int) -> Callable[[NDArray[np.float32]], Callable[[], Any]]:
    """Eager torch in channels_last. Takes the pictures first, so that changing their layout is not timed."""
    import torch

    torch.set_num_threads(threads)
    module = workload.module.to(memory_format=torch.channels_last)

    def on(pictures: NDArray[np.float32]) -> Callable[[], Any]:
        x = torch.from_numpy(pictures).contiguous(memory_format=torch.channels_last)

        def run() -> Any:
            with torch.inference_mode():
                return module(x)

        return run

    return on


def onnxruntime_float32(workload: Workload, threads: int) -> Run:
    """ONNX Runtime on a folded model, with everything its optimiser does (blocked layout, fused activations)."""
    return _run(workload.onnx, threads)


def onnxruntime_int8(workload: Workload, threads: int, folder: Path) -> Run:
    """Statically quantised by ONNX Runtime's own tool: weights int8 per channel, activations uint8."""
    return _run(_quantised(workload, folder), threads)


def _run(path: Path, threads: int) -> Run:
    session = open_session(path, threads)
    name = session.get_inputs()[0].name
    return lambda pictures: session.run(None, {name: pictures})


def open_session(path: Path, threads: int, options: Any = None) -> Any:
    import onnxruntime

    options = options or onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _quantised(workload: Workload, folder: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    name = open_session(workload.onnx, 1).get_inputs()[0].name

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(np.split(workload.pictures(CALIBRATION_PICTURES, seed=2), CALIBRATION_PICTURES // 16))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            part = next(self._rest, None)
            return None if part is None else {name: part}

    path = folder / f"{workload.name}-int8.onnx"
    with quiet():  # it recommends a preprocessing that would do what the export has done
        quantize_static(
            str(workload.onnx),
            str(path),
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return path
