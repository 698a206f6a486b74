"""A chip as a device of the contract: handlers without gRPC, and the server that binds them.

>>> from pcmedge_emulator.service import serve
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcmedge_emulator.service.server import Server, serve

__all__ = ["Server", "serve"]


def __getattr__(name: str) -> Any:
    """A device in the same process needs no server, so gRPC is imported when somebody asks for one."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pcmedge_emulator.service import server

    return getattr(server, name)
