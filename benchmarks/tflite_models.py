"""Published .tflite models on the chip: python -m benchmarks.tflite_models MODEL.tflite ... --data PATH

For CIFAR-10 classifiers such as those of MLPerf Tiny (float: pixels 0 to 255; 8 bits: the codes of those pixels). First
with every analog effect off, against the TFLite runtime: outputs and accuracy. Then on emulated chips, fresh and after
a day, with each way of compensating drift. Needs the extras emulator, data and tflite.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

import numpy as np
import pcmedge
from pcmedge.data import load_cifar10
from pcmedge.drift import DriftPlan, run_study

Array = np.ndarray[Any, Any]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tflite_models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help=".tflite files of CIFAR-10 classifiers")
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="CIFAR-10, as pcmedge.data reads it")
    parser.add_argument("--samples", type=int, default=5000, help="test pictures (default 5000)")
    parser.add_argument("--drift-samples", type=int, default=1000, help="test pictures on each chip (default 1000)")
    parser.add_argument("--calibration", type=int, default=256, help="training pictures for the compiler (default 256)")
    parser.add_argument("--chips", type=int, default=10, help="0: every effect off only")
    parser.add_argument("--ages", default="25s,1d", help="ages of the chips (default 25s,1d)")
    parser.add_argument("--scaling", choices=("column", "layer"), default="column")
    parser.add_argument("--targets", choices=("int16", "float32"), default="int16", help="as of pcmedge.compile")
    parser.add_argument("--physics", default="pcm-90nm")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result as JSON")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of tables")
    return parser.parse_args(given)


class Runtime:
    """The TFLite runtime, a picture at a time."""

    def __init__(self, model: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._runtime = Interpreter(str(model), num_threads=1)
        self._runtime.allocate_tensors()
        self._input = self._runtime.get_input_details()[0]
        self._output = self._runtime.get_output_details()[0]

    def inputs(self, pictures: Array) -> Array:
        """uint8 pictures NHWC as the model takes them: pixel values, in codes if it is quantised."""
        kind = self._input["dtype"]
        if np.issubdtype(kind, np.floating):
            return pictures.astype(kind)
        scale, zero = self._input["quantization"]
        info = np.iinfo(kind)
        return np.clip(np.rint(pictures / scale) + zero, info.min, info.max).astype(kind)

    def answers(self, inputs: Array) -> Array:
        found = []
        for start in range(len(inputs)):
            self._runtime.set_tensor(self._input["index"], inputs[start : start + 1])
            self._runtime.invoke()
            found.append(self._runtime.get_tensor(self._output["index"])[0].copy())
        return np.stack(found)


def measure(model: Path, options: argparse.Namespace, train: Array, test: Array, labels: Array) -> dict[str, Any]:
    """Everything about one model, as a JSON document."""
    runtime = Runtime(model)
    inputs = runtime.inputs(test)
    calibration = runtime.inputs(train)
    expected = runtime.answers(inputs)
    found: dict[str, Any] = {"model": model.name, "samples": len(test), "runtime_accuracy": _share(expected, labels)}
    image = pcmedge.compile(model, calibration=calibration, scaling=options.scaling, targets=options.targets)
    found["targets"] = options.targets
    found["scaling"], found["ideal"] = options.scaling, _ideal(image, inputs, expected, labels)
    if not options.chips:
        return found
    count = options.drift_samples
    plan = DriftPlan(
        ages_s=tuple(options.ages.split(",")),
        chips=options.chips,
        physics=options.physics,
        modes=("none", "gdc", "adabs-paired"),
    )
    study = run_study(image, inputs[:count], labels[:count], plan=plan, workers=options.workers)
    found["drift_samples"], found["chips"], found["physics"] = count, options.chips, options.physics
    found["digital_accuracy"] = study.rows[0].digital_accuracy
    found["drift"] = [
        {
            "age_s": each.age_s,
            "mode": each.mode,
            "accuracy": each.accuracy_mean,
            "standard_error": each.accuracy_stderr,
            "drop": study.rows[0].digital_accuracy - each.accuracy_mean,
        }
        for each in study.summary()
    ]
    return found


def _ideal(image: Any, inputs: Array, expected: Array, labels: Array) -> dict[str, Any]:
    with pcmedge.Emulator(image, physics="ideal", converters="ideal", read_noise="off") as device:
        answers = np.concatenate([device.infer(part) for part in np.array_split(inputs, max(1, len(inputs) // 256))])
    difference = np.abs(answers.astype(np.float64) - expected.astype(np.float64))
    found = {
        "accuracy": _share(answers, labels),
        "largest_difference": float(difference.max()),
        "same_class": float(np.mean(answers.argmax(1) == expected.argmax(1))),
    }
    if expected.dtype.kind in "iu":
        found["within_two_codes"] = float(np.mean(difference <= 2))
    return found


def _share(scores: Array, labels: Array) -> float:
    return float(np.mean(scores.argmax(axis=1) == labels))


def report(results: Sequence[dict[str, Any]]) -> str:
    lines: list[str] = []
    for each in results:
        lines += [
            f"{each['model']}: TFLite runtime {each['runtime_accuracy']:.2%} of {each['samples']} pictures",
            f"  every effect off, scaling {each['scaling']}, {each['targets']} targets: {each['ideal']}",
        ]
        if "drift" not in each:
            continue
        lines += [
            f"  {each['chips']} chips of {each['physics']}, {each['drift_samples']} pictures, digital "
            f"{each['digital_accuracy']:.2%}",
            "  | age | mode | accuracy | drop |",
            "  |---|---|---|---|",
        ]
        lines += [
            f"  | {row['age_s']:g} s | {row['mode']} | {row['accuracy']:.2%} ± {row['standard_error']:.2%} | "
            f"{row['drop'] * 100:+.2f} points |"
            for row in each["drift"]
        ]
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    test, train = load_cifar10(options.data, "test"), load_cifar10(options.data, "train")
    pictures, labels = test.pictures[: options.samples], test.labels[: options.samples]
    results = [
        measure(model, options, train.pictures[: options.calibration], pictures, labels) for model in options.models
    ]
    text = json.dumps(results, indent=2)
    if options.output:
        options.output.write_text(text + "\n")
    print(text if options.json else report(results))


if __name__ == "__main__":
    main()
