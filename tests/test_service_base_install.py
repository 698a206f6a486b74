"""Talking to a device needs the base install only; emulating one says which extra is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from service_devices import served
from service_models import LABELS, classifier

_WITHOUT = """
import sys

EXTRAS = {"onnx", "onnxruntime", "onnxscript", "pyarrow", "torch", "matplotlib", "grpc_health", "ai_edge_litert"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", _WITHOUT + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_connecting_programming_inferring_and_classifying(tmp_path: Path) -> None:
    classifier().save(tmp_path / "image.pcmi")
    code = (
        "import numpy as np, pcmedge\n"
        "with pcmedge.connect(sys.argv[1]) as device:\n"
        "    device.program(sys.argv[2])\n"
        "    assert device.infer(np.zeros((2, 1, 6, 6), np.float32)).shape == (2, 4)\n"
        "    assert len(list(device.infer_stream([np.zeros((2, 1, 6, 6), np.float32)] * 3))) == 3\n"
        "    print(device.classify(np.zeros((6, 6), np.uint8), top_k=1)[0][0])\n"
    )
    with served() as server:
        done = run(code, server.address, str(tmp_path / "image.pcmi"))
    assert done.stdout.strip() in LABELS, done.stderr


def test_a_missing_extra_is_an_error_with_the_line_that_installs_it() -> None:
    code = (
        "import pcmedge\n"
        "from pcmedge.errors import MissingExtraError\n"
        "try:\n"
        "    pcmedge.Emulator()\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = run(code)
    assert "pip install 'pcmedge[emulator]'" in done.stdout, done.stderr
