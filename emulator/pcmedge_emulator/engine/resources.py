"""What an engine takes of the machine: threads, batches that fit the caches, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.processors import available_cores as available_cores

MOST_THREADS = 8
"""More bring nothing to the layers of an edge network; what is left serves other requests and the next snapshot."""

TENSOR_BYTES = 1 << 19
"""What the largest activation of a micro-batch may take: with its neighbours it stays in a second cache of 1 or 2 MiB.

Four times as much took 7 % longer where the third cache is slow (ResNet-32, 2 MiB of second cache)."""

LARGEST_MICRO_BATCH = 128


@dataclass(frozen=True)
class EngineMemory:
    """Bytes an engine holds. What sessions take to compute comes on top: a few activations of one micro-batch.

    ``constants``: conductances and other constants per session ("run", and "saturation", "batch" or "paired" once they
    were asked for). ``snapshot``: the conductances it was made from. ``noise_bank``: shared by all engines of the
    process.
    """

    constants: Mapping[str, int]
    snapshot: int
    noise_bank: int

    @property
    def total(self) -> int:
        return sum(self.constants.values()) + self.snapshot + self.noise_bank


def default_threads(cores: int) -> int:
    """Threads of one inference on a machine with ``cores`` processors.

    1 on one or two: the second is for the service, other requests and the next snapshot, and to wait for a thread that
    others keep from running is slower than not to have it. Half of them beyond, at most 8.
    """
    return max(1, min(MOST_THREADS, cores // 2))


def default_micro_batch(program: ChipProgram) -> int:
    """The largest batch of one session run: its largest known activation takes at most 512 KiB; 1 to 128."""
    graph = program.model.graph
    largest = 0
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and all(dim.HasField("dim_value") for dim in dims[1:]):
            size = 4
            for dim in dims[1:]:
                size *= dim.dim_value
            largest = max(largest, size)
    return max(1, min(LARGEST_MICRO_BATCH, TENSOR_BYTES // max(1, largest)))
