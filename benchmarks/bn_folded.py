"""Recalibration with and without batch norm: ``python -m benchmarks.bn_folded [--network resnet32 --data PATH]``.

The same network is compiled twice, with its batch norm and with batch norm folded into the convolutions, as exporters
do it. The folded one has nothing to adapt but what the compiler records (docs/compiler.md, "Statistics"). Both are
studied on the same chips, pictures, calibration samples and calibration buffer; what is printed is accuracy by age and
method, and folded minus batch norm with a 95 % interval of the paired bootstrap over chips and pictures
(:mod:`benchmarks.science.bootstrap`). The digits network needs no data; ``resnet32`` is the noise-trained checkpoint of
``examples/resnet32_cifar10`` on held-out training pictures of CIFAR-10. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from pcmedge import compile as compile_image
from pcmedge.compiler.graph import attributes
from pcmedge.compiler.scaling import Scaling
from pcmedge.compiler.source import load, prepare
from pcmedge.demo.digits import MODEL_FILE, load_digits
from pcmedge.drift import DriftPlan, DriftStudy, run_study
from pcmedge.durations import format_duration

from benchmarks.science import networks, pictures
from benchmarks.science.bootstrap import Interval, interval
from benchmarks.science.settings import FULL, RANGE_PICTURES, TRAINED

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "resnet32_cifar10"
METHODS = ("none", "gdc", "adabs", "adabs-paired")
DIGITS_CALIBRATION = 256


@dataclass(frozen=True)
class Subject:
    """A network with batch norm, samples to calibrate with, and labelled samples to judge it by."""

    name: str
    model: onnx.ModelProto
    calibration: NDArray[np.float32]
    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """One age and method: mean accuracies over chips (unit 1), and folded minus batch norm."""

    age_s: float
    method: str
    with_batch_norm: float
    folded: float
    difference: Interval


def fold_batch_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with every batch norm behind a convolution worked into its weights and bias.

    Raises ValueError if a batch norm is left: its input is not a convolution's, or somebody else reads it too.
    """
    graph = prepare(load(model, None, None)).graph
    makers, readers = graph.producers(), graph.consumers()
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        conv = makers[norm.input[0]]
        if conv.op_type != "Conv" or len(readers[norm.input[0]]) != 1:
            raise ValueError(f"batch norm {norm.name} is not alone behind a convolution")
        scale, offset, mean, variance = (graph.constants[name].astype(np.float64) for name in norm.input[1:5])
        weights = graph.constants[conv.input[1]].astype(np.float64)
        bias = graph.constants[conv.input[2]] if len(conv.input) > 2 else np.zeros(len(scale))
        factor = scale / np.sqrt(variance + attributes(norm).get("epsilon", 1e-5))
        made = {
            f"{norm.name}/folded_weight": weights * factor.reshape(-1, *[1] * (weights.ndim - 1)),
            f"{norm.name}/folded_bias": offset + (bias - mean) * factor,
        }
        graph.constants.update({name: value.astype(np.float32) for name, value in made.items()})
        del conv.input[1:]
        conv.input.extend(made)
        conv.output[0] = norm.output[0]
    graph.nodes = [node for node in graph.nodes if node.op_type != "BatchNormalization"]
    graph.sweep()
    return graph.to_model()


def digits(samples: int = 0) -> Subject:
    """The bundled network; ``samples`` test digits (0: all 400)."""
    found = load_digits()
    test = slice(samples or None)
    return Subject(
        "digits",
        onnx.load(MODEL_FILE),
        found.train.tensors[:DIGITS_CALIBRATION],
        found.test.tensors[test],
        found.test.labels[test].astype(np.int64),
    )


def resnet32(data: Path, work: Path, samples: int) -> Subject:
    """The noise-trained checkpoint, and ``samples`` of the training pictures that it has not seen."""
    pictures.prepare(data, work, {"held-out"}, FULL)
    network = networks.find(EXAMPLE / "models", EXAMPLE / "network.py", work)[0][TRAINED]
    calibration = pictures.load(work, pictures.CALIBRATION).tensors[:RANGE_PICTURES]
    held_out = pictures.load(work, "held-out", samples)
    return Subject("resnet32", onnx.load(network.path), calibration, held_out.tensors, held_out.labels)


def compare(
    subject: Subject, plan: DriftPlan, *, scaling: Scaling = "layer", keep: Path | None = None, workers: int = 1
) -> list[Line]:
    """Both forms of the network on the chips of ``plan`` (which keeps which samples were right)."""
    studies = []
    for model in (subject.model, fold_batch_norm(subject.model)):
        image = compile_image(model, calibration=subject.calibration, name=subject.name, scaling=scaling)
        studies.append(run_study(image, subject.inputs, subject.labels, plan=plan, keep=keep, workers=workers))
    found = []
    for age_s in plan.ages:
        for method in plan.modes:
            both = [_right(study, age_s, method) for study in studies]
            means = [float(right.mean(dtype=np.float64)) for right in both]
            found.append(Line(age_s, method, means[0], means[1], interval([(1.0, both[1]), (-1.0, both[0])])))
    return found


def _right(study: DriftStudy, age_s: float, method: str) -> NDArray[np.float32]:
    """Share of reads in which a sample was right [chips, samples]."""
    rows = [row for row in study.rows if row.age_s == age_s and row.mode == method]
    chips = sorted({row.chip for row in rows})
    unpacked = {
        chip: [
            np.unpackbits(np.frombuffer(row.correct, np.uint8), count=row.samples) for row in rows if row.chip == chip
        ]
        for chip in chips
    }
    return np.stack([np.mean(unpacked[chip], axis=0, dtype=np.float32) for chip in chips])


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bn_folded", description=__doc__)
    parser.add_argument("--network", choices=("digits", "resnet32"), default="digits")
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10, for resnet32")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bn_folded", help="what is measured")
    parser.add_argument("--ages", default="1d,1y")
    parser.add_argument("--chips", type=int, default=10, help="seeds from 0")
    parser.add_argument("--samples", type=int, default=1000, help="pictures to judge by (digits: at most 400)")
    parser.add_argument("--realisations", type=int, default=1, help="reads of every chip")
    parser.add_argument(
        "--scaling", choices=("layer", "column"), default="layer", help="of the weights, for both forms"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--physics", default="pcm-90nm")
    parser.add_argument("--json", action="store_true", help="print the lines as JSON")
    options = parser.parse_args(given)
    if options.network == "resnet32" and options.data is None:
        parser.error("--network resnet32 needs --data PATH, a folder with CIFAR-10")
    subject = (
        digits(min(options.samples, 400))
        if options.network == "digits"
        else resnet32(options.data, options.work, options.samples)
    )
    plan = DriftPlan(
        ages_s=tuple(options.ages.split(",")),
        chips=options.chips,
        realisations=options.realisations,
        modes=METHODS,
        physics=options.physics,
        keep_correct=True,
    )
    lines = compare(subject, plan, scaling=options.scaling, keep=options.work / "chips", workers=options.workers)
    if options.json:
        print(json.dumps([{**line.__dict__, "difference": line.difference.__dict__} for line in lines], indent=1))
        return
    chips = f"{options.chips} chips of {options.physics}, {len(subject.labels)} pictures"
    print(f"{subject.name}, {chips}, one weight scale per {options.scaling}\n")
    print("| age | method | with batch norm | folded | folded - batch norm, points (95 %) |\n|---|---|---|---|---|")
    for line in lines:
        estimate, low, high = (
            100 * value for value in (line.difference.estimate, line.difference.low, line.difference.high)
        )
        print(
            f"| {format_duration(line.age_s)} | {line.method} | {line.with_batch_norm:.2%} | {line.folded:.2%} "
            f"| {estimate:+.2f} ({low:+.2f} .. {high:+.2f}) |"
        )


if __name__ == "__main__":
    main()
