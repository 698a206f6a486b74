"""Who calls: the bearer token of a call against the token file, and its role against the call's."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from pcmedge.errors import AccessError, Error, PermissionDeniedError, UnauthenticatedError
from pcmedge.log_events import event
from pcmedge.protocol.permissions import ROLES
from pcmedge.protocol.services import Method
from pcmedge.protocol.tokens import MAX_TOKEN_BYTES, TokenEntry, find_entry, read_tokens

_LOG = logging.getLogger("pcmedge_emulator.service")
_SCHEME = "bearer "
_State = tuple[int, int, int, int]


class TokenFile:
    """The tokens of a file, read again when the file has changed, so that a revoked token is refused at once.

    A file that cannot be read any more, or is wrong, lets nobody in until it is right again.
    Raises what :func:`pcmedge.protocol.tokens.read_tokens` raises when it is made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen = _state(self._path)
        self._entries = read_tokens(self._path)

    def entries(self) -> tuple[TokenEntry, ...]:
        now = _state(self._path)
        if now != self._seen:
            with self._lock:
                self._reload(now)
        return self._entries

    def _reload(self, now: _State | None) -> None:
        try:
            self._entries = read_tokens(self._path)
            told = event("token-file-reloaded", path=self._path, tokens=len(self._entries))
            _LOG.info("the token file %s has changed: %d tokens", self._path, len(self._entries), extra=told)
        except Error as error:
            self._entries = ()
            _LOG.error("nobody is let in: %s", error.message, extra=event("token-file-refused", path=self._path))
        self._seen = now


def _state(path: Path) -> _State | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


class Access:
    """Decides about every call; without a token file everybody may make every call."""

    def __init__(self, tokens: TokenFile | None) -> None:
        self._tokens = tokens

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return self._tokens is None

    def refusal(self, method: Method, metadata: Iterable[tuple[str, str | bytes]]) -> AccessError | None:
        """Why this call is refused, None if it is not. The errors never quote what was sent."""
        if self._tokens is None:
            return None
        sent = [value for key, value in metadata if key == "authorization"]
        token = _bearer(sent)
        if token is None:
            return UnauthenticatedError(
                f"{method.name} needs a token and none came, or something that is no 'Bearer' token; give one with "
                "token= or $PCMEDGE_TOKEN",
                call=method.name,
            )
        entry = find_entry(self._tokens.entries(), token)
        if entry is None:
            return UnauthenticatedError(
                f"{method.name} came with a token this device does not know: it was revoked, or is of another device. "
                "Ask the device's operator for one",
                call=method.name,
            )
        required = ROLES[method.name]
        if entry.role.includes(required):
            return None
        return PermissionDeniedError(
            f"{method.name} needs the role '{required}', the token '{entry.name}' has '{entry.role}'",
            call=method.name,
            required=required,
            role=entry.role,
        )


def _bearer(sent: list[str | bytes]) -> str | None:
    """The token of one ``authorization: Bearer TOKEN``; None for anything else."""
    if len(sent) != 1:
        return None
    value = sent[0]
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    if len(text) > MAX_TOKEN_BYTES + len(_SCHEME) or text[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return text[len(_SCHEME) :].strip() or None
