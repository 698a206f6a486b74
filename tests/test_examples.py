"""The examples run as they say: the first writes an image, the second calls a service that holds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cli_process import start

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(example: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    found = subprocess.run(
        [sys.executable, str(EXAMPLES / example)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_train_deploy_and_call(tmp_path: Path) -> None:
    printed = run("train_and_deploy.py", tmp_path)
    shares = [float(line.split()[-1].rstrip("%")) for line in printed.strip().splitlines()]
    programmed, aged, healed = shares
    assert programmed > 90
    assert aged < programmed
    assert healed > 90

    with start("serve", tmp_path / "my-digits.pcmi", "--listen", "127.0.0.1:0", "--json") as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            answer = run("call_a_service.py", tmp_path, {"PCMEDGE_DEVICE": address})
        finally:
            server.terminate()
    assert "emulated: True" in answer
    assert "of 400 digits right" in answer
