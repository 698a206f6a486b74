"""Verbs that break and mend the emulated silicon. What a fault does to a tile is ``crossbar/faults.py``'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pcmedge.errors import DeviceStateError

from pcmedge_emulator.fault_checks import checked_together, told
from pcmedge_emulator.findings import Findings
from pcmedge_emulator.injected import Fault
from pcmedge_emulator.lab import refresh_all
from pcmedge_emulator.outcomes import Mutation
from pcmedge_emulator.records import DeviceRecord
from pcmedge_emulator.state import State


@dataclass(frozen=True, kw_only=True)
class FaultsOutcome:
    """All faults there are, in the order they were injected."""

    faults: tuple[Fault, ...]


def inject(state: State, faults: Sequence[Fault], mutation: Mutation) -> FaultsOutcome:
    """Breaks the silicon now, whatever is programmed on it; all of ``faults`` or, if one cannot be, none."""
    with state.busy(""):
        profile = state.profile
        if profile is None:
            raise DeviceStateError(
                "This chip has no tiles to break yet: it takes the profile of its first image. Program an image, or "
                "start it with a profile."
            )
        device = state.device
        checked_together(faults, device, profile)
        numbered = tuple(
            replace(fault, number=device.faults_injected + number) for number, fault in enumerate(faults, start=1)
        )
        changed = replace(
            device, faults=device.faults + numbered, faults_injected=device.faults_injected + len(numbered)
        )
        message = f"Faults injected: {len(faults)}, on {told(faults)}." if faults else "Faults injected: none."
        return _change(state, changed, "faults-injected", message, "inject-faults", mutation)


def clear(state: State, tiles: Sequence[int], mutation: Mutation) -> FaultsOutcome:
    """Mends the named tiles (none named: all), and takes them back into use if they were retired."""
    with state.busy(""):
        device, chosen = state.device, set(tiles)
        kept = tuple(fault for fault in device.faults if chosen and fault.tile not in chosen)
        retired = tuple(tile for tile in device.retired if chosen and tile not in chosen)
        message = f"Faults cleared: {len(device.faults) - len(kept)}, left: {len(kept)}."
        changed = replace(device, faults=kept, retired=retired)
        findings = state.findings.without(tiles)
        return _change(state, changed, "faults-cleared", message, "clear-faults", mutation, findings)


def _change(
    state: State,
    device: DeviceRecord,
    kind: str,
    message: str,
    verb: str,
    mutation: Mutation,
    findings: Findings | None = None,
) -> FaultsOutcome:
    outcome = FaultsOutcome(faults=device.faults)
    findings = state.findings if findings is None else findings
    state.commit(findings.write, events=[state.event(kind, message)], device=device, remember=(mutation, verb, outcome))
    state.set_findings(findings)
    state.set_faults(device)
    refresh_all(state, force=True)
    return outcome
