"""Measure docs/results/fidelity.md and its figure again: ``make fidelity`` (a minute and a half of CPU)."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import numpy as np
from comparisons import (
    MORE_CHIPS,
    NEEDS_MORE,
    VARIANTS,
    WEIGHT_MOMENTS,
    Spread,
    device_comparisons,
    perturbed,
    weight_comparisons,
    weight_errors,
)
from ks import CONFIDENCE, Comparison, worst
from pcmedge_emulator.crossbar.tile import net, total
from pcmedge_emulator.physics import get_technology
from samples import CHIPS, MOMENTS, SHAPE, OurChips, TheirChips, TheirDevices, layer_codes, peer_model, sweep_codes

mpl.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parent.parent / "docs" / "results"
PCM = get_technology("pcm-90nm")
YEAR = {"1 year": MOMENTS["1 year"]}
QUANTITIES = ("G", "G - target", "read noise / G", "drift exponent")
Weights = dict[str, tuple[list[Comparison], Spread]]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def device_table(found: list[Comparison]) -> str:
    rows = []
    for quantity in QUANTITIES:
        for moment in ("programmed", *MOMENTS):
            members = [each for each in found if (each.quantity, each.moment) == (quantity, moment)]
            if members:
                each = max(members, key=lambda one: one.ratio(len(found)))
                rows.append(
                    [
                        quantity,
                        moment,
                        str(len(members)),
                        each.level,
                        f"{each.size:,}",
                        f"{each.distance:.5f}",
                        f"{each.critical(len(found)):.5f}",
                    ]
                )
    return table(["quantity", "moment", "ranges of g", "closest to failing", "devices", "distance", "critical"], rows)


def power_rows() -> list[list[str]]:
    """One coefficient 5 % wrong at a time, against aihwkit as it is."""
    few = TheirDevices(sweep_codes(), peer_model("pcm-90nm"), seed=4).devices(YEAR)
    rows = []
    for name, wrong in {"(none)": PCM, **perturbed(PCM)}.items():
        if name == NEEDS_MORE:
            many = TheirDevices(sweep_codes(), peer_model("pcm-90nm"), chips=MORE_CHIPS, seed=6).devices({})
            ours = OurChips(sweep_codes(), wrong, chips=MORE_CHIPS, seed=5).devices({})
            found = device_comparisons(ours, many, PCM, {})
        else:
            found = device_comparisons(OurChips(sweep_codes(), wrong, seed=3).devices(YEAR), few, PCM, YEAR)
        each = worst(found)
        family = len(found)
        chance = "-" if name == "(none)" else f"{100 * each.power(family):.1f} %"
        place = [f"{each.quantity}, g {each.level}, {each.moment}", f"{each.size:,}"]
        rows.append([name, *place, f"{each.distance:.4f}", f"{each.critical(family):.4f}", chance])
    return rows


def weight_table(weights: Weights) -> str:
    rows = []
    for moment in WEIGHT_MOMENTS:
        key = ("compensated weight error", moment)
        found = [100 * weights[variant][1][key][0] for variant in VARIANTS]
        theirs = 100 * weights["both"][1][key][1]
        rows.append([moment, f"{theirs:.3f} %", *(f"{each:.3f} %" for each in found)])
    return table(["moment", "aihwkit", *(f"ours, {variant}" for variant in VARIANTS)], rows)


def ratio_table(weights: Weights, quantity: str) -> str:
    rows = []
    for moment in WEIGHT_MOMENTS:
        row = [moment]
        for found, _ in weights.values():
            (each,) = (one for one in found if (one.quantity, one.moment) == (quantity, moment))
            row.append(f"{each.distance:.5f} ({each.ratio(len(found)):.2f})")
        rows.append(row)
    return table(["moment", *(f"ours, {variant}" for variant in VARIANTS)], rows)


def figure(ours: OurChips, theirs: TheirChips, weights: Weights) -> None:
    wanted = theirs.wanted.numpy().reshape(-1).astype(np.float64)
    drawing, (left, right) = plt.subplots(1, 2, figsize=(10, 4), dpi=90, layout="constrained")
    edges = np.linspace(-0.25, 0.25, 201)
    for number, moment in enumerate(("25 s", "1 day", "1 year")):
        for side, style, width in ((theirs, "-", 3.0), (ours, "-", 1.0)):
            errors = weight_errors(side.weights(MOMENTS[moment]), wanted)["compensated weight error"]
            density, _ = np.histogram(errors, edges, density=True)
            colour = f"C{number}" if side is theirs else "black"
            label = f"aihwkit, {moment}" if side is theirs else ("pcmedge" if number == 0 else None)
            alpha = 0.5 if side is theirs else 1.0
            left.stairs(density, edges, color=colour, ls=style, lw=width, alpha=alpha, label=label)
    left.set(xlabel="weight error in the direction of its sign, drift compensated", ylabel="density")
    left.legend(frameon=False)
    for marker, (variant, (found, _)) in zip("os^D", weights.items(), strict=True):
        ratios = [each.ratio(len(found)) for each in found if each.quantity == "compensated weight error"]
        right.plot(list(WEIGHT_MOMENTS), ratios, marker=marker, label=f"ours, {variant}")
    right.axhline(1, color="black", lw=0.8, ls=":")
    right.set(ylabel="Kolmogorov-Smirnov distance / critical", ylim=(0, None))
    right.tick_params(axis="x", rotation=30)
    right.legend(frameon=False)
    drawing.savefig(RESULTS / "fidelity.png")
    plt.close(drawing)


def main() -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    codes = layer_codes()
    devices = device_comparisons(
        OurChips(codes, PCM, seed=1).devices(),
        TheirDevices(codes, peer_model("pcm-90nm"), seed=2).devices(),
        PCM,
    )
    ours, theirs = OurChips(codes, PCM, seed=1), TheirChips(codes, seed=2)
    weights = {variant: weight_comparisons(ours, theirs, variant) for variant in VARIANTS}
    figure(ours, theirs, weights)

    plus = np.concatenate([tile.g_plus.reshape(-1) for tile in ours.tiles])
    minus = np.concatenate([tile.g_minus.reshape(-1) for tile in ours.tiles])
    unused = np.where(np.tile(codes.reshape(-1), CHIPS) > 0, minus, plus)
    largest = np.mean([float(programmed.abs().max()) for programmed, _ in theirs.chips])
    current, difference = total(plus, minus, 25.0).mean(), np.abs(net(plus, minus, 25.0)).mean()
    spreads = {variant: spread for variant, (_, spread) in weights.items()}
    change = {
        (variant, moment): 100 * (pair[0] / spreads["as they are"]["compensated weight error", moment][0] - 1)
        for variant, spread in spreads.items()
        for moment in ("25 s", "1 year")
        for pair in [spread["compensated weight error", moment]]
    }
    page = (Path(__file__).parent / "fidelity.md.in").read_text(encoding="utf-8")
    values = {
        "versions": f"aihwkit {version('aihwkit')}, torch {version('torch')}, numpy {version('numpy')}, "
        f"Python {platform.python_version()}",
        "chips": str(CHIPS),
        "weights": f"{SHAPE[0] * SHAPE[1]:,}",
        "pairs": f"{CHIPS * SHAPE[0] * SHAPE[1]:,}",
        "confidence": f"{100 * CONFIDENCE:.1f} %",
        "family": str(len(devices)),
        "worst": f"{worst(devices).ratio(len(devices)):.2f}",
        "devices": device_table(devices),
        "power": table(["5 % wrong", "seen best in", "devices", "distance", "critical", "power"], power_rows()),
        "more": f"{MORE_CHIPS * SHAPE[0] * SHAPE[1] / 1e6:.1f}",
        "rms": weight_table(weights),
        "weight_family": str(len(weights["both"][0])),
        "error": ratio_table(weights, "weight error"),
        "compensated": ratio_table(weights, "compensated weight error"),
        "unused_mean": f"{unused.mean():.3f}",
        "unused_on": f"{100 * np.mean(unused > 0):.1f} %",
        "largest": f"{largest:.3f}",
        "louder": f"{100 * (largest**0.65 - 1):.1f} %",
        "short_term": f"{100 * (np.sqrt(current / difference) - 1):.1f} %",
        "fold_25": f"{change['net weight kept', '25 s']:+.1f} %",
        "fold_year": f"{change['net weight kept', '1 year']:+.1f} %",
        "rescale_25": f"{change['scale recomputed', '25 s']:+.1f} %",
        "rescale_year": f"{change['scale recomputed', '1 year']:+.1f} %",
        "both_25": f"{change['both', '25 s']:+.1f} %",
        "both_year": f"{change['both', '1 year']:+.1f} %",
        "programmed_rms": f"{100 * spreads['both']['compensated weight error', 'programmed'][1]:.2f} %",
        "first_rms": f"{100 * spreads['both']['compensated weight error', 'first read'][1]:.2f} %",
    }
    for key, value in values.items():
        page = page.replace("{" + key + "}", value)
    (RESULTS / "fidelity.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
