"""Several clients of one process that ask a device as fast as it answers: python -m benchmarks.measuring.load

Every client has a thread and a connection of its own and asks again when it is answered.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring.machine import ROOT


def measure(address: str, pictures: NDArray[Any], folder: Path, *, clients: int, seconds: float) -> int:
    """Requests answered within ``seconds``, by ``clients`` in a process of their own."""
    file = folder / "load.npy"
    np.save(file, pictures)
    home = os.pathsep.join([str(ROOT), str(ROOT / "sdk"), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.measuring.load", address, str(file), str(clients), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": home.rstrip(os.pathsep)},
    )
    return int(json.loads(found.stdout)["answered"])


def main(address: str, file: str, clients: str, seconds: str) -> None:
    import pcmedge

    pictures = np.load(file)
    count = int(clients)
    answered, together = [0] * count, threading.Barrier(count + 1)
    end_s = [0.0]

    def ask(number: int) -> None:
        with pcmedge.connect(address, wait_s=60) as device:
            for _ in range(3):
                device.infer(pictures)
            together.wait()
            together.wait()
            while time.perf_counter() < end_s[0]:
                device.infer(pictures)
                # An answer that came too late is none of these seconds'.
                answered[number] += time.perf_counter() < end_s[0]

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    together.wait(timeout=120)
    end_s[0] = time.perf_counter() + float(seconds)
    together.wait()
    for thread in threads:
        thread.join()
    print(json.dumps({"answered": sum(answered)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
