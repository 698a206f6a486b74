"""A process that has loaded everything and forks ``pcmedge serve`` on demand, so that a kill costs no start of Python.

Reads lines of JSON, the command line's arguments, on standard input; answers each with the process id of a child that
runs it, and with "dead" when the child is gone. The child is the command line as installed, in a process group and with
descriptors of its own; nothing of gRPC was started before the fork.
"""

from __future__ import annotations

import json
import os
import sys

import onnx
import onnxruntime
import pcmedge_emulator.service.server
import pyarrow.ipc
from pcmedge.cli import main as cli

LOADED = (onnx, onnxruntime, pyarrow.ipc, pcmedge_emulator.service.server)


def main() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for line in sys.stdin:
        arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            for descriptor in (0, 1):
                os.dup2(nothing, descriptor)
            os._exit(cli.run(arguments))
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()
