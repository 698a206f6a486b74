"""What was published beside what is measured here, row by row, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.science.bootstrap import Interval, Term, interval
from benchmarks.science.results import Table
from benchmarks.science.settings import BASELINE, BEST, FLOAT, METHODS, TRAINED

DAY_S, YEAR_S = 86400.0, 31536000.0
CLEARLY = 3.0
"""Standard errors that "clearly worse" means."""


def rows(tables: Mapping[str, Table], *, draws: int) -> list[dict[str, Any]]:
    """Rows whose experiments were measured: quantity, published, goal, ours with its interval, verdict."""
    return list(_rows(tables, draws))


def _rows(tables: Mapping[str, Table], draws: int) -> Iterator[dict[str, Any]]:
    time, same, trained = (tables.get(name) for name in ("time", "same-read", "float-trained"))
    if time is not None:
        # Every gap is paired with the baseline picture by picture.
        def gap(of: Table, **wanted: Any) -> Interval:
            chip = of.where(network=TRAINED, **wanted).chips().correct()
            return interval([(100.0, of.digital(BASELINE)), (-100.0, chip)], draws=draws)

        best = METHODS[BEST]
        reach = interval([(100.0, time.digital(BASELINE))], draws=draws)
        yield _row("float baseline, %", "93.87, lossless data", reach, at_least=88.0)
        first = gap(time, mode="none", age_s=0.0)
        yield _row("gap right after programming, no compensation", "0.12 to 0.17", first, at_most=0.3)
        yield _row(f"gap right after programming, {best.label}", "", gap(time, mode=BEST, age_s=0.0))
        yield _row("gap after 1 day, GDC", "up to 1.3", gap(time, mode="gdc", age_s=DAY_S), at_most=1.0)
        label = f"gap after 1 day, {best.label}"
        yield _row(f"{label}, independent reads", "up to 0.4", gap(time, mode=BEST, age_s=DAY_S), at_most=0.5)
        if same is not None:
            yield _row(f"{label}, the same read", "", gap(same, mode=BEST, age_s=DAY_S), at_most=0.3)
        year = gap(time, mode=BEST, age_s=YEAR_S)
        yield _row(f"gap after 1 year, {best.label}, independent reads", "", year, at_most=1.0)
        for mode, published in ((BEST, "AdaBS 1.8 better"), ("adabs", "AdaBS 1.8 better")):
            better = interval(
                [
                    (100.0, time.where(network=TRAINED, mode=mode, age_s=YEAR_S).chips().correct()),
                    (-100.0, time.where(network=TRAINED, mode="gdc", age_s=YEAR_S).chips().correct()),
                ],
                draws=draws,
            )
            yield _row(f"better than GDC after 1 year, {METHODS[mode].label}", published, better)
        samples, kind = (time.where(mode=BEST).chips().rows[0][name] for name in ("buffer_samples", "buffer"))
        yield {
            **_row(f"calibration images of {best.label} ({kind})", "2,600", Interval(samples, samples, samples, 0.0)),
            "goal": "<= 100",
            "verdict": _verdict(samples <= 100 and year.estimate <= 1.0),
        }
        for when, age_s in (("1 day", DAY_S), ("1 year", YEAR_S)):
            other = gap(time, mode="paired", age_s=age_s)
            yield _row(f"gap after {when}, {METHODS['paired'].label}", "", other)
        digital = interval([(100.0, time.digital(BASELINE)), (-100.0, time.digital(TRAINED))], draws=draws)
        yield _row("gap of the noise-trained network, digital", "", digital)
        if trained is not None:
            yield _float_trained(time, trained, draws)


def _float_trained(time: Table, trained: Table, draws: int) -> dict[str, Any]:
    """By how much the network that was trained without noise is worse on the same chips, right after programming."""
    noisy = time.where(network=TRAINED, mode="none", age_s=0.0).chips().correct()
    plain = trained.where(network=FLOAT, mode="none", age_s=0.0).chips().correct()
    terms: list[Term] = [(100.0, noisy), (-100.0, plain)]
    found = interval(terms, draws=draws)
    errors = found.estimate / found.stderr if found.stderr else 0.0
    return {
        **_row("float-trained worse than noise-trained, right after programming", "clearly", found),
        "goal": f"> {CLEARLY:g} standard errors",
        "ours": f"{found.estimate:.2f} = {errors:.1f} standard errors",
        "verdict": _verdict(errors > CLEARLY),
    }


def _row(
    quantity: str,
    published: str,
    found: Interval,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> dict[str, Any]:
    """Judged by the estimate; whether the whole interval is on that side is for the reader to see."""
    goal = verdict = ""
    if at_most is not None:
        goal, verdict = f"<= {at_most}", _verdict(found.estimate <= at_most)
    if at_least is not None:
        goal, verdict = f">= {at_least}", _verdict(found.estimate >= at_least)
    return {
        "quantity": quantity,
        "published": published,
        "goal": goal,
        "ours": f"{found.estimate:.2f}" if found.stderr else f"{found.estimate:g}",
        "estimate": float(found.estimate),
        "low": float(found.low),
        "high": float(found.high),
        "standard_error": float(found.stderr),
        "verdict": verdict,
    }


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def markdown(found: list[dict[str, Any]]) -> list[str]:
    lines = ["| points, unless it says otherwise | published | goal | ours | 95 % | |", "|---|---|---|---|---|---|"]
    for row in found:
        bounds = f"{row['low']:.2f} to {row['high']:.2f}" if row["standard_error"] else ""
        facts = (row["quantity"], row["published"], row["goal"], row["ours"], bounds, row["verdict"])
        lines.append(f"| {' | '.join(facts)} |")
    return lines
