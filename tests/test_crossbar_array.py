"""Which physical tiles are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pcmedge.errors import CapacityError, ImageTooLargeError, InputValueError
from pcmedge_emulator.crossbar import TileAllocator


def test_lowest_free_tiles_come_first() -> None:
    allocator = TileAllocator(6)
    assert allocator.allocate("a", 2) == (0, 1)
    assert allocator.allocate("b", 2) == (2, 3)
    assert allocator.release("a") == (0, 1)
    assert allocator.allocate("c", 3) == (0, 1, 4)
    assert allocator.free == 1
    assert allocator.owners == {"b": (2, 3), "c": (0, 1, 4)}


def test_too_many_tiles_are_refused_with_the_right_error_and_change_nothing() -> None:
    allocator = TileAllocator(4)
    allocator.allocate("resident", 3)
    with pytest.raises(CapacityError, match="2 free tiles, 1 of 4 are free; resident: resident"):
        allocator.allocate("next", 2)
    with pytest.raises(ImageTooLargeError, match="needs 5 tiles, the chip has 4") as caught:
        allocator.allocate("next", 5)
    assert caught.value.metadata == {"tiles_needed": "5", "tiles": "4"}
    assert allocator.free == 1
    assert allocator.allocate("next", 1) == (3,)


def test_a_stored_chip_takes_its_own_tiles_again() -> None:
    allocator = TileAllocator(5)
    allocator.reserve("stored", [3, 0])
    assert allocator.owners["stored"] == (3, 0)
    assert allocator.allocate("new", 2) == (1, 2)
    for tiles in ([0], [4, 4], [9]):
        with pytest.raises(InputValueError, match="cannot take tiles"):
            allocator.reserve("other", tiles)


def test_a_replacement_takes_over_the_name() -> None:
    allocator = TileAllocator(4)
    allocator.allocate("model", 2)
    allocator.allocate("model (new)", 2)
    allocator.release("model")
    allocator.rename("model (new)", "model")
    assert allocator.owners == {"model": (2, 3)}
    with pytest.raises(InputValueError, match="rename"):
        allocator.rename("nobody", "model")
    with pytest.raises(InputValueError, match="holds tiles already"):
        allocator.allocate("model", 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=30))
def test_no_tile_is_ever_lost_or_owned_twice(steps: list[tuple[int, int]]) -> None:
    allocator = TileAllocator(8)
    for owner, count in steps:
        name = str(owner)
        if name in allocator.owners:
            allocator.release(name)
        elif count <= allocator.free:
            free = set(range(8)) - {tile for tiles in allocator.owners.values() for tile in tiles}
            assert allocator.allocate(name, count) == tuple(sorted(free)[:count])
        held = [tile for tiles in allocator.owners.values() for tile in tiles]
        assert len(held) == len(set(held)) == 8 - allocator.free
