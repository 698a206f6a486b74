"""The placement report of an image, drawn for a terminal. Needs only the manifest and rich, so the base install has it.

``render(image.manifest, image.tiles())`` also maps the tiles; reading the tile table needs the extra ``emulator``,
so without it pass the manifest alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pcmedge._contract.image_pb2 import AnalogLayer, Manifest, NodePlacement, StatisticsKind
from pcmedge.image.fault_rates import profile_rates

MAP_ROWS, MAP_COLUMNS = 4, 8
_MAX_MAPS = 6
_BAR = 12
_STATISTICS = {
    StatisticsKind.STATISTICS_KIND_BATCH_NORM: "batch norm",
    StatisticsKind.STATISTICS_KIND_RECORDED: "recorded",
    StatisticsKind.STATISTICS_KIND_NONE: "GDC only",
}


class TileShape(Protocol):
    """What the drawing needs to know of a tile (``pcmedge.image.Tile`` has it)."""

    @property
    def layer(self) -> str: ...
    @property
    def groups(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...


def render(manifest: Manifest, tiles: Iterable[TileShape] | None = None) -> RenderableType:
    """Everything: a summary, the analog layers with their tiles, the digital operators and why they are digital."""
    parts = [summary(manifest), layer_table(manifest), *_digital_biases(manifest)]
    if tiles is not None:
        parts.append(tile_maps(manifest, tiles))
    parts += [digital_table(manifest), Text(f"Energy and latency: {manifest.placement.energy_source}", style="dim")]
    return Group(*parts)


def summary(manifest: Manifest) -> RenderableType:
    """Name, chip, share of MACs in memory, tiles, utilisation, energy and latency."""
    placement, profile = manifest.placement, manifest.profile
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    share = analog_share(manifest)
    grid.add_row(
        "chip", f"{profile.name}: tiles of {profile.tile_rows} x {profile.tile_columns}, {profile.tiles} tiles"
    )
    grid.add_row("in memory", _bar(share).append(f" {share:.1%} of the MACs ({_count(placement.analog_macs)})"))
    grid.add_row("tiles", _bar(placement.tiles / max(1, profile.tiles)).append(f" {placement.tiles} used"))
    grid.add_row("cells", _bar(placement.utilisation).append(f" {placement.utilisation:.1%} of those tiles' cells"))
    grid.add_row(
        "weights",
        f"{placement.analog_weights:,} on {placement.devices:,} devices; "
        f"{placement.digital_parameters:,} digital parameters",
    )
    if faults := expected_faults(manifest):
        grid.add_row("faults", f"expected on a chip of this profile: {faults}")
    grid.add_row(
        "per inference",
        f"{_si(placement.energy_j, 'J')} and {_si(placement.latency_s, 's')} in the crossbars (estimated)",
    )
    title = f"{manifest.model.name} version {manifest.model.version}"
    return Panel(grid, title=Text(title), title_align="left", expand=False)


def expected_faults(manifest: Manifest) -> str:
    """How many faults the chip profile leads one to expect on the devices and tiles of this image; "" for none."""
    rates, placement = profile_rates(manifest.profile), manifest.placement
    counts = [
        (rates.stuck_at_reset * placement.devices, "devices stuck at RESET"),
        (rates.stuck_at_g_max * placement.devices, "devices stuck at g_max"),
        (rates.stuck_at_random * placement.devices, "devices stuck at random"),
        (rates.dead_row * placement.tiles, "dead rows"),
        (rates.dead_column * placement.tiles, "dead columns"),
        (rates.tile_lost * placement.tiles, f"of the {placement.tiles} tiles lost"),
    ]
    return ", ".join(f"{count:.3g} {what}" for count, what in counts if count)


def analog_share(manifest: Manifest) -> float:
    """Share of the multiply-accumulates that happen in memory; 0 if the model has none."""
    total = manifest.placement.analog_macs + manifest.placement.digital_macs
    return manifest.placement.analog_macs / total if total else 0.0


def layer_table(manifest: Manifest) -> Table:
    """One entry per analog layer, in execution order; fits 80 columns."""
    table = Table(
        title="Analog layers",
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in ("layer", "weights"):
        table.add_column(column, overflow="fold", min_width=12)
    for column in ("tiles", "cells", "phases", "MVMs", "energy", "latency"):
        table.add_column(column, justify="right", no_wrap=True)
    found = {node.layer: node for node in manifest.placement.nodes if node.analog}
    for layer in manifest.layers:
        node = found.get(layer.name, NodePlacement())
        table.add_row(
            Text.assemble(layer.name, (f"\n{layer.operator}", "dim")),
            Text.assemble(_weights(layer), (f"\n{_STATISTICS.get(layer.statistics_kind, '')}", "dim")),
            str(node.tiles),
            f"{node.utilisation:.1%}",
            str(node.phases),
            _count(node.mvms),
            _si(node.energy_j, "J"),
            _si(node.latency_s, "s"),
        )
    return table


def _digital_biases(manifest: Manifest) -> list[Text]:
    """The biases that were to lie on a row and do not, with the reason; nothing if there are none."""
    reasons = {node.layer: node.reason.partition("; bias digital: ")[2] for node in manifest.placement.nodes}
    lines = [f"  {layer.name}: {reasons[layer.name]}" for layer in manifest.layers if reasons.get(layer.name)]
    return [Text("Biases that stayed digital", style="italic"), Text("\n".join(lines) + "\n")] if lines else []


def tile_maps(manifest: Manifest, tiles: Iterable[TileShape]) -> RenderableType:
    """Every layer's tiles as little maps, shaded by the share of cells in use."""
    by_layer: dict[str, list[TileShape]] = {}
    for tile in tiles:
        by_layer.setdefault(tile.layer, []).append(tile)
    rows, columns = manifest.profile.tile_rows, manifest.profile.tile_columns
    size = f"{rows / MAP_ROWS:g} x {columns / MAP_COLUMNS:g}"
    legend = f"Each character stands for {size} cells: · none in use, ░ few, ▒ some, ▓ most, █ all."
    table = Table(show_header=False, show_lines=False, box=None, padding=(0, 2, 1, 0))
    table.add_column()
    table.add_column()
    for layer in manifest.layers:
        mine = by_layer.get(layer.name, [])
        grid = Table.grid(padding=(0, 1))
        grid.add_row(*(_map(tile, rows, columns) for tile in mine[:_MAX_MAPS]), *_more(len(mine) - _MAX_MAPS))
        table.add_row(Text(layer.name, style="bold"), grid)
    return Group(Text("Tiles", style="italic"), Text(legend, style="dim"), table)


def digital_table(manifest: Manifest) -> Table:
    """Digital operators, grouped by operator and reason, those with MACs first."""
    groups: dict[tuple[str, str], list[NodePlacement]] = {}
    for node in manifest.placement.nodes:
        if not node.analog:
            groups.setdefault((node.operator, node.reason), []).append(node)
    table = Table(title="Digital operators", title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("operator", no_wrap=True)
    table.add_column("nodes", justify="right")
    table.add_column("MACs", justify="right")
    table.add_column("why", overflow="fold")
    ordered = sorted(groups.items(), key=lambda item: (-sum(node.macs for node in item[1]), item[0]))
    for (operator, reason), nodes in ordered:
        table.add_row(Text(operator), str(len(nodes)), _count(sum(node.macs for node in nodes)), Text(reason))
    return table


def _weights(layer: AnalogLayer) -> str:
    parts = []
    for block in layer.blocks:
        rows = f"{block.rows - 1} + 1" if block.bias_code else f"{block.rows}"
        size = f"{rows} x {block.columns}"
        parts.append(f"{block.groups} x ({size})" if block.groups > 1 else size)
    return ", ".join(dict.fromkeys(parts))


def _map(tile: TileShape, tile_rows: int, tile_columns: int) -> Text:
    """Character cells of a tile, shaded by how much of them holds weights. Packed groups lie on the diagonal."""
    height, width = tile_rows / MAP_ROWS, tile_columns / MAP_COLUMNS
    lines = [
        "".join(_shade(_share(tile, y * height, x * width, height, width)) for x in range(MAP_COLUMNS))
        for y in range(MAP_ROWS)
    ]
    return Text("\n".join(lines), style="cyan")


def _share(tile: TileShape, top: float, left: float, height: float, width: float) -> float:
    """Share of the rectangle that holds weights of the tile."""
    used = 0.0
    for group in range(tile.groups):
        rows = min(top + height, (group + 1) * tile.rows) - max(top, group * tile.rows)
        columns = min(left + width, (group + 1) * tile.columns) - max(left, group * tile.columns)
        used += max(0.0, rows) * max(0.0, columns)
    return used / (height * width)


def _shade(share: float) -> str:
    if share <= 0:
        return "·"
    return "█" if share > 0.999 else "░▒▓"[int(share * 3)]


def _more(hidden: int) -> list[Text]:
    return [Text(f"and {hidden} more", style="dim")] if hidden > 0 else []


def _bar(share: float, width: int = _BAR) -> Text:
    filled = max(0, min(width, round(share * width)))
    if share > 0:
        filled = max(1, filled)
    return Text("━" * filled, style="cyan").append("╌" * (width - filled), style="bright_black")


def _count(value: int) -> str:
    for limit, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {suffix}"
    return str(value)


def _si(value: float, unit: str) -> str:
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"0 {unit}"
