"""Which images a device takes: its policy on signatures, and none older than it has held."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pcmedge.errors import ImageRollbackError, ImageTrustError, InputTypeError, InputValueError
from pcmedge.image import ChipImage
from pcmedge.image.signing import PublicKey, check_signed
from pcmedge.log_events import event

from pcmedge_emulator.arguments import one_of
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction

_LOG = logging.getLogger("pcmedge_emulator.trust")
_MODES = ("off", "warn", "require")
_VERSIONS = "versions"


@dataclass(frozen=True)
class Trust:
    """``mode``: "off" looks at no signature, "warn" takes every image and says in the journal what is wrong, "require"
    refuses. ``keys``: trusted. ``refuse_rollback``: no version lower than the highest held of the model.
    """

    mode: str = "off"
    keys: tuple[PublicKey, ...] = ()
    refuse_rollback: bool = False

    @classmethod
    def of(
        cls, signatures: str, trusted_keys: Sequence[str | os.PathLike[str] | PublicKey], refuse_rollback: bool | None
    ) -> Trust:
        """From a device's arguments; ``refuse_rollback`` None: with "require" only. InputValueError for "warn" or
        "require" without keys and keys without them; InputTypeError for one file that is no list; FileMissingError,
        MissingExtraError.
        """
        mode = one_of("signatures", signatures, _MODES)
        if isinstance(trusted_keys, str | os.PathLike):
            raise InputTypeError(f"trusted_keys is a list of keys or files; write [{os.fspath(trusted_keys)!r}]")
        keys = tuple(key if isinstance(key, PublicKey) else PublicKey.load(key) for key in trusted_keys)
        if (mode == "off") != (not keys):
            expected = "needs the keys to trust" if mode != "off" else "asks no keys, but some are given"
            raise InputValueError(
                f"signatures={mode!r} {expected}; give trusted_keys (--trusted-key) with 'warn' or 'require'"
            )
        return cls(mode, keys, mode == "require" if refuse_rollback is None else refuse_rollback)

    def check_signer(self, image: ChipImage) -> ImageTrustError | None:
        """Raises ImageTrustError with "require", returns it with "warn"; None if there is nothing to say."""
        if self.mode == "off":
            return None
        try:
            check_signed(image, self.keys)
        except ImageTrustError as error:
            if self.mode == "require":
                raise
            _LOG.warning("%s", error.message, extra=event("image-untrusted", model=image.name, reason=error.reason))
            return error
        return None

    def check_version(self, store: Store, image: ChipImage) -> None:
        """ImageRollbackError for a version lower than the highest this device has held of the model."""
        highest = highest_version(store, image.name)
        if self.refuse_rollback and image.version < highest:
            raise ImageRollbackError(
                f"image '{image.name}' is version {image.version}, this device has held version {highest}; it takes "
                f"none older. Give the image a version of at least {highest}, or serve with --allow-rollback",
                model=image.name,
                version=image.version,
                highest=highest,
            )

    def remember(self, store: Store, transaction: Transaction, image: ChipImage) -> None:
        """Keep the version, if it is the highest, as part of programming. Only where versions are watched: else
        anybody who may program could shut out later versions by a high one nobody vouched for.
        """
        if self.refuse_rollback and image.version > highest_version(store, image.name):
            transaction.put(_VERSIONS, image.name, str(image.version).encode())


def highest_version(store: Store, name: str) -> int:
    """The highest version of a model that was ever programmed while versions were watched; 0 if none."""
    kept = store.get(_VERSIONS, name)
    return 0 if kept is None else int(kept)
