"""A chip that is not the emulator: it computes an image's program digitally, without noise and without drift.

It stands where a vendor's driver stands: about a hundred lines between the SDK's bookkeeping and whatever reaches the
silicon (a PCIe mailbox, SPI, a file). Here that is ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from lowering import Norm, plain
from pcmedge.image import ChipImage
from pcmedge.image.profiles import get_profile
from pcmedge_emulator.driver import Answer, Description, Hardware, Measurement
from pcmedge_emulator.outcomes import Method, TileProgramming


@dataclass(frozen=True)
class Loaded:
    """An image that is on the chip: a session, the names of its outputs, and its batch norms."""

    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]
    norms: tuple[Norm, ...]


class DigitalChip(Hardware):
    """Sixty-four tiles of 256 x 256 that are exact. ``serial`` tells one from another."""

    def __init__(self, serial: str = "digital-0", profile: str = "hermes-256x256") -> None:
        self._serial = serial
        self._profile = get_profile(profile)

    def describe(self) -> Description:
        return Description(
            vendor="example",
            product="digital chip",
            serial=self._serial,
            firmware_version="1.0",
            technology="digital",
            profile=self._profile,
            image_features=("pcm-analog-1", "synthetic-buffer-1", "synthetic-buffer-2"),
            methods=(Method.ADABS, Method.GDC),
        )

    def check(self, image: ChipImage) -> None:
        plain(image)

    def program(self, image: ChipImage, tiles: tuple[int, ...], step: Any) -> tuple[TileProgramming, ...]:
        """Here a driver writes targets to the chip: int16 or float32 [groups, rows, columns] of each logical tile."""
        reports = []
        for number, (tile, physical) in enumerate(zip(image.tiles(), tiles, strict=True), 1):
            image.target(tile)
            reports.append(
                TileProgramming(tile=physical, layer=tile.layer, converged_fraction=1.0, rms_error_microsiemens=0.0)
            )
            step(number, len(tiles))
        return tuple(reports)

    def load(self, image: ChipImage, tiles: tuple[int, ...]) -> Loaded:
        model, norms = plain(image)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Loaded(session, tuple(spec.name for spec in image.manifest.model.outputs), norms)

    def infer(self, loaded: Loaded, inputs: Any, compensation: Any) -> Answer:
        values = loaded.session.run(list(loaded.outputs), {**inputs, **_statistics(loaded, compensation)})
        return Answer(outputs=dict(zip(loaded.outputs, values, strict=True)), noise=False)

    def measure(self, loaded: Loaded, method: Method, compensation: Any, buffer: Any, step: Any) -> Measurement:
        """Nothing drifts, so GDC finds factors of 1; adaptive statistics are those of the buffer, layer after layer."""
        if method is Method.GDC or not buffer:
            return Measurement()
        found: dict[str, Any] = {}
        for number, norm in enumerate(loaded.norms, 1):
            (read,) = loaded.session.run([norm.reads], {**buffer, **_statistics(loaded, found)})
            axes = (0, *range(2, read.ndim))
            found[f"{norm.node}:mean"] = read.mean(axis=axes).astype(np.float32)
            found[f"{norm.node}:variance"] = read.var(axis=axes).astype(np.float32)
            step(number, len(loaded.norms))
        return Measurement(compensation=found)


def _statistics(loaded: Loaded, compensation: Any) -> dict[str, Any]:
    """Mean and variance of every batch norm: those measured, else those of the image."""
    statistics = {f"{norm.node}:mean": norm.mean for norm in loaded.norms}
    statistics |= {f"{norm.node}:variance": norm.variance for norm in loaded.norms}
    return {**statistics, **compensation}
