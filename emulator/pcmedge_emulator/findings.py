"""What diagnoses last found on each physical tile: for telemetry, kept over restarts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pcmedge_emulator import codec
from pcmedge_emulator.outcomes import TileDiagnosis
from pcmedge_emulator.store import Store
from pcmedge_emulator.store_tables import Transaction


@dataclass(frozen=True)
class Findings:
    """Tiles with a finding, as their last diagnosis left them."""

    tiles: tuple[TileDiagnosis, ...] = ()

    def of(self, tile: int) -> TileDiagnosis | None:
        """None for a physical tile that was found healthy or never looked at."""
        return next((each for each in self.tiles if each.tile == tile), None)

    def after(self, diagnosed: Iterable[TileDiagnosis]) -> Findings:
        """With these in place of what was known of the same tiles."""
        new = {each.tile: each for each in diagnosed}
        kept = [each for each in self.tiles if each.tile not in new]
        return Findings(tuple(sorted([*kept, *(each for each in new.values() if each.findings)], key=lambda t: t.tile)))

    def without(self, tiles: Iterable[int]) -> Findings:
        """Without these physical tiles, which were mended; none named: without any."""
        mended = set(tiles)
        return Findings(tuple(each for each in self.tiles if mended and each.tile not in mended))

    def write(self, transaction: Transaction) -> None:
        transaction.put("device", "findings", codec.encode(self))

    @staticmethod
    def stored(store: Store) -> Findings:
        found = store.get("device", "findings")
        return Findings() if found is None else codec.decode(found, Findings)
