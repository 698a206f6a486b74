"""The measured tables of docs/: ``python benchmarks/tables.py weighting`` (or another name) prints one again.

============ ==================== ========================================================================
weighting    docs/calibration.md  error of the drift factor, by how the read-out is weighted (10 s)
modes        docs/calibration.md  the bundled network after a year, by way of compensation (1 min)
guard        docs/calibration.md  how often the guard refuses, and what its answers are worth (2 min)
own_buffer   docs/calibration.md  what an image knows of the digital statistics of other samples (30 s)
ranges       docs/compiler.md     the bundled network after a year, by converter bits and ranges (1 min)
faults       docs/device.md       the bundled network with stuck devices, before and after repair (2 min)
field        docs/drift-studies.md the bundled network in the field, with and without repair (5 min)
statistics   docs/training.md     what batch norm's running statistics of noisy training cost (2 min, ``train`` extra)
============ ==================== ========================================================================

Everything is seeded. Numbers move by their standard errors when a random stream does, and in the last digit from one
kind of CPU to another.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pcmedge import compile as compile_image
from pcmedge.demo.digits import MODEL_FILE, Pictures, load_digits
from pcmedge.demo.run import CALIBRATION_SAMPLES, compile_digits
from pcmedge.device import Device
from pcmedge.drift import DriftPlan, run_study
from pcmedge.image import ChipImage
from pcmedge.image.profiles import profile

YEAR_S = 365 * 86400.0
Statistics = dict[str, tuple[np.ndarray, np.ndarray]]


def _outliers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(rng.random(shape) < 0.001, 1.0, np.clip(rng.normal(0, 0.03, shape), -1, 1))


def _sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(rng.random(shape) < 0.02, np.clip(rng.normal(0, 0.4, shape), -1, 1), 0)


WEIGHTS: dict[str, tuple[tuple[int, ...], Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]]] = {
    "normal, sigma 0.4, clipped at 1": ((1, 256, 64), lambda rng, s: np.clip(rng.normal(0, 0.4, s), -1, 1)),
    "Laplace, mean |t| 0.08": ((1, 128, 64), lambda rng, s: np.clip(rng.laplace(0, 0.08, s), -1, 1)),
    "2 % of the cells not 0": ((1, 128, 64), _sparse),
    "normal, sigma 0.03, 0.1 % at 1": ((1, 256, 64), _outliers),
}


def weighting() -> None:
    for kind, (shape, draw) in WEIGHTS.items():
        for name in ("pcm-90nm", "pcm-14nm"):
            targets = [np.rint(32767 * draw(np.random.default_rng(chip), shape)) for chip in range(6)]
            errors = [_factor_errors(target.astype(np.int16), chip, name) for chip, target in enumerate(targets)]
            mean, error = np.mean(errors, 0), np.std(errors, 0, ddof=1) / np.sqrt(len(errors))
            cells = " | ".join(f"{100 * m:+.1f} ± {100 * e:.1f} %" for m, e in zip(mean, error, strict=True))
            print(f"| {kind} | {name} | {cells} |")


def _factor_errors(target: np.ndarray, chip: int, name: str) -> list[float]:
    """Error of the factor after a year with all cells, with the counted ones, and weighted."""
    from pcmedge_emulator.calibration.gdc import cell_weights, compensation, counted_cells, probe
    from pcmedge_emulator.crossbar import conductances, net, program_tile
    from pcmedge_emulator.physics import get_technology, stream

    technology = get_technology(name)
    g_max = technology.g_max_microsiemens
    devices, _ = program_tile(target, g_max, technology, stream("tables", chip, "program"))

    def realisation(purpose: str, age_s: float) -> tuple[np.ndarray, np.ndarray]:
        return conductances(devices, age_s, technology, stream("tables", chip, purpose, int(age_s)))

    slopes = [
        float((target / 32767 * net(*realisation("inference", age_s), g_max).astype(np.float64)).sum())
        for age_s in (0.0, YEAR_S)
    ]
    found = []
    for weights in (np.ones(target.shape, np.bool_), counted_cells(target), cell_weights(target)):
        reads = [
            probe(
                *realisation("recalibration", age_s),
                g_max,
                weights,
                technology,
                dac_levels=255,
                adc_bits=8,
                rng=stream("tables", chip, "products", int(age_s)),
            )
            for age_s in (0.0, YEAR_S)
        ]
        found.append(float(compensation(*reads)) * slopes[1] / slopes[0] - 1)
    return found


def _study(image: ChipImage, *, chips: int = 5, realisations: int = 3, **plan: object) -> None:
    test = load_digits().test
    study = run_study(
        image, test.tensors, test.labels, plan=DriftPlan(chips=chips, realisations=realisations, **plan), workers=1
    )
    for one in study.summary():
        mean, error, digital = (
            100 * share for share in (one.accuracy_mean, one.accuracy_stderr or 0, one.digital_accuracy)
        )
        print(f"| {one.age_s:.0f} s | {one.mode} | {mean:.1f} ± {error:.1f} % | digital {digital:.2f} % |")


def modes() -> None:
    image, everything = compile_digits(load_digits()), ("none", "gdc", "gdc-per-column", "adabs", "adabs-paired")
    print(f"{len(image.tiles())} tiles")
    _study(image, ages_s=(0.0,), modes=("none",))
    _study(image, ages_s=("1y",), modes=everything)
    print("measured on inference's own read noise:")
    _study(image, ages_s=("1y",), modes=("adabs", "adabs-paired"), same_read=True)
    calibration = load_digits().train.tensors[:CALIBRATION_SAMPLES]
    synthetic = compile_image(str(MODEL_FILE), calibration=calibration, name="digits", buffer="synthetic")
    made = synthetic.manifest.calibration_buffer
    print(f"{made.samples} synthetic samples of {made.generator}, coverage {made.coverage:.1%}:")
    _study(synthetic, ages_s=("1y",), modes=("adabs-paired",))


def guard() -> None:
    from pcmedge_emulator.calibration.policy import MANUAL
    from pcmedge_emulator.chip import Chip
    from pcmedge_emulator.clock import Clock

    digits = load_digits()
    image, test, train = compile_digits(digits), digits.test, digits.train
    name, wanted = image.manifest.model.inputs[0].name, image.manifest.application.class_output
    zeros = train.tensors[train.labels == 0][:64]
    pictures = train.tensors[:64]
    buffers: dict[str, np.ndarray | None] = {
        "the image's (paired)": None,
        "64 of the application's": train.tensors[300:364],
        "16 of them": train.tensors[300:316],
        "one digit only": zeros,
        "0.7 times as dark": 0.7 * pictures,
        "0.3 times as dark": 0.3 * pictures,
        "inverted": 1 - pictures,
        "noise": np.random.default_rng(0).random(pictures.shape, np.float32),
    }

    def accuracy(chip: Chip) -> float:
        scores = [chip.infer(image.name, {name: test.tensors}).outputs[wanted] for _ in range(2)]
        return float(np.mean([found.argmax(1) == test.labels for found in scores]))

    for label, samples in buffers.items():
        for first_s, then_s in ((0.0, 0.0), (0.0, YEAR_S), (86400.0, YEAR_S)):
            refused, taken, left = 0, [], []
            chips = 10
            for seed in range(100, 100 + chips):
                with Chip(clock=Clock.manual(), default_policy=MANUAL, seed=seed) as chip:
                    chip.program(image)
                    chip.advance(first_s)
                    if first_s:
                        chip.recalibrate(image.name, force=True)
                    chip.advance(then_s - first_s)
                    before = accuracy(chip)
                    if samples is not None:
                        chip.replace_buffer(image.name, {name: samples.astype(np.float32)})
                    committed = chip.recalibrate(image.name).committed
                    if not committed:
                        chip.recalibrate(image.name, force=True)
                    refused += not committed
                    (taken if committed else left).append(100 * (accuracy(chip) - before))
            said = [f"{np.mean(v):+.1f} ({np.min(v):+.1f} .. {np.max(v):+.1f})" if v else "-" for v in (taken, left)]
            state = "fresh" if not then_s else "a year, never recalibrated" if not first_s else "a year, once at a day"
            print(f"| {label} | {state} | {refused} of {chips} | {said[0]} | {said[1]} |")


def own_buffer() -> None:
    """The compiler's statistics of 100 samples against those measured on an image, by how far weights are clipped."""
    from pcmedge import compile as compile_image
    from pcmedge.compiler import digital_statistics

    digits = load_digits()
    rest, own = digits.train.tensors[:-100], digits.train.tensors[-100:]
    for clip_sigma in (None, 2.0, 1.5, 1.0):
        made = [
            compile_image(str(MODEL_FILE), calibration=rest, name="digits", clip_sigma=clip_sigma, buffer=buffer)
            for buffer in ("calibration", None, own)
        ]
        given = made[2].reference_statistics()
        measured = {
            "compiler's": given,
            "carried over": digital_statistics(made[0], own),
            "image's weights": digital_statistics(made[1], own),
        }
        cells = [
            f"{_statistics_error(found, given):.2g}, {_recalibrated(made[0], own, found, digits.test):.1%}"
            for found in measured.values()
        ]
        print(f"| {clip_sigma or 'no'} | {' | '.join(cells)} |")


def _statistics_error(found: Statistics, given: Statistics) -> float:
    """Root mean square over all channels of the means' error in standard deviations."""
    errors = [(found[node][0] - mean) / np.sqrt(variance + 1e-12) for node, (mean, variance) in given.items()]
    return float(np.sqrt(np.square(np.concatenate(errors)).mean()))


def _recalibrated(image: ChipImage, own: np.ndarray, found: Statistics, test: Pictures) -> float:
    """Accuracy of one ideal chip after a paired recalibration with these statistics."""
    from pcmedge_emulator.calibration.policy import MANUAL
    from pcmedge_emulator.chip import Chip
    from pcmedge_emulator.clock import Clock

    name, output = image.manifest.model.inputs[0].name, image.manifest.model.outputs[0].name
    with Chip(technology="ideal", clock=Clock.manual(), default_policy=MANUAL) as chip:
        chip.program(image)
        chip.replace_buffer("digits", {name: own}, statistics=found)
        chip.recalibrate("digits", force=True)
        answers = chip.infer("digits", {name: test.tensors}).outputs[output]
    return float(np.mean(answers.argmax(axis=1) == test.labels))


def ranges() -> None:
    digits = load_digits()
    from pcmedge.compiler import compile

    for bits in (8, 6, 5, 4):
        for adc, dac in (("max", "max"), ("mse", "max"), ("mse", "mse")):
            print(f"{bits} bits, ADC {adc}, DAC {dac}")
            image = compile(
                str(MODEL_FILE),
                calibration=digits.train.tensors[:CALIBRATION_SAMPLES],
                profile=profile(dac_bits=bits, adc_bits=bits),
                adc_range=adc,
                dac_range=dac,
                name="digits",
            )
            _study(image, chips=4, realisations=1, ages_s=("1y",), modes=("gdc",))


def faults() -> None:
    """Five chips a day old, recalibrated, whose tiles under the network have stuck devices; the others are healthy."""
    from pcmedge import Emulator
    from pcmedge.device import Fault

    image, test = compile_digits(), load_digits().test
    used = len(image.tiles())
    for kind in ("stuck-at-reset", "stuck-at-g-max", "stuck-at-random"):
        for share in (0.001, 0.01, 0.03, 0.1):
            rows = []
            for seed in range(5):
                with Emulator(image, clock="manual", seed=seed) as device:

                    def right(device: Device = device) -> float:
                        return 100 * float(np.mean(np.argmax(device.infer(test.tensors), axis=1) == test.labels))

                    device.lab.advance("1d")
                    device.recalibrate()
                    healthy = right()
                    device.lab.inject_faults([Fault(kind=kind, tile=tile, amount=share) for tile in range(used)])
                    broken, retired = right(), len(device.diagnose().retired_tiles)
                    device.recalibrate()
                    recalibrated = right()
                    device.program(image)
                    device.lab.advance("1d")
                    device.recalibrate()
                    rows.append((healthy, broken, recalibrated, right(), retired))
            mean, error = np.mean(rows, 0), np.std(rows, 0, ddof=1) / np.sqrt(len(rows))
            cells = " | ".join(f"{mean[at]:.1f} ± {error[at]:.1f} %" for at in range(4))
            print(f"| {kind} | {share:.1%} | {cells} | {mean[4]:.1f} of {used} |", flush=True)


FIELD = {
    "lines and tiles": "dead-column=0.5/y,tile-lost=0.1/y",
    "a few stuck devices": "stuck-at-random=0.0002/y",
    "many stuck devices": "stuck-at-random=0.01/y",
}


def field() -> None:
    """Five chips of 48 small tiles, six of them in use, over two years; every tile wears alike, used or not."""
    from pcmedge.compiler import compile

    digits = load_digits()
    image = compile(
        str(MODEL_FILE),
        calibration=digits.train.tensors[:CALIBRATION_SAMPLES],
        profile=profile(tile_rows=192, tile_columns=32, tiles=48),
        name="digits",
    )
    for label, broken in FIELD.items():
        plan = DriftPlan(
            ages_s=("1d", "90d", "180d", "1y", "2y"), chips=5, modes=("adabs-paired",), faults=broken, repair=True
        )
        study = run_study(image, digits.test.tensors, digits.test.labels, plan=plan, workers=1)
        for age_s in plan.ages:
            cells = [
                f"{100 * one.accuracy_mean:.1f} ± {100 * (one.accuracy_stderr or 0.0):.1f} %"
                for one in study.summary()
                if one.age_s == age_s
            ]
            twins = [row for row in study.rows if row.age_s == age_s and row.mode.endswith("+repair")]
            programmings, retired = (
                np.mean([getattr(row, name) for row in twins]) for name in ("programmings", "retired_tiles")
            )
            print(
                f"| {label} | {age_s / 86400:.0f} | {' | '.join(cells)} | {programmings:.1f} | {retired:.1f} |",
                flush=True,
            )


def statistics() -> None:
    """Trains the bundled network once, and studies it with and without the last line of its training."""
    from pcmedge.demo import train_digits

    digits, update = load_digits(), train_digits.torch.optim.swa_utils.update_bn
    train_digits.torch.set_num_threads(1)
    for label, last in (("clean weights' statistics", update), ("noisy training's statistics", lambda *_: None)):
        train_digits.torch.optim.swa_utils.update_bn = last
        model = train_digits.train(digits)
        train_digits.torch.optim.swa_utils.update_bn = update
        with tempfile.TemporaryDirectory() as folder:
            train_digits.export(model, Path(folder) / "digits.onnx")
            print(label)
            _study(
                compile_digits(digits, Path(folder) / "digits.onnx"),
                ages_s=("1y",),
                modes=("gdc", "adabs", "adabs-paired"),
            )


TABLES: dict[str, Callable[[], None]] = {
    table.__name__: table for table in (weighting, modes, guard, own_buffer, ranges, faults, field, statistics)
}

if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        if wanted not in TABLES:
            sys.exit(f"expected one of {', '.join(TABLES)}; found {wanted!r}")
        TABLES[wanted]()
