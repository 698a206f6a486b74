"""Model → chip image: graph passes, placement on tiles, weight scaling, converter ranges, cost estimate, report.

And back: ``digital_statistics`` and ``with_buffer`` measure an image's network on samples of your own, digitally.

All three need the extra ``emulator`` (onnx, onnxruntime, pyarrow), ``compile`` for torch modules the extra ``train``.
``pcmedge.compiler.report`` draws the placement of an existing image and needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcmedge.errors import MissingExtraError

if TYPE_CHECKING:
    from .digital import digital_statistics, with_buffer
    from .pipeline import compile

__all__ = ["compile", "digital_statistics", "with_buffer"]

_HOMES = {
    "compile": ("pipeline", "Compiling a model"),
    "digital_statistics": ("digital", "Measuring digital statistics"),
    "with_buffer": ("digital", "Replacing the calibration buffer of an image"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pcmedge.compiler' has no attribute {name!r}")
    home, needed_for = _HOMES[name]
    _require_extra(needed_for)
    return getattr(import_module(f"pcmedge.compiler.{home}"), name)


def _require_extra(needed_for: str) -> None:
    try:
        for package in ("onnx", "onnxruntime", "pyarrow"):
            import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", needed_for) from error
