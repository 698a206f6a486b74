"""Drift studies: how accuracy holds over time, for any image and labelled data.

::

    study = run_study("model.pcmi", pictures, labels, plan=DriftPlan(chips=5))
    study.to_parquet("drift.parquet")
    study.plot("drift.png")

Needs the ``emulator`` extra. See docs/drift-studies.md.
"""

from __future__ import annotations

from pcmedge.drift.plan import MODES, DriftPlan
from pcmedge.drift.plot import plot_summary
from pcmedge.drift.result import Difference, DriftStudy, Row, Summary, difference, summarise
from pcmedge.drift.run import run_study

__all__ = [
    "MODES",
    "Difference",
    "DriftPlan",
    "DriftStudy",
    "Row",
    "Summary",
    "difference",
    "plot_summary",
    "run_study",
    "summarise",
]
