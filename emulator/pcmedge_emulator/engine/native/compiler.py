"""Compiling ``read_out.c`` with the system's C compiler, and what decides whether a compiled one still fits."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import threading
from pathlib import Path

import onnxruntime

from pcmedge_emulator.engine.native.child import Failed, run

SOURCES = tuple(Path(__file__).with_name(name) for name in ("read_out.c", "measure.h", "codes.h", "ort.h"))

_COMPILERS = ("cc", "gcc", "clang")
_LIMIT_S = 60.0
# Nothing may be contracted or reordered: results are those of the standard operators, bit for bit.
_FLAGS = (
    *("-std=gnu11", "-O2", "-ftree-vectorize", "-fopenmp-simd", "-ffp-contract=off", "-fno-math-errno"),
    *("-fno-trapping-math", "-fvisibility=hidden", "-fPIC", "-shared"),
)
# For this processor; without them where a compiler does not know them.
_TUNED: tuple[tuple[str, ...], ...] = (
    ("-march=native", "-mprefer-vector-width=512"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)


def compiler() -> str | None:
    """Path of a C compiler; None without one."""
    found = (shutil.which(name) for name in _COMPILERS)
    # Not one of the current folder, whoever wrote that.
    return next((path for path in found if path is not None and os.path.isabs(path)), None)


def key(with_compiler: str) -> str:
    """Differs where another library is needed: sources, flags, compiler, processor, ONNX Runtime."""
    place = os.stat(with_compiler)
    parts = [
        *(path.read_bytes() for path in SOURCES),
        repr((_FLAGS, _TUNED, os.path.realpath(with_compiler), place.st_size, place.st_mtime_ns)).encode(),
        repr((onnxruntime.__version__, platform.system(), platform.machine(), _processor())).encode(),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def compile_to(library: Path, with_compiler: str, over: threading.Event) -> None:
    """Make the library; what the compiler needs meanwhile is beside it.

    Raises :class:`Failed` with the compiler's first line that says why, or Interrupted.
    """
    why = ""
    for tuned in _TUNED:
        command = [with_compiler, *_FLAGS, *tuned, str(SOURCES[0]), "-o", str(library), "-lm"]
        status, said = run(command, _LIMIT_S, over, LC_ALL="C", TMPDIR=str(library.parent))
        if status == 0 and library.is_file():
            return
        why = why or next((line for line in said.splitlines() if "error" in line), f"status {status}")
    raise Failed(why)


def _processor() -> str:
    """What instructions the processor has: a library made for others would end the process."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split("\t")[0].split(":")[0].strip() in wanted}))
