"""Devices that break rule 38: what is to be there after a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pcmedge_emulator.calibration.policy import MANUAL, Policy
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.journal import Journal
from pcmedge_emulator.resident import Resident
from pcmedge_emulator.store import Store

from wrong_devices.firmware import Firmware


class _Forgetting(Firmware):
    """Finds its models after a restart as :meth:`woken` makes them."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        if self._state.device.boots > 1:
            self.wake()

    def wake(self) -> None:
        for name in list(self._state.residents):
            self._state.swap(name, self.woken)

    def woken(self, resident: Resident) -> Resident:
        return resident


class StateLostAtRestart(_Forgetting, rules=("R38",), restarts=True):
    """Is empty after a restart: the tiles hold their conductances, and nobody knows of what."""

    def wake(self) -> None:
        self._state.install(remove=list(self._state.residents))


class ComesBackActive(_Forgetting, rules=("R38",), restarts=True):
    """Activates whatever it finds on its tiles when it starts."""

    def woken(self, resident: Resident) -> Resident:
        return replace(resident, record=replace(resident.record, active=True))


class PolicyLostAtRestart(_Forgetting, rules=("R38",), restarts=True):
    """Starts with the policy of the factory."""

    def woken(self, resident: Resident) -> Resident:
        policy = MANUAL if resident.record.policy == Policy() else Policy()
        return replace(resident, record=replace(resident.record, policy=policy))


class BufferLostAtRestart(_Forgetting, rules=("R38",), restarts=True):
    """Has the calibration buffer of the image again after a restart; the application's was in RAM."""

    def woken(self, resident: Resident) -> Resident:
        return replace(resident, buffer=None)


class BufferStatisticsLostAtRestart(_Forgetting, rules=("R38",), restarts=True):
    """Keeps the samples of a buffer, and not the statistics that came with them."""

    def woken(self, resident: Resident) -> Resident:
        buffer = resident.buffer
        return replace(resident, buffer=buffer and replace(buffer, statistics=None))


class RollbackLostAtRestart(_Forgetting, rules=("R38",), restarts=True):
    """Keeps the statistics in force, and not those before."""

    def woken(self, resident: Resident) -> Resident:
        return replace(resident, previous=None)


class StatisticsLostAtRestart(_Forgetting, rules=("R38",), restarts=True):
    """Starts with the statistics of the image, under the generation of those it lost."""

    def woken(self, resident: Resident) -> Resident:
        return replace(resident, parameters=Parameters())


class StatisticsGenerationFromZero(_Forgetting, rules=("R38",), restarts=True):
    """Keeps statistics, and counts their generations from 0 again."""

    def woken(self, resident: Resident) -> Resident:
        return replace(resident, record=replace(resident.record, statistics_generation=0))


class GenerationsOfTheResident(_Forgetting, rules=("R38", "R8"), restarts=True):
    """Takes the largest program generation it finds on its tiles for the last one: that of an image that was erased is
    given out again."""

    def wake(self) -> None:
        found = [resident.record.program_generation for resident in self._state.residents.values()]
        self._state.device = replace(self._state.device, program_generation=max(found, default=0))


class AgesFromRestart(_Forgetting, rules=("R33", "R38"), restarts=True):
    """Counts the ages of what it finds from the moment it starts."""

    def woken(self, resident: Resident) -> Resident:
        return replace(resident, record=replace(resident.record, programmed_at_s=self._state.clock.now()))


class JournalLostAtRestart(_Forgetting, rules=("R35", "R38"), restarts=True):
    """Begins a new journal at every start."""

    def wake(self) -> None:
        self._state.journal = Journal(Store(None))


class SecondImageLostAtRestart(_Forgetting, rules=("R38",), restarts=True):
    """Finds one image when it starts, the one that was programmed last."""

    def wake(self) -> None:
        by_age = sorted(self._state.residents.values(), key=lambda resident: resident.record.program_generation)
        self._state.install(remove=[resident.record.name for resident in by_age[:-1]])
