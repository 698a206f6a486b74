"""Draw a chip image for a terminal: what it takes and gives, and the compiler's placement report.

The base install draws from the manifest alone; with pyarrow the tiles are mapped too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from pcmedge.image.manifest import TARGETS
from pcmedge.image.targets import INT16

if TYPE_CHECKING:
    from pcmedge._contract.image_pb2 import Manifest, PlacementReport
    from pcmedge.cli.output import Screen
    from pcmedge.image import ChipImage, Tile


def draw_image(console: Screen, image: ChipImage, *, nodes: bool = False) -> None:
    """The whole image; ``nodes`` adds every node of the program with the reason why it is where it is."""
    from pcmedge.compiler.report import render

    console.print(render(image.manifest, _tiles(image)))
    _draw_details(console, image)
    if nodes:
        _draw_nodes(console, image.manifest.placement)


def _tiles(image: ChipImage) -> tuple[Tile, ...] | None:
    from pcmedge.errors import MissingExtraError

    try:
        return image.tiles()
    except MissingExtraError:
        return None


def _draw_details(console: Screen, image: ChipImage) -> None:
    manifest, provenance = image.manifest, image.manifest.provenance
    profile = manifest.profile
    lines = [
        *(("input", f"{spec.name} {spec.datatype} {_shape(spec.shape)}") for spec in manifest.model.inputs),
        *(("output", f"{spec.name} {spec.datatype} {_shape(spec.shape)}") for spec in manifest.model.outputs),
        ("labels", str(len(manifest.application.labels) or "none")),
        ("buffer", _buffer(manifest)),
        (
            "converters",
            f"DAC {profile.dac_bits} bits, ADC {profile.adc_bits} bits; g_max {profile.g_max_microsiemens:g} µS",
        ),
        ("targets", _targets(manifest)),
        (
            "made by",
            f"pcmedge {provenance.sdk_version} from {provenance.source_format} {provenance.source_version} with "
            f"{provenance.calibration_samples} calibration samples",
        ),
        ("file", f"{image.size:,} bytes, SHA-256 {image.sha256.hex()}"),
    ]
    console.print()
    for title, text in lines:
        console.print(Text.assemble((f"{title:<12}", "bold"), text), soft_wrap=True)


def _shape(shape: Iterable[int]) -> str:
    return " x ".join("any" if size < 0 else str(size) for size in shape)


def _targets(manifest: Manifest) -> str:
    dtype = next(segment.dtype for segment in manifest.segments if segment.name == TARGETS)
    return "int16" if dtype == INT16 else "float32, for comparing with every analog effect off"


def _buffer(manifest: Manifest) -> str:
    buffer = manifest.calibration_buffer
    if buffer.kind == "none":
        return "none; recalibration can only use global drift compensation"
    paired = "with" if buffer.has_reference_statistics else "without"
    seen = f" ({buffer.generator}, coverage {buffer.coverage:.1%})" if buffer.coverage else ""
    return f"{buffer.samples} samples, {buffer.kind}{seen}, {paired} digital reference statistics"


def _draw_nodes(console: Screen, placement: PlacementReport) -> None:
    table = Table(box=None, header_style="dim", title="Every node", title_justify="left")
    table.add_column("node", overflow="fold")
    table.add_column("operator", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for node in placement.nodes:
        where = Text("analog", style="cyan") if node.analog else Text("digital")
        table.add_row(Text(node.node), Text(node.operator), where, f"{node.macs:,}", Text(node.reason))
    console.print()
    console.print(table)


def format_quantity(value: float, unit: str) -> str:
    """With the prefix that suits it: 1.34e-8 J as ``13.4 nJ``."""
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value / 1e-12:.3g} p{unit}" if value > 0 else f"0 {unit}"


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(shares: Sequence[float], width: int = 60) -> str:
    """Shares from 0 to 1 as bars of eight heights, the newest ``width`` of them."""
    return "".join(_BARS[min(7, int(8 * max(0.0, share)))] for share in shares[-width:])


def image_document(image: ChipImage) -> dict[str, Any]:
    """What ``--json`` says about an image: where it is and the whole manifest."""
    from pcmedge.compiler.report import analog_share

    return {
        "path": image.path,
        "name": image.name,
        "version": image.version,
        "sha256": image.sha256,
        "size_bytes": image.size,
        "analog_share": analog_share(image.manifest),
        "manifest": image.manifest,
    }
