"""Generate the Python code of the contract from proto/ into sdk/pcmedge/_contract.

Two things differ from plain protoc output. Messages are registered in a descriptor pool of our own, so that
tritonclient, kserve and vendors' stubs, which define the same ``package inference``, can live in one process with us.
And modules import each other by their place in this package.

Run ``python scripts/generate_contract.py`` after editing a .proto; ``--check`` fails if the committed code is stale.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
TARGET = ROOT / "sdk" / "pcmedge" / "_contract"
SOURCES = {
    "pcm/image/v1/image.proto": "image",
    "pcm/device/v1/device.proto": "device",
    "pcm/lab/v1/lab.proto": "lab",
    "inference/open_inference_grpc.proto": "inference",
}
BASELINE = "contract.binpb"


def generate(folder: Path) -> dict[str, str | bytes]:
    """Run protoc and return {file name in _contract: content}."""
    include = str(resources.files("grpc_tools").joinpath("_proto"))
    code = protoc.main(
        ["protoc", f"-I{PROTO}", f"-I{include}", f"--python_out={folder}", f"--pyi_out={folder}",
         f"--descriptor_set_out={folder / BASELINE}", *SOURCES]
    )  # fmt: skip
    if code != 0:
        raise SystemExit(f"protoc failed with status {code}")
    files: dict[str, str | bytes] = {BASELINE: (folder / BASELINE).read_bytes()}
    for source, name in SOURCES.items():
        stem = source.removesuffix(".proto")
        files[f"{name}_pb2.py"] = _private_pool((folder / f"{stem}_pb2.py").read_text())
        files[f"{name}_pb2.pyi"] = (folder / f"{stem}_pb2.pyi").read_text()
    return files


def _private_pool(text: str) -> str:
    text, count = re.subn(
        r"^from google\.protobuf import descriptor_pool as _descriptor_pool$",
        "from pcmedge._contract.pool import POOL as _POOL",
        text,
        flags=re.MULTILINE,
    )
    text, uses = re.subn(r"_descriptor_pool\.Default\(\)", "_POOL", text)
    if count != 1 or uses != 1:
        raise SystemExit("protoc's output changed shape; adapt scripts/generate_contract.py")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder))
    stale = []
    for name, content in files.items():
        path = TARGET / name
        data = content.encode() if isinstance(content, str) else content
        if not path.exists() or path.read_bytes() != data:
            stale.append(name)
            if not check:
                path.write_bytes(data)
    if check and stale:
        print(f"stale generated code: {', '.join(stale)}; run: python scripts/generate_contract.py", file=sys.stderr)
        return 1
    print(f"contract: {'up to date' if check or not stale else 'wrote ' + ', '.join(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
