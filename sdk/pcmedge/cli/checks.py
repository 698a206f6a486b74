"""What ``pcmedge doctor`` looks at in this installation: versions, extras, combinations known to break.

Everything is read from package metadata, or asked of another process, so a package that dies at import is still
diagnosed.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

Status = Literal["ok", "warn", "fail"]

_NATIVE_S = 180.0

EXTRAS = {
    "emulator": "compile ONNX and .tflite models, emulate a device, run the demo",
    "train": "compile torch modules, train with noise",
    "tflite": "run .tflite models digitally, beside a chip",
    "tflite-runtime": "the same on the older runtime (Python 3.11, NumPy 1)",
    "data": "read and write Parquet, draw plots, read pictures",
}
"""The extras and what each is for."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding. ``advice`` is empty when there is nothing to do."""

    area: str
    name: str
    status: Status
    found: str
    advice: str = ""


def installation() -> list[Check]:
    """All checks of this installation, base install first."""
    return [*_basics(), _contract(), *_requirements(), *_extras(), _tflite_runtime(), *_combinations(), *_native()]


def _native() -> Iterator[Check]:
    """The emulator's compiled read-outs, made now if they can be. Asked of another process: it imports a runtime."""
    if installed_version("onnxruntime") is None:
        return
    command = [sys.executable, "-m", "pcmedge_emulator.engine.native"]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_NATIVE_S, check=True)
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as problem:
        yield Check(
            area="emulator",
            name="native read-outs",
            status="warn",
            found=f"cannot be asked for: {problem}",
            advice="Inferences are slower and no less right; PCMEDGE_NATIVE=0 leaves them out.",
        )
        return
    text = f"{found['status']}: {found['why']}" if found["why"] else str(found["status"])
    lacks_one = found["why"] == "no C compiler"
    advice = "With a C compiler, inferences would be faster." if lacks_one else ""
    yield Check(area="emulator", name="native read-outs", status="ok", found=text, advice=advice)


def _basics() -> Iterator[Check]:
    yield Check(area="sdk", name="pcmedge", status="ok", found=metadata.version("pcmedge"))
    version = platform.python_version()
    supported = sys.version_info >= (3, 11)
    advice = "" if supported else "pcmedge needs Python 3.11 or newer; make a new environment with one."
    yield Check(area="sdk", name="python", status="ok" if supported else "fail", found=version, advice=advice)
    on_linux = sys.platform == "linux"
    advice = "" if on_linux else "Only Linux is tested; the client is plain Python and should work."
    machine = f"{platform.system()} {platform.machine()}"
    yield Check(area="sdk", name="platform", status="ok" if on_linux else "warn", found=machine, advice=advice)


@dataclass(frozen=True)
class Requirement:
    """One line of our package metadata: name, version bounds, and the extra that asks for it ("" for the base)."""

    name: str
    bounds: tuple[tuple[str, str], ...]
    extra: str

    @property
    def text(self) -> str:
        return self.name + ",".join(operator + version for operator, version in self.bounds)


def requirements() -> list[Requirement]:
    """What pcmedge's own metadata asks for. The build has resolved extras that name extras."""
    found = []
    for line in metadata.requires("pcmedge") or []:
        text, _, marker = line.partition(";")
        match = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        name = re.match(r"[\w.-]+", text.strip())
        if name is None or name.group().lower() == "pcmedge":
            continue
        bounds = tuple(re.findall(r"(==|>=|<=|!=|~=|<|>)\s*([\w.]+)", text))
        found.append(Requirement(name.group(), bounds, match.group(1) if match else ""))
    return found


def _requirements() -> Iterator[Check]:
    for needed in requirements():
        if needed.extra == "":
            yield _installed(needed, area="dependencies")


def _installed(needed: Requirement, *, area: str) -> Check:
    version = installed_version(needed.name)
    line = f"Run: pip install '{needed.text}'"
    if version is None:
        return Check(area=area, name=needed.name, status="fail", found="not installed", advice=line)
    if not all(_within(version, operator, bound) for operator, bound in needed.bounds):
        found = f"{version}, needs {needed.text.removeprefix(needed.name)}"
        return Check(area=area, name=needed.name, status="fail", found=found, advice=line)
    return Check(area=area, name=needed.name, status="ok", found=version)


def _extras() -> Iterator[Check]:
    wanted = requirements()
    for extra, purpose in EXTRAS.items():
        parts = [_installed(item, area="extras") for item in wanted if item.extra == extra]
        missing = [part for part in parts if part.status == "fail"]
        elsewhere = {item.name for item in wanted if item.extra == "" or (item.extra in EXTRAS and item.extra != extra)}
        own = [part for part in parts if part.name not in elsewhere]
        pip = f"To {purpose}: pip install 'pcmedge[{extra}]'"
        if not missing:
            found = ", ".join(f"{part.name} {part.found}" for part in parts)
            yield Check(area="extras", name=extra, status="ok", found=found)
        elif all(part.found == "not installed" for part in own or missing):
            missing = [part for part in missing if part.found == "not installed"]
            names = ", ".join(part.name for part in missing)
            yield Check(area="extras", name=extra, status="ok", found=f"not installed ({names})", advice=pip)
        else:
            found = "; ".join(f"{part.name} {part.found}" for part in missing)
            yield Check(area="extras", name=extra, status="warn", found=found, advice=pip)


def _tflite_runtime() -> Check:
    """Which runtime a digital device would take for a .tflite file."""
    for name in ("ai-edge-litert", "tflite-runtime"):
        if (version := installed_version(name)) is not None:
            return Check(area="extras", name="TFLite runtime", status="ok", found=f"{name} {version}")
    return Check(area="extras", name="TFLite runtime", status="ok", found="none; only DigitalDevice needs one")


def _combinations() -> Iterator[Check]:
    """Pairs that pip installs side by side without a word and that fail when used."""
    problems = list(known_bad({name: installed_version(name) for name in _COMBINED}))
    if not problems:
        yield Check(area="combinations", name="known conflicts", status="ok", found="none")
    yield from problems


_COMBINED = (
    "numpy",
    "pyarrow",
    "tflite-runtime",
    "protobuf",
    "tritonclient",
    "kserve",
    "onnxruntime-gpu",
    "onnxruntime",
)


def known_bad(versions: dict[str, str | None]) -> Iterator[Check]:
    """The known-bad combinations among ``versions`` (name to version, None if not installed)."""

    def at_least(name: str, bound: str) -> bool:
        version = versions.get(name)
        return version is not None and _within(version, ">=", bound)

    def conflict(name: str, status: Status, found: str, advice: str) -> Check:
        return Check(area="combinations", name=name, status=status, found=found, advice=advice)

    if at_least("pyarrow", "26") and versions.get("numpy") and not at_least("numpy", "2"):
        found = f"pyarrow {versions['pyarrow']} refuses NumPy {versions['numpy']} when imported"
        yield conflict(
            "pyarrow/numpy", "fail", found, "Run: pip install 'numpy>=2', or 'pyarrow<26' to stay on NumPy 1."
        )
    if versions.get("tflite-runtime") and at_least("numpy", "2"):
        found = f"tflite-runtime {versions['tflite-runtime']} crashes under NumPy {versions['numpy']}"
        yield conflict(
            "tflite-runtime/numpy", "fail", found, "Use ai-edge-litert instead: pip install 'pcmedge[tflite]'"
        )
    for client in ("tritonclient", "kserve"):
        if versions.get(client) and at_least("protobuf", "7"):
            found = f"{client} {versions[client]} is built for protobuf below 7, found {versions['protobuf']}"
            yield conflict(f"{client}/protobuf", "warn", found, "Run: pip install 'protobuf>=6.31.1,<7'")
    if versions.get("onnxruntime") and versions.get("onnxruntime-gpu"):
        found = "onnxruntime and onnxruntime-gpu overwrite each other's files"
        yield conflict(
            "onnxruntime", "warn", found, "Keep one: pip uninstall onnxruntime-gpu; pip install -U onnxruntime"
        )


def _contract() -> Check:
    """Whether the generated contract loads on the protobuf found here."""
    try:
        from pcmedge._contract import device_pb2

        service = device_pb2.DESCRIPTOR.services_by_name["DeviceService"]
    except Exception as problem:  # protobuf raises its own VersionError, TypeError or ImportError here
        advice = "Run: pip install 'protobuf>=6.31.1,<8'"
        return Check(area="sdk", name="contract", status="fail", found=f"does not load: {problem}", advice=advice)
    return Check(area="sdk", name="contract", status="ok", found=f"{service.full_name}, {len(service.methods)} calls")


def installed_version(name: str) -> str | None:
    """Version of a distribution, None if it is not installed. Does not import it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _within(version: str, operator: str, bound: str) -> bool:
    left, right = _numbers(version), _numbers(bound)
    width = max(len(left), len(right))
    left, right = (*left, *[0] * (width - len(left))), (*right, *[0] * (width - len(right)))
    match operator:
        case "==":
            return left == right
        case "!=":
            return left != right
        case ">=" | "~=":
            return left >= right
        case "<=":
            return left <= right
        case "<":
            return left < right
        case _:
            return left > right


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version: "6.33.6rc1" is (6, 33, 6). Enough for bounds such as ours."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()
