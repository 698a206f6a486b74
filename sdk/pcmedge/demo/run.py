"""``pcmedge demo``: compile, start an emulator, program it over gRPC, age it a year, show what happened."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pcmedge.demo.digits import INK, LABELS, MODEL_FILE, Digits, load_digits
from pcmedge.demo.emulator import emulator_process
from pcmedge.demo.result import DemoResult
from pcmedge.demo.view import QuietView, View
from pcmedge.demo.year import AGES_S, Year, live_through, program, specs
from pcmedge.drift.chip_life import digital_accuracy
from pcmedge.drift.files import results_in
from pcmedge.drift.labelled import class_output
from pcmedge.durations import parse_duration
from pcmedge.errors import InputValueError, MissingExtraError

if TYPE_CHECKING:
    from pcmedge.image import ChipImage

CALIBRATION_SAMPLES = 256
DEFAULT_OUTPUT = "pcmedge-demo"
NAME = "digits"


def run(
    output: str | os.PathLike[str] = DEFAULT_OUTPUT,
    *,
    chips: int = 5,
    seed: int = 0,
    physics: str = "pcm-90nm",
    ages: Sequence[str | float] = AGES_S,
    train: bool = False,
    view: View | None = None,
) -> DemoResult:
    """Run the demo; writes ``demo.parquet``, ``demo.png`` and the image ``digits.pcmi`` into the folder ``output``.

    ``chips``: emulated chips, of seeds ``seed``, ``seed + 1``, ...; ``physics``: their technology.
    ``ages``: when accuracy is measured, seconds or durations. ``train``: train the network again first, noise-aware
    (``train`` extra, half a minute); without it the bundled one is compiled. ``view``: where progress is drawn;
    nowhere by default. The same arguments give the same accuracies.

    Nothing is left running and no half file behind, whatever happens, Ctrl-C included. Raises MissingExtraError,
    FileUnwritableError, InputValueError, UnavailableError (the emulator's process did not come up).
    """
    if chips < 1 or seed < 0:
        raise InputValueError(f"The demo needs at least one chip and a seed from 0, found {chips} and {seed}.")
    ages_s = tuple(sorted({parse_duration(age) for age in ages}))
    if not ages_s:
        raise InputValueError("The demo needs at least one age, for instance '1y'.")
    started_s = time.monotonic()
    shown = view or QuietView()
    folder = Path(output)
    digits = load_digits()
    with results_in(folder), shown, _network(digits, train, shown) as network:
        shown.stage("compiling the network for the chip")
        image = compile_digits(digits, network)
        scores, _ = class_output(image)
        inputs = {image.manifest.model.inputs[0].name: digits.test.tensors}
        digital = digital_accuracy(image, scores, inputs, digits.test.labels, len(digits.test))
        year = Year(chips=chips, samples=len(digits.test), digital_accuracy=digital, ages_s=ages_s)
        shown.stage("starting the emulator in a process of its own")
        with emulator_process(specs(chips, seed), physics) as devices:
            shown.stage(f"programming {chips} chips over gRPC")
            program(devices, image, shown.progress)
            live_through(devices, digits.test, year, seed, lambda: shown.year(year))
        result = DemoResult.of(year, image=image, physics=physics, folder=folder, trained=train)
        shown.stage("writing the results")
        result.write(image)
        result.wall_s = time.monotonic() - started_s
        shown.done(result)
    return result


def compile_digits(digits: Digits | None = None, network: Path = MODEL_FILE) -> ChipImage:
    """The demo's chip image: converter ranges from 256 training digits, pictures in, labels out.

    Of the bundled digits and network unless others are given. Raises MissingExtraError without the emulator extra.
    """
    digits = digits or load_digits()
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "The demo") from error
    from pcmedge.compiler import compile

    return compile(
        str(network),
        calibration=digits.train.tensors[:CALIBRATION_SAMPLES],
        name=NAME,
        labels=LABELS,
        preprocessing={
            "width": 8,
            "height": 8,
            "channels": 1,
            "colour_order": "GRAY",
            "layout": "NCHW",
            "scale": 1.0 / INK,
        },
        description="Handwritten digits of 8 x 8 cells, ink counts 0 to 16; trained with weight noise.",
    )


@contextmanager
def _network(digits: Digits, train: bool, view: View) -> Iterator[Path]:
    """The bundled network, or one that was just trained."""
    if not train:
        yield MODEL_FILE
        return
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("train", "Training the demo's network again") from error
    from pcmedge.demo import train_digits

    view.stage("training the network with the chip's noise")
    with tempfile.TemporaryDirectory(prefix="pcmedge-demo-") as folder:
        path = Path(folder) / "digits.onnx"
        model = train_digits.train(digits, progress=lambda phase, done, total: view.progress(done, total))
        train_digits.export(model, path)
        yield path
