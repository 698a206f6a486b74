"""The lab half of the chip's face: what only an emulator can do, a verb per line of the lab contract."""

from __future__ import annotations

from collections.abc import Sequence

from pcmedge_emulator import faults, lab
from pcmedge_emulator.arguments import one_of
from pcmedge_emulator.clock import ClockMode
from pcmedge_emulator.faults import FaultsOutcome
from pcmedge_emulator.injected import Fault
from pcmedge_emulator.operations import Cancelled, never
from pcmedge_emulator.outcomes import NO_MUTATION, AdvanceOutcome, ClockReading, Mutation, SnapshotInfo
from pcmedge_emulator.state import State


class LabVerbs:
    """Moving time, the clock's mode, snapshots, noise, faults. A :class:`~pcmedge_emulator.chip.Chip` has them."""

    def __init__(self, state: State) -> None:
        self._state = state

    def clock(self) -> ClockReading:
        return self._state.clock.reading()

    def set_clock(self, mode: ClockMode | str, rate: float = 1.0, *, mutation: Mutation = NO_MUTATION) -> ClockReading:
        chosen = one_of("clock mode", mode, tuple(ClockMode))
        return self._state.once(
            mutation, "set-clock", ClockReading, lambda: lab.set_clock(self._state, chosen, rate, mutation)
        )

    def advance(
        self, by_s: float, *, cancelled: Cancelled | None = None, mutation: Mutation = NO_MUTATION
    ) -> AdvanceOutcome:
        """Moves a manual or accelerated clock forward, running on the way what the policies would have run.

        ``cancelled`` is asked before each of these (at most 256, and one more per model). CancelledError then: time
        stands at the one before, what was done stands, the metadata ``advanced_s`` says how far it got, and the
        journal has it too.
        """
        return self._state.once(
            mutation,
            "advance",
            AdvanceOutcome,
            lambda: lab.advance(self._state, by_s, cancelled or never, mutation),
        )

    def snapshot(self, name: str, *, mutation: Mutation = NO_MUTATION) -> SnapshotInfo:
        return self._state.once(mutation, "snapshot", SnapshotInfo, lambda: lab.snapshot(self._state, name, mutation))

    def restore(self, name: str, *, mutation: Mutation = NO_MUTATION) -> SnapshotInfo:
        """Every model as it was, at the age it had; device time goes on. NotFoundError for an unknown name."""
        return self._state.once(mutation, "restore", SnapshotInfo, lambda: lab.restore(self._state, name, mutation))

    def snapshots(self) -> tuple[SnapshotInfo, ...]:
        return lab.snapshots(self._state)

    def delete_snapshot(self, name: str, *, mutation: Mutation = NO_MUTATION) -> None:
        self._state.once(
            mutation, "delete-snapshot", SnapshotInfo, lambda: lab.delete_snapshot(self._state, name, mutation)
        )

    def set_noise(self, read_noise: str, *, mutation: Mutation = NO_MUTATION) -> str:
        return lab.set_noise(self._state, read_noise)

    def noise(self) -> str:
        return self._state.circuits.read_noise

    def set_read_realisation(self, realisation: int) -> None:
        """For studies: another realisation of the accumulated read noise that inference sees; 0 is the usual one."""
        lab.set_read_realisation(self._state, realisation)

    def inject_faults(self, found: Sequence[Fault], *, mutation: Mutation = NO_MUTATION) -> tuple[Fault, ...]:
        """Breaks the silicon from now on, over restarts and programmings; returns all faults there are.

        All or none: InputValueError for one this chip cannot have, DeviceStateError on a chip without a profile.
        """
        return self._state.once(
            mutation, "inject-faults", FaultsOutcome, lambda: faults.inject(self._state, found, mutation)
        ).faults

    def clear_faults(self, tiles: Sequence[int] = (), *, mutation: Mutation = NO_MUTATION) -> tuple[Fault, ...]:
        """Mends these tiles (none named: all) and ends their retirement; returns the faults that are left."""
        return self._state.once(
            mutation, "clear-faults", FaultsOutcome, lambda: faults.clear(self._state, tiles, mutation)
        ).faults

    def faults(self) -> tuple[Fault, ...]:
        return self._state.device.faults
