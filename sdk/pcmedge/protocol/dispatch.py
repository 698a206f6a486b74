"""Between whoever carries calls (gRPC, or nobody at all in process) and the handlers that answer them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class CallContext(Protocol):
    """What a handler may ask about the call it answers."""

    def active(self) -> bool:
        """False once the caller is gone or the deadline has passed."""

    def on_end(self, callback: Callable[[], object]) -> None:
        """``callback`` runs when the call is over, however it ended; at once if it is already."""


class Dispatcher(Protocol):
    """Something that answers calls of the contract by name: messages in, messages out, typed errors.

    A streaming request is an iterator of messages, a streaming reply too.
    """

    def call(self, name: str, request: Any, context: CallContext) -> Any: ...
