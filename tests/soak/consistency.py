"""Whether answers were computed from the one set of statistics they name: decided by what they say, not by the name.

Without noise of each product, equal inputs, conductances of one age and one set of statistics give equal outputs, bit
by bit. So all answers that name the same generations and age must be equal, in every sample: one computed from another
set, or from two, is not. And statistics come from two calibration buffers in turn, whose outputs lie apart: what
answers say of a generation must be on the side of the buffer it was measured on, as the journal tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """``mixed``: answers with a sample unlike what the others of their group say. ``wrong_set``: answers whose group
    lies on the side of the other buffer. ``groups``: of equal generations and age. ``compared``: answers whose group
    has others. ``margin``: the least distance of a group from the middle between both sides, over half of what they are
    apart; 1 is typical, below 0 is wrong.
    """

    answers: int
    compared: int
    groups: int
    generations: int
    mixed: int
    wrong_set: int
    margin: float


def judge(
    named: NDArray[np.float64], outputs: NDArray[np.float32], sides: Mapping[int, int], *, repeats: int
) -> Consistency:
    """``named`` [answers, 3]: program generation, statistics generation, age. ``outputs`` [answers, samples, values],
    in which the samples come ``repeats`` times over. ``sides``: +1 or -1 for each statistics generation whose buffer is
    known.
    """
    _, group_of, sizes = np.unique(named, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(group_of.ravel(), kind="stable")
    mixed = 0
    references: list[NDArray[np.float32]] = []
    statistics: list[int] = []
    for members in np.split(order, np.cumsum(sizes)[:-1]):
        said = outputs[members]
        reference = _most_common(said)
        single = reference[: len(reference) // repeats]
        equal = (said == np.tile(single, (repeats, 1))).all(axis=(1, 2))
        mixed += int((~equal).sum())
        references.append(single)
        statistics.append(int(named[members[0], 1]))
    margins = _margins(np.array(references), np.array([sides.get(each, 0) for each in statistics]))
    wrong = int(sum(size for size, margin in zip(sizes, margins, strict=True) if margin <= 0.0))
    return Consistency(
        answers=len(outputs),
        compared=int(sizes[sizes > 1].sum()),
        groups=len(sizes),
        generations=len(set(statistics)),
        mixed=mixed,
        wrong_set=wrong,
        margin=float(np.min(margins, initial=np.inf)),
    )


def _most_common(said: NDArray[np.float32]) -> NDArray[np.float32]:
    distinct, counts = np.unique(said.reshape(len(said), -1), axis=0, return_counts=True)
    found: NDArray[np.float32] = distinct[counts.argmax()].reshape(said.shape[1:])
    return found


def _margins(references: NDArray[np.float32], sides: NDArray[Any]) -> NDArray[np.float64]:
    """How far each group is on its own side, in halves of the distance between both; 1 where the side is unknown."""
    flat = references.reshape(len(references), -1).astype(np.float64)
    if not ((sides > 0).any() and (sides < 0).any()):
        return np.ones(len(flat))
    plus, minus = flat[sides > 0].mean(axis=0), flat[sides < 0].mean(axis=0)
    half = (plus - minus) / 2
    along = (flat - (plus + minus) / 2) @ half / (half @ half)
    return np.where(sides == 0, 1.0, along * sides)
