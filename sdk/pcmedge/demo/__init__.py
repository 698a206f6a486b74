"""The demo: a digits network on emulated chips lives through a year, over gRPC. ``pcmedge demo`` runs it.

::

    result = pcmedge.demo.run("pcmedge-demo")
    print(result.last("adabs").accuracy_mean, result.gain)
"""

from __future__ import annotations

from pcmedge.demo.digits import Digits, Pictures, load_digits
from pcmedge.demo.result import DemoResult
from pcmedge.demo.run import DEFAULT_OUTPUT, compile_digits, run
from pcmedge.demo.view import (
    LiveView,
    PlainView,
    QuietView,
    View,
    choose_view,
    closing_lines,
    final_table,
)

__all__ = [
    "DEFAULT_OUTPUT",
    "DemoResult",
    "Digits",
    "LiveView",
    "Pictures",
    "PlainView",
    "QuietView",
    "View",
    "choose_view",
    "closing_lines",
    "compile_digits",
    "final_table",
    "load_digits",
    "run",
]
