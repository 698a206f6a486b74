"""How gRPC waits for the network in a process of ours."""

from __future__ import annotations

import os
import sys
from importlib import metadata

VARIABLE = "GRPC_EXPERIMENTS"
WAIT_IN_PLACE = "-event_engine_client,-event_engine_listener"
"""Whoever waits for an answer polls its socket itself, as in every grpcio before 1.80. Since then a pool of threads
polls and hands over, which costs two wake-ups of a thread more in each direction; benchmarks/serving.py measures both.
"""
_KNOWN = ((1, 80), (1, 85))
"""The first and the last grpcio minor version known to have the choice. Others would print that they do not know it."""


def wait_in_place() -> None:
    """Choose the shorter way for this process, unless the user chose something or gRPC runs already.

    For commands only: a library must not decide for all of an application's gRPC; docs/client.md tells them how.
    """
    if "grpc" in sys.modules or VARIABLE in os.environ:
        return
    try:
        major, minor = metadata.version("grpcio").split(".")[:2]
        known = _KNOWN[0] <= (int(major), int(minor)) <= _KNOWN[1]
    except (metadata.PackageNotFoundError, ValueError):
        return
    if known:
        os.environ[VARIABLE] = WAIT_IN_PLACE
