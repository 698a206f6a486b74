"""Draw a chip image for a terminal: layers on their tiles, how full those are, what an inference costs.

Everything comes from the manifest, so the base install draws; with pyarrow each tile is drawn as full as it is, without
it as full as the layer's tiles are on average.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from pcmedge._contract.image_pb2 import AnalogLayer, Manifest, NodePlacement, PlacementReport
    from pcmedge.image import ChipImage

FILL = "▁▂▃▄▅▆▇█"
TILES_DRAWN = 32
_STATISTICS = {0: "-", 1: "-", 2: "batch norm", 3: "recorded"}


def draw_image(console: Console, image: ChipImage, *, nodes: bool = False) -> None:
    """The whole image; ``nodes`` adds every node of the program with the reason why it is where it is."""
    manifest = image.manifest
    _draw_header(console, image)
    _draw_layers(console, image)
    _draw_totals(console, manifest)
    if nodes:
        _draw_nodes(console, manifest.placement)


def analog_share(placement: PlacementReport) -> float:
    """Share of the multiply-accumulates done in memory."""
    total = placement.analog_macs + placement.digital_macs
    return placement.analog_macs / total if total else 0.0


def _draw_header(console: Console, image: ChipImage) -> None:
    manifest = image.manifest
    profile, provenance = manifest.profile, manifest.provenance
    console.print(Text.assemble((image.name, "bold"), f" version {image.version}"))
    lines = [
        f"chip     {profile.name}: {profile.tiles} tiles of {profile.tile_rows} x {profile.tile_columns}, "
        f"DAC {profile.dac_bits} bits, ADC {profile.adc_bits} bits, g_max {profile.g_max_microsiemens:g} µS",
        *(f"input    {spec.name} {spec.datatype} {_shape(spec.shape)}" for spec in manifest.model.inputs),
        *(f"output   {spec.name} {spec.datatype} {_shape(spec.shape)}" for spec in manifest.model.outputs),
        f"file     {image.size:,} bytes, SHA-256 {image.sha256.hex()[:16]}",
        f"made by  pcmedge {provenance.sdk_version} from {provenance.source_format} {provenance.source_version}, "
        f"{provenance.calibration_samples} calibration samples",
        f"buffer   {_buffer(manifest)}",
        f"labels   {len(manifest.application.labels) or 'none'}",
    ]
    for line in lines:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _shape(shape: Iterable[int]) -> str:
    return " x ".join("any" if size < 0 else str(size) for size in shape)


def _buffer(manifest: Manifest) -> str:
    buffer = manifest.calibration_buffer
    if buffer.kind == "none":
        return "none; recalibration can only use global drift compensation"
    paired = "with" if buffer.has_reference_statistics else "without"
    return f"{buffer.samples} samples, {buffer.kind}, {paired} digital reference statistics"


def _draw_layers(console: Console, image: ChipImage) -> None:
    table = Table(box=None, header_style="dim", title="layers → tiles", title_justify="left", title_style="bold")
    table.add_column("layer", overflow="fold")
    table.add_column("matrix", justify="right", no_wrap=True)
    table.add_column("tiles", overflow="fold")
    for title in ("used", "MACs", "products", "phases", "energy", "latency"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("statistics", no_wrap=True)
    costs = {node.layer: node for node in image.manifest.placement.nodes if node.analog}
    fills = _fills(image, costs)
    for layer in image.manifest.layers:
        cost = costs.get(layer.name)
        table.add_row(*_layer_row(layer, cost, fills.get(layer.name, [])))
    console.print()
    console.print(table)


def _layer_row(layer: AnalogLayer, cost: NodePlacement | None, fills: list[float]) -> tuple[Text, ...]:
    matrices = "\n".join(
        (f"{block.groups} x " if block.groups > 1 else "") + f"{block.rows} x {block.columns}" for block in layer.blocks
    )
    figures = ("-",) * 6
    if cost is not None:
        figures = (
            f"{cost.utilisation:.1%}",
            format_count(cost.macs),
            format_count(cost.mvms),
            str(cost.phases),
            format_quantity(cost.energy_j, "J"),
            format_quantity(cost.latency_s, "s"),
        )
    statistics = _STATISTICS.get(layer.statistics_kind, "-")
    name = Text.assemble(layer.name, (f"\n{layer.operator}", "dim"))
    return (name, Text(matrices), _tiles(fills), *map(Text, figures), Text(statistics))


def _tiles(fills: list[float]) -> Text:
    """One glyph per tile, as high as the tile is full."""
    glyphs = "".join(FILL[min(len(FILL) - 1, int(fill * len(FILL)))] for fill in fills[:TILES_DRAWN])
    more = f" +{len(fills) - TILES_DRAWN}" if len(fills) > TILES_DRAWN else ""
    return Text.assemble(f"{len(fills)} ", (glyphs, "cyan"), more)


def _fills(image: ChipImage, costs: Mapping[str, NodePlacement]) -> dict[str, list[float]]:
    """Share of used cells of each tile, by layer."""
    from pcmedge.errors import MissingExtraError

    profile = image.manifest.profile
    cells = profile.tile_rows * profile.tile_columns
    found: dict[str, list[float]] = {}
    try:
        for tile in image.tiles():
            found.setdefault(tile.layer, []).append(tile.groups * tile.rows * tile.columns / cells)
    except MissingExtraError:
        return {name: [cost.utilisation] * cost.tiles for name, cost in costs.items()}
    return found


def _draw_totals(console: Console, manifest: Manifest) -> None:
    placement = manifest.placement
    share = analog_share(placement)
    used = placement.tiles / manifest.profile.tiles if manifest.profile.tiles else 0.0
    rows = (
        ("in memory", share, f"{share:.2%} of {format_count(placement.analog_macs + placement.digital_macs)} MACs"),
        ("chip", used, f"{placement.tiles} of {manifest.profile.tiles} tiles"),
        ("tiles used", placement.utilisation, f"{placement.utilisation:.1%} of their cells"),
    )
    console.print()
    for title, value, text in rows:
        console.print(Text.assemble(f"  {title:<11}", *_bar(value), f" {text}"))
    console.print(
        f"  {placement.analog_weights:,} weights on {placement.devices:,} devices; "
        f"{placement.digital_parameters:,} digital parameters",
        markup=False,
    )
    console.print(
        f"  per inference about {format_quantity(placement.energy_j, 'J')} and "
        f"{format_quantity(placement.latency_s, 's')}",
        markup=False,
    )
    if placement.energy_source:
        console.print(Text(f"  {placement.energy_source}", style="dim"))


def _bar(value: float, width: int = 24) -> tuple[tuple[str, str], tuple[str, str]]:
    full = min(width, max(0, round(value * width)))
    return ("█" * full, "cyan"), ("░" * (width - full), "dim")


def _draw_nodes(console: Console, placement: PlacementReport) -> None:
    table = Table(box=None, header_style="dim", title="every node", title_justify="left", title_style="bold")
    table.add_column("node", overflow="fold")
    table.add_column("operator", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for node in placement.nodes:
        where = Text("analog", style="cyan") if node.analog else Text("digital")
        table.add_row(Text(node.node), Text(node.operator), where, format_count(node.macs), Text(node.reason))
    console.print()
    console.print(table)


def format_count(number: int) -> str:
    """1234 as ``1,234``, larger numbers with three digits and k, M, G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= factor:
            return f"{number / (factor if unit != 'k' else 1e3):.3g} {unit}"
    return f"{number:,}"


def format_quantity(value: float, unit: str) -> str:
    """With the prefix that suits it: 1.34e-8 J as ``13.4 nJ``."""
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value / 1e-12:.3g} p{unit}" if value > 0 else f"0 {unit}"


def image_document(image: ChipImage) -> dict[str, Any]:
    """What ``--json`` says about an image: where it is and the whole manifest."""
    return {
        "path": image.path,
        "name": image.name,
        "version": image.version,
        "sha256": image.sha256,
        "size_bytes": image.size,
        "analog_share": analog_share(image.manifest.placement),
        "manifest": image.manifest,
    }
