"""Mutant number N of a format: the same bytes for the same corpus and seed, whoever asks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from . import corpus, flatbuffer, image_parts_changed, onnx_graphs
from .random_bytes import MUTATIONS as RANDOM
from .random_bytes import Rng

Mutation = Callable[[Rng, bytes], bytes]
# Half of the mutants know the format: changes that do not, mostly end at the first check.
STRUCTURED: Mapping[str, Mapping[str, Mutation]] = {
    ".tflite": flatbuffer.MUTATIONS,
    ".onnx": onnx_graphs.MUTATIONS,
    ".pcmi": image_parts_changed.MUTATIONS,
}


@dataclass(frozen=True)
class Mutant:
    """``source`` is the file of the corpus it was made from, ``kind`` the mutation."""

    index: int
    source: str
    kind: str
    data: bytes


def mutant(format: str, files: Mapping[str, bytes], seed: int, index: int) -> Mutant:
    """``files`` as :func:`hostile.corpus.read` gives them. The two users of a suffix get the same mutants."""
    suffix = corpus.SUFFIX[format]
    rng = np.random.default_rng([seed, zlib.crc32(suffix.encode()), index])
    source = list(files)[int(rng.integers(len(files)))]
    known = RANDOM if rng.random() < 0.4 else STRUCTURED[suffix]
    kind = list(known)[int(rng.integers(len(known)))]
    return Mutant(index, source, kind, known[kind](rng, files[source]))
