"""The contract grows only: whatever the committed baseline has is still there, with the same number, type and kind.

After an intended addition the baseline is renewed by copying sdk/pcmedge/_contract/contract.binpb over it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from pcmedge.protocol.version import CONTRACT_MINOR

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "tests" / "contract_baseline.binpb"


def facts(files: FileDescriptorSet) -> dict[str, Any]:
    """Everything a peer relies on, by name."""
    found: dict[str, Any] = {}

    def enum(prefix: str, descriptor: Any) -> None:
        found.update({f"enum {prefix}{descriptor.name}.{value.name}": value.number for value in descriptor.value})

    def message(prefix: str, descriptor: Any) -> None:
        name = f"{prefix}{descriptor.name}"
        found[f"message {name}"] = descriptor.options.SerializeToString(deterministic=True)
        for field in descriptor.field:
            oneof = descriptor.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            found[f"field {name}.{field.name}"] = (
                field.number,
                field.type,
                field.type_name,
                field.label,
                field.proto3_optional,
                oneof,
            )
        for nested in descriptor.nested_type:
            message(f"{name}.", nested)
        for nested in descriptor.enum_type:
            enum(f"{name}.", nested)

    for file in files.file:
        for descriptor in file.message_type:
            message(f"{file.package}.", descriptor)
        for descriptor in file.enum_type:
            enum(f"{file.package}.", descriptor)
        for service in file.service:
            for method in service.method:
                found[f"call {file.package}.{service.name}.{method.name}"] = (
                    method.input_type,
                    method.output_type,
                    method.client_streaming,
                    method.server_streaming,
                )
    return found


def broken(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """Names of what was removed or changed."""
    before, after = facts(old), facts(new)
    return [name for name, fact in before.items() if after.get(name, None) != fact]


def baseline() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(BASELINE.read_bytes())


def current() -> FileDescriptorSet:
    return FileDescriptorSet.FromString((resources.files("pcmedge._contract") / "contract.binpb").read_bytes())


def test_the_contract_changed_by_addition_only() -> None:
    assert len(facts(baseline())) > 400
    assert broken(baseline(), current()) == []


def _without_a_field(files: FileDescriptorSet) -> None:
    del files.file[1].message_type[1].field[0]


def _renumbered(files: FileDescriptorSet) -> None:
    files.file[1].message_type[1].field[0].number = 1000


def _retyped(files: FileDescriptorSet) -> None:
    files.file[1].message_type[1].field[0].type = FieldDescriptorProto.TYPE_BYTES


def _without_a_call(files: FileDescriptorSet) -> None:
    del files.file[1].service[0].method[0]


def _without_streaming(files: FileDescriptorSet) -> None:
    for method in files.file[1].service[0].method:
        method.server_streaming = False


def _renamed_enum_value(files: FileDescriptorSet) -> None:
    files.file[1].enum_type[0].value[1].name = "SOMETHING_ELSE"


@pytest.mark.parametrize(
    "change",
    [_without_a_field, _renumbered, _retyped, _without_a_call, _without_streaming, _renamed_enum_value],
)
def test_every_breaking_change_is_noticed(change: Callable[[FileDescriptorSet], None]) -> None:
    changed = current()
    change(changed)
    assert broken(baseline(), changed)


def test_an_addition_is_no_break() -> None:
    changed = current()
    field = changed.file[1].message_type[1].field.add()
    field.name, field.number, field.type = "something_new", 1000, FieldDescriptorProto.TYPE_DOUBLE
    assert broken(baseline(), changed) == []


MINORS = {1: "99e02e22e2216718"}
"""What the contract was at each minor; a released one is never changed."""


def test_an_addition_is_counted() -> None:
    lines = "\n".join(f"{name}={fact}" for name, fact in sorted(facts(current()).items()))
    digest = hashlib.sha256(lines.encode()).hexdigest()[:16]
    assert MINORS.get(CONTRACT_MINOR) == digest, (
        f"the contract has changed since minor {CONTRACT_MINOR}: raise CONTRACT_MINOR in pcmedge/protocol/version.py, "
        f"and record {digest!r} for it here (for a minor that was never released: instead of what is there)"
    )
    assert max(MINORS) == CONTRACT_MINOR


def test_the_generated_code_is_what_protoc_makes_of_the_sources() -> None:
    script = ROOT / "scripts" / "generate_contract.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("order", ["pcmedge first", "tritonclient first"])
def test_another_client_of_the_same_protocol_shares_the_process(order: str) -> None:
    imports = ["import pcmedge.protocol.services as ours", "import tritonclient.grpc as theirs"]
    if order == "tritonclient first":
        imports.reverse()
    check = (
        "from tritonclient.grpc import service_pb2\n"
        "mine = ours.METHODS['ModelInfer'].request(model_name='digits', id='7')\n"
        "other = service_pb2.ModelInferRequest.FromString(mine.SerializeToString())\n"
        "assert (other.model_name, other.id) == ('digits', '7')\n"
        "assert type(other) is not type(mine)\n"
    )
    code = "\n".join([*imports, check])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
