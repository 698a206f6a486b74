"""LabService: what only an emulator answers. Messages in, messages out, typed errors; no gRPC."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pcmedge._contract import lab_pb2
from pcmedge.errors import BusyError, UnimplementedError
from pcmedge.protocol.dispatch import CallContext

from pcmedge_emulator.driver.interface import LabChip
from pcmedge_emulator.outcomes import Mutation, SnapshotInfo
from pcmedge_emulator.service import messages


@dataclass(frozen=True, kw_only=True)
class SnapshotBounds:
    """Of the snapshots a device keeps: ``count``, and the ``bytes`` after which it takes no further one."""

    count: int
    bytes: int

    def check(self, name: str, kept: Sequence[SnapshotInfo]) -> None:
        """BusyError if there is no room for a snapshot of this name. One that is there already may be taken anew."""
        if name in (snapshot.name for snapshot in kept):
            return
        held = sum(snapshot.bytes for snapshot in kept)
        if len(kept) >= self.count or held >= self.bytes:
            raise BusyError(
                f"expected fewer than {self.count} snapshots and {self.bytes} bytes in them; found {len(kept)} and "
                f"{held}. Delete some, take one of them anew, or serve with larger --max-snapshots and "
                "--max-snapshot-bytes",
                max_snapshots=self.count,
                max_snapshot_bytes=self.bytes,
                snapshots=len(kept),
                bytes=held,
            )


class LabHandlers:
    """One method per call of LabService. ``bounds``: how many snapshots are kept; None for as many as are asked for."""

    def __init__(self, chip: LabChip, bounds: SnapshotBounds | None = None) -> None:
        self._chip = chip
        self._bounds = bounds
        self._taking = threading.Lock()

    def get_clock(self, request: lab_pb2.GetClockRequest, context: CallContext) -> lab_pb2.Clock:
        return messages.clock(self._chip.clock())

    def set_clock(self, request: lab_pb2.SetClockRequest, context: CallContext) -> lab_pb2.Clock:
        mode = messages.clock_mode(request.mode)
        return messages.clock(self._chip.set_clock(mode, request.rate, mutation=_mutation(request)))

    def advance_time(self, request: lab_pb2.AdvanceTimeRequest, context: CallContext) -> lab_pb2.AdvanceTimeResponse:
        outcome = self._chip.advance(request.by_s, cancelled=lambda: not context.active(), mutation=_mutation(request))
        return messages.advanced(outcome)

    def create_snapshot(self, request: lab_pb2.CreateSnapshotRequest, context: CallContext) -> lab_pb2.Snapshot:
        # One after another, so that many at once cannot pass a bound together.
        with self._taking:
            if self._bounds is not None:
                self._bounds.check(request.name, self._chip.snapshots())
            return messages.snapshot(self._chip.snapshot(request.name, mutation=_mutation(request)))

    def restore_snapshot(self, request: lab_pb2.RestoreSnapshotRequest, context: CallContext) -> lab_pb2.Snapshot:
        return messages.snapshot(self._chip.restore(request.name, mutation=_mutation(request)))

    def list_snapshots(
        self, request: lab_pb2.ListSnapshotsRequest, context: CallContext
    ) -> lab_pb2.ListSnapshotsResponse:
        snapshots = [messages.snapshot(snapshot) for snapshot in self._chip.snapshots()]
        return lab_pb2.ListSnapshotsResponse(snapshots=snapshots)

    def delete_snapshot(
        self, request: lab_pb2.DeleteSnapshotRequest, context: CallContext
    ) -> lab_pb2.DeleteSnapshotResponse:
        self._chip.delete_snapshot(request.name, mutation=_mutation(request))
        return lab_pb2.DeleteSnapshotResponse()

    def inject_faults(self, request: lab_pb2.InjectFaultsRequest, context: CallContext) -> lab_pb2.ListFaultsResponse:
        faults = [messages.fault_from(fault) for fault in request.faults]
        return messages.faults(self._chip.inject_faults(faults, mutation=_mutation(request)))

    def clear_faults(self, request: lab_pb2.ClearFaultsRequest, context: CallContext) -> lab_pb2.ListFaultsResponse:
        return messages.faults(self._chip.clear_faults(request.tiles, mutation=_mutation(request)))

    def list_faults(self, request: lab_pb2.ListFaultsRequest, context: CallContext) -> lab_pb2.ListFaultsResponse:
        return messages.faults(self._chip.faults())

    def set_temperature(self, request: lab_pb2.SetTemperatureRequest, context: CallContext) -> lab_pb2.Temperature:
        raise _absent("SetTemperature", "lab.temperature")

    def set_noise(self, request: lab_pb2.SetNoiseRequest, context: CallContext) -> lab_pb2.Noise:
        noise = self._chip.set_noise(request.read_noise_per_mvm, mutation=_mutation(request))
        return lab_pb2.Noise(read_noise_per_mvm=noise)


def _absent(call: str, capability: str) -> UnimplementedError:
    return UnimplementedError(
        f"this device does not offer {call}: capability '{capability}' is not among those in its identity",
        call=call,
        capability=capability,
    )


def _mutation(request: Any) -> Mutation:
    return Mutation(request_id=request.request_id)
