"""What a drift study does, as one frozen value."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pcmedge.drift.field_faults import FieldFaults, field_faults
from pcmedge.durations import parse_duration
from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    import os

    from pcmedge_emulator.physics.technology import Technology

MODES = ("none", "gdc", "gdc-per-column", "adabs", "adabs-paired")
"""What compensates drift: nothing; one factor per tile or per column (global drift compensation, Le Gallo et al.
2018); adaptive batch-norm statistics as published (Joshi et al. 2020) or paired with the digital ones."""

REPAIRED = "+repair"
"""Behind a mode: on the twin of the chip that is repaired."""

DEFAULT_AGES: tuple[str, ...] = ("25s", "5m", "1h", "8h", "1d", "7d", "30d", "120d", "1y")


@dataclass(frozen=True, kw_only=True)
class DriftPlan:
    """Times x chips x modes x read-noise realisations.

    ``ages_s``: ages of the programmed chip, seconds or durations ("1h", "30d", "1y" = 365 d); kept sorted, in seconds.
    ``chips``: how many chips, of seeds ``first_seed``, ``first_seed + 1``, ... ``realisations``: read-noise
    realisations that inference sees at each age; compensation measures on one of its own unless ``same_read``.
    ``physics``, ``read_noise``, ``converters``, ``precision``: of the emulated chips, as ``pcmedge serve`` takes them;
    ``physics`` may also be a ``Technology`` of your own. ``batches``, ``batch_size``: AdaBS's n and m; 0 is the
    image's default. ``gdc_everywhere``: the adaptive modes apply drift factors in layers with batch norm too.
    ``micro_batch``: samples per inference. ``keep_correct``: rows say which samples were right.

    ``faults``: what breaks in the field, beside what the image's chip profile expects from the start: text or a file as
    :func:`pcmedge.drift.field_faults.field_faults` reads it, for example "stuck-at-random=0.001/y,tile-lost=0.01@180d".
    ``repair``: a twin of each chip, alike in every fault, is visited at every age: diagnosed, and programmed again
    onto other tiles as long as a diagnosis retires some and there are others. Its rows have the modes "<mode>+repair"
    and are measured right after the visit.

    A mode starts from the freshly programmed chip at every age and is committed without asking the guard, so that a
    row says what the method does and not what the guard thinks of it.
    """

    ages_s: tuple[str | float, ...] = DEFAULT_AGES
    chips: int = 5
    first_seed: int = 0
    modes: tuple[str, ...] = ("none", "gdc", "adabs-paired")
    realisations: int = 1
    physics: str | Technology = "pcm-90nm"
    read_noise: Literal["additive", "off", "input-dependent"] = "additive"
    converters: Literal["profile", "ideal"] = "profile"
    precision: Literal["exact", "turbo"] = "exact"
    same_read: bool = False
    batches: int = 0
    batch_size: int = 0
    gdc_everywhere: bool = False
    micro_batch: int = 256
    keep_correct: bool = False
    faults: FieldFaults | str | os.PathLike[str] | None = None
    repair: bool = False

    def __post_init__(self) -> None:
        ages = tuple(sorted({parse_duration(age) for age in self.ages_s}))
        object.__setattr__(self, "ages_s", ages)
        modes = tuple(dict.fromkeys(self.modes))
        object.__setattr__(self, "modes", modes)
        if self.faults is not None:
            object.__setattr__(self, "faults", field_faults(self.faults))
        unknown = [mode for mode in modes if mode not in MODES]
        if unknown or not modes:
            found = ", ".join(unknown) or "none at all"
            raise InputValueError(f"modes of a drift study are {', '.join(MODES)}; found {found}.")
        if not ages:
            raise InputValueError("A drift study needs at least one age, for instance '1d'.")
        if self.precision not in ("exact", "turbo"):
            raise InputValueError(f"precision is 'exact' or 'turbo', found {self.precision!r}.")
        for name in ("chips", "realisations", "micro_batch"):
            if getattr(self, name) < 1:
                raise InputValueError(f"{name} must be at least 1, found {getattr(self, name)}.")
        if self.first_seed < 0:
            raise InputValueError(f"first_seed must not be negative, found {self.first_seed}.")

    @property
    def ages(self) -> tuple[float, ...]:
        """Ages in seconds, ascending."""
        return tuple(float(age) for age in self.ages_s)

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.chips)

    @property
    def breaking(self) -> FieldFaults:
        """What breaks in the field; nothing if the plan does not say."""
        assert self.faults is None or isinstance(self.faults, FieldFaults)
        return self.faults or FieldFaults()

    @property
    def measured(self) -> tuple[str, ...]:
        """The modes of the rows, in their order: those of the plan, then those of the repaired twin."""
        return self.modes + tuple(mode + REPAIRED for mode in self.modes if self.repair)

    @property
    def rows(self) -> int:
        """How many rows the study makes."""
        return len(self.ages) * self.chips * len(self.measured) * self.realisations

    def to_json(self) -> str:
        """The plan as it is recorded beside the rows."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
