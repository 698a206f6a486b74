"""Model → chip image: graph passes, placement on tiles, weight scaling, converter ranges, cost estimate, report.

``compile`` needs the extra ``emulator`` (onnx, onnxruntime, pyarrow), for torch modules the extra ``train``.
``pcmedge.compiler.report`` draws the placement of an existing image and needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcmedge.errors import MissingExtraError

if TYPE_CHECKING:
    from .pipeline import compile

__all__ = ["compile"]


def __getattr__(name: str) -> Any:
    if name == "compile":
        _require_extra()
        from .pipeline import compile

        return compile
    raise AttributeError(f"module 'pcmedge.compiler' has no attribute {name!r}")


def _require_extra() -> None:
    try:
        for package in ("onnx", "onnxruntime", "pyarrow"):
            import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "Compiling a model") from error
