"""The public face of pcmedge is exactly what __all__ says, and importing it pulls in nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pcmedge
from pcmedge import errors

HEAVY = ["torch", "onnx", "onnxruntime", "pyarrow", "matplotlib", "pcmedge_emulator"]


def test_every_public_name_exists() -> None:
    missing = [name for name in pcmedge.__all__ if getattr(pcmedge, name, None) is None]
    assert missing == []
    assert dir(pcmedge) == sorted(pcmedge.__all__)
    assert {"Emulator", "AsyncEmulator", "connect", "connect_async"} <= set(pcmedge.__all__)


def test_base_import_is_thin() -> None:
    code = (
        "import sys, pcmedge; pcmedge.connect, pcmedge.Device, pcmedge.ChipImage; "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_reasons_are_unique_and_resolve_to_their_class() -> None:
    # Classes made on the way (pcmedge.tflite's, which are built-in errors as well) keep the reasons of their kinds.
    kinds = [
        kind for kind in (errors.Error, *_descendants(errors.Error)) if getattr(errors, kind.__name__, None) is kind
    ]
    reasons = [kind.reason for kind in kinds if kind not in (errors.Error, errors.InternalError)]
    assert len(reasons) == len(set(reasons))
    for kind in kinds[1:]:
        rebuilt = errors.error_from_reason(kind.reason, "a message", {"key": "value"})
        assert type(rebuilt) is kind
        assert rebuilt.metadata == {"key": "value"}


def _descendants(root: type[errors.Error]) -> list[type[errors.Error]]:
    return [kind for child in root.__subclasses__() for kind in (child, *_descendants(child))]
