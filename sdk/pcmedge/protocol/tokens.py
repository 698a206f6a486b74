"""Bearer tokens and the file a device knows them by: one line per token, ``ROLE SHA256 NAME``.

The file holds the SHA-256 of each token in hexadecimal and never a token. Tokens are 256 random bits, so a plain hash
cannot be searched backwards, and comparing takes no key derivation. Empty lines and lines that begin with ``#`` are
skipped. Names are for people: in ``pcmedge token list``, and to revoke one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pcmedge.errors import FileMissingError, InputValueError, NotFoundError
from pcmedge.image.files import write_atomically
from pcmedge.protocol.roles import Role, parse_role

PREFIX = "pcm_"
"""What every token begins with, so that secret scanners can find one that leaked."""

MAX_TOKENS = 1024
MAX_FILE_BYTES = 256 << 10
MAX_TOKEN_BYTES = 512
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(rf"({'|'.join(Role)})\s+([0-9a-f]{{64}})\s+({_NAME.pattern})")
_OTHERS_MAY = stat.S_IWGRP | stat.S_IRWXO
_HEADER = "# ROLE SHA-256-OF-TOKEN NAME   (pcmedge token new | list | revoke; docs/security.md)\n"


@dataclass(frozen=True)
class TokenEntry:
    """One token, as far as the file knows it; ``digest`` is the SHA-256 of the token."""

    role: Role
    digest: bytes
    name: str

    def line(self) -> str:
        return f"{self.role} {self.digest.hex()} {self.name}\n"


def find_entry(entries: tuple[TokenEntry, ...], token: str) -> TokenEntry | None:
    """The entry of a token. Takes as long for every token: all entries are compared, in constant time each."""
    digest = hashlib.sha256(token.encode()).digest()
    found = None
    for entry in entries:
        if hmac.compare_digest(entry.digest, digest):
            found = entry
    return found


def read_tokens(path: str | os.PathLike[str]) -> tuple[TokenEntry, ...]:
    """The entries of a token file.

    FileMissingError if it cannot be read; InputValueError if others may change or read it, if it has no entry, or for
    a line that is none (named by its number, never quoted: somebody may have put a token there).
    """
    file = Path(path)
    try:
        with _opened(file) as handle:
            _check_private(file, os.fstat(handle.fileno()))
            data = handle.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FileMissingError(f"cannot read the token file {file}: {error.strerror}", path=file) from error
    entries = _parse(file, data)
    if not entries:
        raise InputValueError(
            f"the token file {file} has no token, so nobody could call; make one with 'pcmedge token new'", path=file
        )
    return entries


def _opened(file: Path) -> BinaryIO:
    """At once: opening a named pipe would wait for somebody to write it, and a service that does answers nobody."""
    return open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))


def _check_private(file: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InputValueError(f"the token file {file} is no regular file", path=file)
    if found.st_mode & _OTHERS_MAY or found.st_uid not in (0, os.geteuid()):
        raise InputValueError(
            f"the token file {file} has mode {stat.S_IMODE(found.st_mode):o} and belongs to user {found.st_uid}; "
            "expected one of this user or root, which nobody else may write and others may not read: chmod 600",
            path=file,
        )


def _parse(file: Path, data: bytes) -> tuple[TokenEntry, ...]:
    if len(data) > MAX_FILE_BYTES:
        raise InputValueError(f"the token file {file} has more than {MAX_FILE_BYTES} bytes", path=file)
    entries: list[TokenEntry] = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise InputValueError(
                f"line {number} of the token file {file} is not 'ROLE SHA256 NAME', with a role of {', '.join(Role)}, "
                "64 hexadecimal digits in lower case, and a name of letters, digits, '.', '_' and '-'",
                path=file,
                line=number,
            )
        role, digest, name = found.groups()
        entries.append(TokenEntry(Role(role), bytes.fromhex(digest), name))
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names) or len({entry.digest for entry in entries}) != len(entries):
        raise InputValueError(f"the token file {file} has a name or a token twice; each is there once", path=file)
    if len(entries) > MAX_TOKENS:
        raise InputValueError(f"the token file {file} has more than {MAX_TOKENS} tokens", path=file)
    return tuple(entries)


def new_token(path: str | os.PathLike[str], role: str, name: str) -> str:
    """Make a token and add its hash to the file, which is made (mode 600) if there is none. Returns the token.

    InputValueError for an unknown role, and a name that is taken or none; errors of :func:`read_tokens`;
    FileUnwritableError.
    """
    chosen = parse_role(role)
    if not _NAME.fullmatch(name):
        raise InputValueError(
            f"a token's name has 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit; found {name!r}"
        )
    file = Path(path)
    entries = _entries(file)
    if any(entry.name == name for entry in entries):
        raise InputValueError(f"{file} has a token named {name!r} already; choose another name or revoke it", name=name)
    token = PREFIX + secrets.token_urlsafe(32)
    _write(file, (*entries, TokenEntry(chosen, hashlib.sha256(token.encode()).digest(), name)))
    return token


def revoke_token(path: str | os.PathLike[str], name: str) -> TokenEntry:
    """Take a token out of the file; a running device notices. NotFoundError if there is none of this name."""
    file = Path(path)
    entries = read_tokens(file)
    for entry in entries:
        if entry.name == name:
            _write(file, tuple(other for other in entries if other is not entry))
            return entry
    raise NotFoundError(
        f"{file} has no token named {name!r}; it has {', '.join(entry.name for entry in entries)}", name=name
    )


def _entries(file: Path) -> tuple[TokenEntry, ...]:
    if not file.exists():
        return ()
    with _opened(file) as handle:
        _check_private(file, os.fstat(handle.fileno()))
        return _parse(file, handle.read(MAX_FILE_BYTES + 1))


def _write(file: Path, entries: tuple[TokenEntry, ...]) -> None:
    write_atomically(file, (_HEADER + "".join(entry.line() for entry in entries)).encode(), mode=0o600)


def exposure(path: str | os.PathLike[str]) -> str:
    """What to warn of if others may read a client's token file, or others of its group change it; else ""."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return ""
    if not mode & _OTHERS_MAY:
        return ""
    file = os.fspath(path)
    return f"the token file {file} has mode {mode:o}: other users of this machine can use the token. chmod 600 {file}"


def read_token(path: str | os.PathLike[str]) -> str:
    """The token in a client's file: its only line. FileMissingError; InputValueError, which does not quote it."""
    file = Path(path)
    try:
        token = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise FileMissingError(f"cannot read a token from {file}: {problem}", path=file) from None
    if not token or not token.isprintable() or " " in token or len(token) > MAX_TOKEN_BYTES:
        raise InputValueError(f"{file} does not hold a token alone; expected one line of printable text", path=file)
    return token
