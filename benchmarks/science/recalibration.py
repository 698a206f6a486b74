"""Which recalibration keeps the most: candidates compared on the same chips, reads and pictures.

    python -m benchmarks.science.recalibration --data PATH                  # measure what is missing, print the tables
    python -m benchmarks.science.recalibration --data PATH --only "paired*"

Held-out training pictures and chips from seed 0 only. Every chip is programmed once and every candidate tried on it at
every age; differences to the first candidate are taken chip by chip, and their standard errors are over chips. "error"
is the mean square deviation of the scores from the digital network's (but for a common factor) over their mean square:
it moves long before decisions do. One file per chip and age below the work folder: stop and start it as you like.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pcmedge.drift.files import write_whole
from pcmedge.durations import parse_duration
from pcmedge.image import ChipImage
from pcmedge.image.synthetic import synthetic_buffer
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock

from benchmarks.science import networks, pictures
from benchmarks.science.settings import FULL, RANGE_PICTURES, TRAINED

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "resnet32_cifar10"
Tensors = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """``buffer``: real-N training pictures, GENERATOR-N synthetic ones, or chosen-N of them by coverage."""

    method: str
    buffer: str = ""
    reads: int = 0
    gdc_everywhere: bool = False
    same_read: bool = False


CANDIDATES = {
    "paired, 26 real, 8 reads": Candidate("adabs-paired", "real-26", 8),
    "GDC": Candidate("gdc"),
    "GDC per column": Candidate("gdc-per-column"),
    "AdaBS, 13 real": Candidate("adabs", "real-13"),
    "AdaBS, 26 real": Candidate("adabs", "real-26"),
    "AdaBS, 100 real": Candidate("adabs", "real-100"),
    "AdaBS, 2,600 real": Candidate("adabs", "real-2600"),
    "AdaBS, 100 real, 8 reads": Candidate("adabs", "real-100", 8),
    "paired, 13 real, 8 reads": Candidate("adabs-paired", "real-13", 8),
    "paired, 26 real, 1 read": Candidate("adabs-paired", "real-26", 1),
    "paired, 26 real, 2 reads": Candidate("adabs-paired", "real-26", 2),
    "paired, 26 real, 4 reads": Candidate("adabs-paired", "real-26", 4),
    "paired, 26 real, 32 reads": Candidate("adabs-paired", "real-26", 32),
    "paired, 26 real, 8 reads, GDC everywhere": Candidate("adabs-paired", "real-26", 8, gdc_everywhere=True),
    "paired, 100 real, 8 reads": Candidate("adabs-paired", "real-100", 8),
    "paired, 2,600 real, 8 reads": Candidate("adabs-paired", "real-2600", 8),
    "paired, 26 white noise, 8 reads": Candidate("adabs-paired", "white-1-26", 8),
    "paired, 26 three scales, 8 reads": Candidate("adabs-paired", "three-scales-1-26", 8),
    "paired, 26 leaves, 8 reads": Candidate("adabs-paired", "leaves-1-26", 8),
    "paired, 13 leaves by coverage, 8 reads": Candidate("adabs-paired", "chosen-13", 8),
    "paired, 26 leaves by coverage, 8 reads": Candidate("adabs-paired", "chosen-26", 8),
    "paired, 64 leaves by coverage, 8 reads": Candidate("adabs-paired", "chosen-64", 8),
    "paired, 26 real, same read": Candidate("adabs-paired", "real-26", 1, same_read=True),
}


def buffers(image: ChipImage, calibration: Tensors, names: set[str]) -> dict[str, Tensors]:
    """The samples of every buffer by name."""
    described = image.manifest.calibration_buffer
    made = described.inputs[0]
    found: dict[str, Tensors] = {}
    for name in names:
        kind, _, count = name.rpartition("-")
        if kind == "real":
            found[name] = calibration[: int(count)]
            continue
        numbers = described.chosen[: int(count)] if kind == "chosen" else ()
        found[name] = synthetic_buffer(
            described.generator if kind == "chosen" else kind,
            described.seed,
            int(count),
            tuple(made.shape),
            np.float32,
            made.mean,
            made.std,
            made.minimum,
            made.maximum,
            chosen=numbers,
        )
    return found


def relative_error(scores: Tensors, digital: Tensors) -> float:
    """Mean square deviation but for a common factor, over the mean square; scores without their mean per picture."""
    a = scores - scores.mean(axis=1, keepdims=True)
    b = digital - digital.mean(axis=1, keepdims=True)
    factor = float((a * b).sum() / np.square(a).sum())
    return float(np.square(factor * a - b).mean() / np.square(b).mean())


def measure(
    image: ChipImage,
    held_out: pictures.Pictures,
    digital: Tensors,
    samples: Mapping[str, tuple[Tensors, Mapping[str, Any]]],
    wanted: Mapping[str, Candidate],
    seed: int,
    age_s: float,
    same_read: bool,
) -> dict[str, dict[str, Any]]:
    """What every candidate leaves on one chip at one age."""
    found: dict[str, dict[str, Any]] = {}
    name, (spec,) = image.name, image.manifest.model.inputs
    output = image.manifest.model.outputs[0].name
    with Chip(
        profile=image.manifest.profile, clock=Clock.manual(), seed=seed, default_policy=MANUAL, same_read=same_read
    ) as chip:
        chip.program(image)
        chip.advance(age_s)
        for label, candidate in wanted.items():
            if candidate.buffer:
                tensors, statistics = samples[candidate.buffer]
                chip.replace_buffer(name, {spec.name: tensors}, statistics=statistics)
            outcome = chip.recalibrate(
                name,
                candidate.method,
                reads=candidate.reads,
                gdc_everywhere=candidate.gdc_everywhere,
                force=True,
                compare=False,
            )
            parts = range(0, len(held_out.labels), 500)
            scores = np.concatenate(
                [chip.infer(name, {spec.name: held_out.tensors[at : at + 500]}).outputs[output] for at in parts]
            )
            right = scores.argmax(axis=1) == held_out.labels
            found[label] = {
                "right": np.packbits(right).tobytes().hex(),
                "accuracy": float(right.mean()),
                "error": relative_error(scores, digital),
                "seconds": outcome.duration_s,
            }
            chip.rollback(name)
    return found


def table(results: list[dict[str, Any]], age: str, digital: float) -> list[str]:
    """Markdown: accuracy, difference to the first candidate and error, means ± standard errors over chips."""
    of_age = [each["candidates"] for each in results if each["age"] == age]
    reference = next(iter(CANDIDATES))
    lines = [
        f"{age}, digital {100 * digital:.2f} %, {len(of_age)} chips",
        "",
        "| | accuracy | against the first line, points | error | against the first line | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for label in CANDIDATES:
        both = [(each[label], each[reference]) for each in of_age if label in each and reference in each]
        if not both:
            continue
        points = np.array([100 * (mine["accuracy"] - first["accuracy"]) for mine, first in both])
        errors = np.array([mine["error"] - first["error"] for mine, first in both])
        chips = "" if len(both) == len(of_age) else f" ({len(both)} chips)"
        lines.append(
            f"| {label}{chips} | {100 * np.mean([mine['accuracy'] for mine, _ in both]):.2f} % | {_spread(points, 2)} "
            f"| {np.mean([mine['error'] for mine, _ in both]):.4f} | {_spread(errors, 4)} "
            f"| {np.mean([mine['seconds'] for mine, _ in both]):.1f} |"
        )
    return lines


def _spread(values: NDArray[np.float64], digits: int) -> str:
    if not values.any():
        return ""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{values.mean():+.{digits}f} ± {error:.{digits}f}"


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.science.recalibration", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10")
    parser.add_argument("--models", type=Path, default=EXAMPLE / "models", help="folder with NAME.pt or NAME.onnx")
    parser.add_argument("--network", default=TRAINED, help="NAME")
    parser.add_argument("--source", type=Path, default=EXAMPLE / "network.py", help="Python file with load(path)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "recalibration", help="what is measured")
    parser.add_argument("--ages", default="25s,1d,1y")
    parser.add_argument("--chips", type=int, default=10, help="seeds from 0")
    parser.add_argument("--samples", type=int, default=2000, help="held-out pictures")
    parser.add_argument("--only", action="append", default=[], help="candidates, with * as in file names")
    options = parser.parse_args(given)

    from pcmedge import compile as compile_image
    from pcmedge.compiler import digital_statistics
    from pcmedge.compiler.pipeline import input_meter

    pictures.prepare(options.data, options.work, {"held-out"}, FULL)
    network = networks.find(options.models, options.source, options.work)[0][options.network]
    calibration = pictures.load(options.work, pictures.CALIBRATION).tensors
    held_out = pictures.load(options.work, "held-out", options.samples)
    path = options.work / f"{options.network}-{network.sha256[:12]}.pcmi"
    if not path.exists():
        ranges = calibration[:RANGE_PICTURES]
        compile_image(
            str(network.path), calibration=ranges, name="resnet32", buffer="synthetic", buffer_samples=64
        ).save(path)
    image = ChipImage.open(path)
    digital = _digital_scores(network, held_out)
    wanted = {
        label: each
        for label, each in CANDIDATES.items()
        if not options.only or any(fnmatch.fnmatch(label, pattern) for pattern in options.only)
    }
    needed = buffers(image, calibration, {each.buffer for each in wanted.values() if each.buffer})
    samples = {name: (tensors, digital_statistics(image, tensors)) for name, tensors in needed.items()}
    results = []
    for seed in range(options.chips):
        for age in options.ages.split(","):
            key = hashlib.sha256(f"{network.sha256} {held_out.sha256}".encode()).hexdigest()[:12]
            store = options.work / "results" / f"{key}-{seed}-{age}.json"
            known: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
            for same_read in (False, True):
                missing = {k: v for k, v in wanted.items() if k not in known and v.same_read == same_read}
                if missing:
                    known |= measure(image, held_out, digital, samples, missing, seed, parse_duration(age), same_read)
                    text = json.dumps(known)
                    write_whole(store, lambda temporary, text=text: temporary.write_text(text))
            results.append({"seed": seed, "age": age, "candidates": known})
            print(f"chip {seed}, {age}: done", flush=True)
    accuracy = float((digital.argmax(axis=1) == held_out.labels).mean())
    print("\n| buffer | coverage |\n|---|---|")
    meter = input_meter(str(network.path), calibration[:RANGE_PICTURES])
    for name, tensors in needed.items():
        print(f"| {name} | {meter.coverage(meter.means({image.manifest.model.inputs[0].name: tensors})):.1%} |")
    print(f"\n{len(held_out.labels)} held-out pictures")
    for age in options.ages.split(","):
        print("\n".join(["", *table(results, age, accuracy)]))


def _digital_scores(network: networks.Network, held_out: pictures.Pictures) -> Tensors:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network.path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = range(0, len(held_out.labels), 250)
    return np.concatenate([session.run(None, {name: held_out.tensors[at : at + 250]})[0] for at in parts])


if __name__ == "__main__":
    main()
