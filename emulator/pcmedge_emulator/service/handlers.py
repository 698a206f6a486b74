"""All calls of the contract by name: messages in, messages out, typed errors. No gRPC below this line.

The gRPC server and the client's in-process transport both answer through :meth:`Handlers.call`, so a device behaves the
same near and far.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from pcmedge.errors import UnimplementedError
from pcmedge.protocol.dispatch import CallContext
from pcmedge.protocol.services import DEVICE_SERVICE, INFERENCE_SERVICE, LAB_SERVICE, METHODS
from pcmedge.protocol.status import limited

from pcmedge_emulator.capabilities import LAB_CAPABILITIES
from pcmedge_emulator.driver.interface import DeviceChip, LabChip
from pcmedge_emulator.service.batching import Batcher
from pcmedge_emulator.service.device_handlers import DeviceHandlers
from pcmedge_emulator.service.guard import typed
from pcmedge_emulator.service.inference_handlers import InferenceHandlers
from pcmedge_emulator.service.lab_handlers import LabHandlers, SnapshotBounds
from pcmedge_emulator.service.scheduling import Scheduler, Scheduling
from pcmedge_emulator.service.statistics import InferenceStatistics
from pcmedge_emulator.service.turns import Turns
from pcmedge_emulator.service.upload import MAX_IMAGE_BYTES

DEFAULT_SCHEDULING = Scheduling()


class Handlers:
    """The calls of one chip; ``lab`` says whether LabService is among them.

    ``scheduling``: how inference requests come to the chip. ``at_once``: how many compute at the same time without
    batching; None for all that come, as in process, where nobody is far away. ``max_image_bytes``: of one
    image that is sent. ``snapshots``: bounds of those that are kept; None for none.
    """

    def __init__(
        self,
        chip: DeviceChip,
        *,
        lab: bool = False,
        scheduling: Scheduling = DEFAULT_SCHEDULING,
        at_once: int | None = None,
        max_image_bytes: int = MAX_IMAGE_BYTES,
        snapshots: SnapshotBounds | None = None,
    ) -> None:
        self.lab = lab
        self._closing = threading.Event()
        statistics = InferenceStatistics()
        self._scheduler: Scheduler = (
            Batcher(chip, scheduling, statistics.executed)
            if scheduling.batches
            else Turns(chip, scheduling, statistics.executed, at_once=at_once)
        )
        capabilities = chip.capabilities + (LAB_CAPABILITIES if lab else ())
        device = DeviceHandlers(chip, capabilities, self._closing, self._scheduler.counts, max_image_bytes)
        inference = InferenceHandlers(chip, self._scheduler, statistics)
        self._homes: dict[str, Any] = {DEVICE_SERVICE: device, INFERENCE_SERVICE: inference}
        if lab:
            if not isinstance(chip, LabChip):
                raise UnimplementedError(f"{type(chip).__name__} has no clock or snapshots to serve as LabService")
            self._homes[LAB_SERVICE] = LabHandlers(chip, snapshots)

    def call(self, name: str, request: Any, context: CallContext) -> Any:
        """Answer one call: a message, or an iterator of them; ``request`` is a message or an iterator of them.

        Raises typed errors only, cut to what travels in response headers.
        """
        method = METHODS[name]
        home = self._homes.get(method.service)
        if home is None:
            raise UnimplementedError(
                f"this device does not serve {method.service}; an emulator does with 'pcmedge serve --lab'",
                call=name,
                capability="lab",
            )
        try:
            reply = getattr(home, method.handler)(request, context)
        except Exception as error:
            answer = limited(typed(error, name))
            if answer is error:
                raise
            raise answer from error
        return self._guarded(reply, name) if method.server_streaming else reply

    def _guarded(self, replies: Iterator[Any], name: str) -> Iterator[Any]:
        try:
            yield from replies
        except Exception as error:
            answer = limited(typed(error, name))
            if answer is error:
                raise
            raise answer from error

    def close(self) -> None:
        """Ends streams that would wait for ever; calls under way finish, and no inference waits for company."""
        self._closing.set()
        self._scheduler.drain()

    def stop(self) -> None:
        """Closes, and returns when no inference waits or is computed by this service's own thread any more."""
        self.close()
        self._scheduler.close()
