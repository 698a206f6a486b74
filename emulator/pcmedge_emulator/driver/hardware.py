"""What a vendor writes: the few verbs in which one chip differs from another.

Everything else the device contract asks of a chip (leases, request ids, generations, operations, the journal, what
survives a restart, the guard before a commit, rollback, telemetry) is :class:`pcmedge_emulator.driver.DrivenChip`'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.errors import UnimplementedError
from pcmedge.image import ChipImage

from pcmedge_emulator.outcomes import Method, TileProgramming, TileReadout

Arrays = Mapping[str, NDArray[Any]]
Step = Callable[[int, int], None]
"""Called with (done, total); raises CancelledError if the work is to stop."""

AS_PROGRAMMED: Arrays = {}
"""The compensation of a model that was never recalibrated: factors 1, statistics of the image."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """Who the hardware is. ``profile``: geometry and converters; images for another one are refused.

    ``image_features``: of chip images, those it can do (docs/image-format.md). ``methods``: of recalibration, the
    first being the default; none if it cannot measure. ``reads_tiles``: :meth:`Hardware.read_tile` is there.
    """

    vendor: str
    product: str
    serial: str
    firmware_version: str
    technology: str
    profile: ChipProfile
    image_features: tuple[str, ...] = ("pcm-analog-1",)
    methods: tuple[Method, ...] = ()
    reads_tiles: bool = False
    emulated: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Outputs of a batch, and whether products were noisy."""

    outputs: Arrays
    noise: bool = True


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a recalibration found. ``compensation``: the arrays that :meth:`Hardware.infer` is to be given from now on.

    ``median_drift_factor``: 1 right after programming. ``mean_shift``: as in RecalibrationResult.
    """

    compensation: Arrays = field(default_factory=dict)
    median_drift_factor: float = 1.0
    mean_shift: float = 0.0
    reads: int = 1


class Hardware(ABC):
    """One chip. ``infer`` may be called by many threads at once, beside any other verb; the others one at a time."""

    @abstractmethod
    def describe(self) -> Description:
        """The same at every call."""

    @abstractmethod
    def check(self, image: ChipImage) -> None:
        """Raises an ImageError if this chip cannot run an image whose profile and features fit. Touches no tile."""

    @abstractmethod
    def program(self, image: ChipImage, tiles: tuple[int, ...], step: Step) -> tuple[TileProgramming, ...]:
        """Writes the image's targets: logical tile i onto physical tile ``tiles[i]``; nothing else is touched.

        Call ``step`` after each tile. Whatever is raised, the tiles count as free again.
        """

    @abstractmethod
    def load(self, image: ChipImage, tiles: tuple[int, ...]) -> Any:
        """Whatever :meth:`infer` needs of an image that lies on these tiles; after programming, and after a restart."""

    @abstractmethod
    def infer(self, loaded: Any, inputs: Arrays, compensation: Arrays) -> Answer:
        """Runs a batch (axis 0; checked against the image) with factors and statistics of one set."""

    def measure(self, loaded: Any, method: Method, compensation: Arrays, buffer: Arrays, step: Step) -> Measurement:
        """Measures drift and says how to compensate it. ``buffer``: calibration samples by input, empty if none.

        Changes nothing: the chip asks the self-test whether the measurement is better than ``compensation``, which is
        in force, and only then uses it.
        """
        raise UnimplementedError("this chip does not recalibrate", capability="recalibrate")

    def release(self, tiles: tuple[int, ...]) -> None:  # noqa: B027
        """These tiles are free: an image on them was erased or replaced, or its programming failed."""

    def read_tile(self, loaded: Any, tile: int) -> TileReadout:
        """Conductances of a physical tile, for diagnosis."""
        raise UnimplementedError("this chip does not read tiles back", capability="tile.read")

    def memory_bytes(self) -> int:
        """For telemetry; 0 if not known."""
        return 0

    def close(self) -> None:  # noqa: B027
        """The service is over; conductances stay."""
