"""Compiles the probe images of the conformance suite (sdk/pcmedge/conformance/data).

    python scripts/make_conformance_probe.py [--check]

Two images of one model with the same layers: 16 inputs in four blocks, of which the largest decides between four
classes, a batch norm in between. The second image has its classes turned by one, so that an answer says which image
gave it even through noise and drift. Needs the extra `emulator`; running the suite does not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pcmedge import compile as compile_model
from pcmedge.image import ChipImage

FOLDER = Path(__file__).resolve().parent.parent / "sdk" / "pcmedge" / "conformance" / "data"
CLASSES, BLOCK = 4, 4
LABELS = ("north", "east", "south", "west")


def samples(count: int) -> NDArray[np.float32]:
    """[count, 16]: block k of sample i is bright if k == i mod 4, else dim; a ramp over i sets how bright."""
    inputs = np.full((count, CLASSES, BLOCK), 0.1, np.float32)
    for number in range(count):
        inputs[number, number % CLASSES] = 0.5 + 0.5 * ((number // CLASSES) % 4) / 3
    return inputs.reshape(count, CLASSES * BLOCK)


def network(turn: int) -> Any:
    """Gemm, batch norm, Relu, Gemm; class k of the input is output (k + turn) mod 4."""
    first = np.repeat(np.eye(CLASSES, dtype=np.float32), BLOCK, axis=0)
    last = np.roll(np.eye(CLASSES, dtype=np.float32), turn, axis=1)
    hidden = samples(16) @ first
    weights = {
        "first": first,
        "gamma": np.ones(CLASSES),
        "beta": np.full(CLASSES, 1.0),
        "mean": hidden.mean(axis=0),
        "variance": hidden.var(axis=0),
        "last": last,
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "first"], ["a"], name="first"),
            helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "variance"], ["n"], name="norm"),
            helper.make_node("Relu", ["n"], ["h"], name="relu"),
            helper.make_node("Gemm", ["h", "last"], ["y"], name="last"),
        ],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CLASSES * BLOCK])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def probe(turn: int) -> ChipImage:
    model = network(turn)
    onnx.checker.check_model(model)
    image: ChipImage = compile_model(
        model,
        calibration=samples(64),
        name="pcmedge-conformance",
        version=1 + turn,
        labels=LABELS,
        reference=samples(16),
    )
    return image


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the committed images are these")
    check = parser.parse_args().check
    stale = []
    for turn in (0, 1):
        path, image = FOLDER / f"probe-{turn + 1}.pcmi", probe(turn)
        if check and (not path.exists() or ChipImage.open(path) != image):
            stale.append(path.name)
        if not check:
            image.save(path)
            print(f"{path}: {image!r}")
    if stale:
        print(f"not what this script makes: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
