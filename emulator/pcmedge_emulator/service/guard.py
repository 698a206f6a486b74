"""Whatever goes wrong inside becomes a typed error; what was not foreseen is logged here and only named outside."""

from __future__ import annotations

import logging
import uuid

from pcmedge.errors import Error, InternalError
from pcmedge.log_events import event

_LOG = logging.getLogger("pcmedge_emulator.service")


def typed(error: Exception, call: str) -> Error:
    """The error itself if it is one of ours, else an InternalError that carries the number of a log entry."""
    if isinstance(error, Error):
        return error
    incident = uuid.uuid4().hex[:12]
    told = event("internal-error", call=call, incident=incident)
    _LOG.error("%s failed unexpectedly, incident %s", call, incident, exc_info=error, extra=told)
    return InternalError(
        f"{call} failed inside the device ({type(error).__name__}); its log tells more under incident {incident}; "
        "please report it",
        call=call,
        incident=incident,
    )
