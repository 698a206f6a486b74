"""Named, independent streams of randomness.

A device's randomness is a function of its serial number and seed, and each purpose (programming tile 3, reading tile 3
for inference, ...) owns a stream. Drawing more numbers for one purpose never shifts another.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(serial: str, seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The generator of one purpose of one device, for example ``stream("emulator-0", 0, "program", generation, tile)``.

    The same arguments give the same numbers on every machine with the same numpy; different arguments give
    statistically independent ones. The name is hashed with SHA-256 in an encoding in which no two argument lists look
    alike (every part is preceded by its length), and the digest seeds SFC64, numpy's fastest generator.
    """
    digest = hashlib.sha256()
    for part in (serial, str(int(seed)), purpose, *(str(int(number)) for number in index)):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest.digest(), "little")))
