"""Compile the trained ResNet-32 into a chip image with nobody's pictures: ``python compile_image.py --data PATH``.

Converter ranges are chosen with 256 training pictures; what the image carries to recalibrate and to test itself with is
synthetic, made from a seed. The same weights and data give the same bytes.
"""

import argparse
import sys
from pathlib import Path

import pcmedge
import torch
from network import load
from pcmedge.data import CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD, load_cifar10, normalise
from pcmedge.errors import Error
from rich.progress import Progress

HERE = Path(__file__).parent
RANGE_PICTURES = 256
BUFFER_SAMPLES = 64


def build(weights: Path, calibration, *, progress=None) -> pcmedge.ChipImage:
    """``calibration``: uint8 pictures [N, 32, 32, 3] that converter ranges are chosen with."""
    preprocessing = {
        "input": "x", "height": 32, "width": 32, "channels": 3, "layout": "NCHW", "colour_order": "RGB",
        "scale": 1 / 255, "mean": CIFAR10_MEAN, "std": CIFAR10_STD,
    }  # fmt: skip
    return pcmedge.compile(
        load(weights),
        torch.zeros(1, 3, 32, 32),
        calibration=normalise(calibration),
        name="resnet32",
        description="ResNet-32 (16/28/56) on CIFAR-10, trained with weight noise",
        labels=CIFAR10_CLASSES,
        preprocessing=preprocessing,
        bias="row",  # as published: all 361,722 parameters on two devices each
        buffer="synthetic",
        buffer_samples=BUFFER_SAMPLES,
        reference="synthetic",
        progress=progress,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10, in a form that pcmedge.data reads")
    parser.add_argument("--weights", type=Path, default=HERE / "models" / "noise-aware.pt")
    parser.add_argument("--output", type=Path, default=HERE / "models" / "resnet32.pcmi")
    options = parser.parse_args()
    try:
        pictures = load_cifar10(options.data, "train").pictures[:RANGE_PICTURES]
        with Progress(transient=True) as bars:
            tasks = {}

            def progress(phase: str, done: int, total: int) -> None:
                if phase not in tasks:
                    tasks[phase] = bars.add_task(phase)
                bars.update(tasks[phase], completed=done, total=total)

            image = build(options.weights, pictures, progress=progress)
        image.save(options.output)
    except Error as error:
        sys.exit(error.message)
    print(f"{options.output}: {image.size:,} bytes, SHA-256 {image.sha256.hex()}")


if __name__ == "__main__":
    main()
