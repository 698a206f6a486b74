"""Which of the chip's physical tiles are taken, by whom, and which an image gets."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from pcmedge.errors import CapacityError, ImageTooLargeError, InputValueError

RETIRED = "<retired>"
"""Who holds the tiles that are not programmed again; no model has such a name."""


class TileAllocator:
    """Hands out physical tiles, the lowest free ones first; not thread-safe, its owner serialises calls.

    >>> allocator = TileAllocator(4)
    >>> allocator.allocate("digits", 3)
    (0, 1, 2)
    >>> allocator.release("digits")
    (0, 1, 2)
    """

    def __init__(self, tiles: int) -> None:
        if tiles < 1:
            raise InputValueError(f"a chip has at least 1 tile, found {tiles}", tiles=tiles)
        self._tiles = tiles
        self._free = list(range(tiles))
        self._owned: dict[str, tuple[int, ...]] = {}

    @property
    def tiles(self) -> int:
        return self._tiles

    @property
    def free(self) -> int:
        """Number of free tiles."""
        return len(self._free)

    @property
    def owners(self) -> Mapping[str, tuple[int, ...]]:
        """Physical tiles by owner, in the order of the owner's logical tiles."""
        return dict(self._owned)

    def check(self, count: int) -> None:
        """Raise if ``count`` tiles cannot be had now.

        ImageTooLargeError: the chip never has that many. CapacityError: others hold them now.
        """
        if count > self._tiles:
            raise ImageTooLargeError(
                f"the image needs {count} tiles, the chip has {self._tiles}; compile for a larger chip profile "
                "or a smaller model",
                tiles_needed=count,
                tiles=self._tiles,
            )
        if count > len(self._free):
            holders = ", ".join(f"{owner} ({len(held)})" for owner, held in self._owned.items() if owner != RETIRED)
            retired = len(self._owned.get(RETIRED, ()))
            unfit = f"; {retired} are retired (program with use_retired to use them all the same)" if retired else ""
            raise CapacityError(
                f"the image needs {count} free tiles, {len(self._free)} of {self._tiles} are free; resident: "
                f"{holders or 'nothing'}{unfit}. Erase an image, or program with replace",
                tiles_needed=count,
                tiles_free=len(self._free),
                tiles=self._tiles,
                tiles_retired=retired,
            )

    def allocate(self, owner: str, count: int) -> tuple[int, ...]:
        """Take the ``count`` lowest free tiles for ``owner``; entry i is the physical tile of its logical tile i."""
        if owner in self._owned:
            raise InputValueError(f"{owner!r} holds tiles already; release them first", owner=owner)
        if count < 0:
            raise InputValueError(f"expected a number of tiles of at least 0, found {count}", tiles=count)
        self.check(count)
        taken = tuple(heapq.heappop(self._free) for _ in range(count))
        self._owned[owner] = taken
        return taken

    def reserve(self, owner: str, tiles: Iterable[int]) -> None:
        """Take exactly these physical tiles, as when a stored chip is loaded again."""
        wanted = tuple(tiles)
        missing = sorted(set(wanted) - set(self._free))
        if owner in self._owned or missing or len(set(wanted)) != len(wanted):
            raise InputValueError(
                f"{owner!r} cannot take tiles {list(wanted)}: not free or named twice: {missing or list(wanted)}",
                owner=owner,
            )
        self._free = sorted(set(self._free) - set(wanted))
        self._owned[owner] = wanted

    def release(self, owner: str) -> tuple[int, ...]:
        """Give back what ``owner`` holds (nothing if it holds none); returns the tiles given back."""
        returned = self._owned.pop(owner, ())
        for tile in returned:
            heapq.heappush(self._free, tile)
        return returned

    def rename(self, owner: str, new_owner: str) -> None:
        """Hand ``owner``'s tiles to ``new_owner``, as when a replacement takes its model's name."""
        if owner not in self._owned or new_owner in self._owned:
            raise InputValueError(
                f"cannot rename {owner!r} to {new_owner!r}: the first must hold tiles, the second none", owner=owner
            )
        self._owned[new_owner] = self._owned.pop(owner)


def with_residents(tiles: int, residents: Mapping[str, tuple[int, ...]], retired: Iterable[int] = ()) -> TileAllocator:
    """An allocator in which the physical tiles of each resident are taken, and the ``retired`` ones no one has."""
    allocator = TileAllocator(tiles)
    for name, physical in residents.items():
        allocator.reserve(name, physical)
    # No model has a name with an empty owner's marks.
    if unused := sorted(set(retired).difference(*residents.values())):
        allocator.reserve(RETIRED, unused)
    return allocator


def place(
    tiles: int,
    residents: Mapping[str, tuple[int, ...]],
    name: str,
    count: int,
    *,
    over: bool,
    retired: Iterable[int] = (),
) -> tuple[tuple[int, ...], list[str]]:
    """(physical tiles of a model, models that go): beside the residents if there is room, else over them if ``over``.

    A resident of the same name goes in any case. Over all of them only if over that one is not enough.
    CapacityError, ImageTooLargeError.
    """
    same = [name] if name in residents else []
    attempts: list[tuple[list[str], list[str]]] = [([], same)]
    if over:
        attempts += [(same, same), (list(residents), list(residents))]
    for number, (without, gone) in enumerate(attempts, 1):
        kept = {resident: held for resident, held in residents.items() if resident not in without}
        try:
            return with_residents(tiles, kept, retired).allocate(f"{name} (new)", count), gone
        except CapacityError:
            if number == len(attempts):
                raise
    raise AssertionError("unreachable: the last attempt raises")
