"""Start the emulator as a process of its own and connect to its devices."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pcmedge.device import Device, connect
from pcmedge.errors import MissingExtraError, UnavailableError

STOP_S = 5.0


@dataclass(frozen=True, kw_only=True)
class DeviceSpec:
    """``name``: of the socket; devices with the same ``serial`` and ``seed`` are twins, equal in every random draw."""

    name: str
    serial: str
    seed: int


@contextmanager
def emulator_process(devices: Sequence[DeviceSpec], physics: str) -> Iterator[dict[str, Device]]:
    """Connected devices by name; process, sockets and connections are gone afterwards.

    Raises MissingExtraError without the emulator extra, UnavailableError if the process does not come up.
    """
    _require_emulator()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pcmedge-demo-", ignore_cleanup_errors=True))
        errors = stack.enter_context((Path(folder) / "errors.txt").open("w+", encoding="utf-8"))
        process = subprocess.Popen(
            [sys.executable, "-m", "pcmedge.demo.rack"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        stack.callback(_stop, process)
        assert process.stdin is not None
        assert process.stdout is not None
        spec = {"folder": folder, "physics": physics, "devices": [vars(device) for device in devices]}
        process.stdin.write(json.dumps(spec) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            process.wait(STOP_S)
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise UnavailableError(f"The emulator's process ended with code {process.returncode}: {last}")
        addresses: dict[str, str] = json.loads(line)["addresses"]
        yield {name: stack.enter_context(connect(address)) for name, address in addresses.items()}


def _require_emulator() -> None:
    try:
        import grpc_health.v1
        import onnxruntime
        import pcmedge_emulator.chip  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("emulator", "The demo") from error
    del grpc_health, onnxruntime


def _stop(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
