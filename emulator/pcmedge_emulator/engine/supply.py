"""Read noise for the session runs of one engine: how much each takes, and from where in the bank."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from pcmedge_emulator.engine.lowering import Lowered
from pcmedge_emulator.engine.noise import NoiseCursor, NoisePlan, bank_size, gaussian_bank
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.session import Opener, Shapes

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


# Shapes follow from program and inputs, not from conductances: a chip that ages takes a new engine at every step, and
# none but the first opens the session that tells them.
_shapes: WeakKeyDictionary[ChipProgram, dict[object, Shapes]] = WeakKeyDictionary()
_lock = threading.Lock()


class NoiseSupply:
    """Plans and cursors for one engine; safe to use from several threads. ``limit``: the largest bank allowed."""

    def __init__(self, opener: Opener, limit: int | None) -> None:
        self._opener, self._limit = opener, limit
        self._plans: dict[object, NoisePlan] = {}

    def cursor(
        self, checked: Mapping[str, Array], batch: int, at_once: int, seed: int | np.random.Generator | None
    ) -> NoiseCursor:
        """A walk through a bank that fits, for a call of ``batch`` samples, at least ``at_once`` in one run.

        Raises :class:`pcmedge.errors.InputShapeError` if no bank that is allowed holds what one run takes.
        """
        sample, run = self.plan(checked, 1).total, self.plan(checked, at_once)
        bank = gaussian_bank(bank_size(sample, run.total, batch, self._limit, run.largest))
        return NoiseCursor(bank, np.random.default_rng(seed), sample * batch)

    def most_at_once(self, checked: Mapping[str, Array], cursor: NoiseCursor) -> int:
        """Samples one run may have: at most half the bank, so that a run at its front has places to start from."""
        return max(1, cursor.size // max(1, 2 * self.plan(checked, 1).total))

    def plan(self, checked: Mapping[str, Array], batch: int) -> NoisePlan:
        """What a run of ``batch`` samples takes; linear in the batch, found from one and two samples."""
        signature = tuple((name, values.shape[1:]) for name, values in checked.items())
        plan = self._plans.get((signature, batch))
        if plan is None:
            found, planes = self._shapes(signature, checked)
            shapes = [tuple(a + (batch - 1) * (b - a) for a, b in zip(one, two, strict=True)) for one, two in found]
            plan = NoisePlan.of(shapes, planes)
            self._plans[signature, batch] = plan
        return plan

    def _shapes(self, signature: object, checked: Mapping[str, Array]) -> Shapes:
        with _lock:
            known = _shapes.setdefault(self._opener.program, {})
        key = (signature, self._opener.kind)
        if key not in known:
            known[key] = self._opener.noise_shapes(checked)
        return known[key]

    def feed(
        self, lowered: Lowered, cursor: NoiseCursor, checked: Mapping[str, Array], batch: int
    ) -> dict[str, FloatArray]:
        """The noise inputs of one session run."""
        plan = self.plan(checked, batch)
        numbers = zip((noise.gaussian for noise in lowered.noise), cursor.slices(plan), strict=True)
        signs = zip((noise.signs for noise in lowered.noise), cursor.signs(plan), strict=True)
        return dict(numbers) | dict(signs)
