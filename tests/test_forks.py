"""What a forked child inherits works there or raises a typed error; nothing hangs, nothing of the parent breaks.

Each case is a process of its own (tests/forking.py): it forks, the child uses and closes what it inherited and ends as
any program does, and the parent goes on. A child that hangs is ended by SIGALRM, which shows as -14.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pcmedge
import pytest
from cli_process import environment
from service_devices import served
from service_models import classifier

FORKING = Path(__file__).parent / "forking.py"
NOISE = re.compile(r"^I\d{4} .*fork_posix.*\n", re.MULTILINE)
"""gRPC's own line on stderr about a fork while it was busy."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(classifier(), read_noise="off") as server:
        yield server.address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    classifier().save(tmp_path / "image.pcmi")
    shutil.copy(Path(pcmedge.__path__[0]) / "demo" / "digits.onnx", tmp_path / "model.onnx")
    return tmp_path


def run(case: str, argument: object, **more: str) -> list[str]:
    """The lines a case printed; it must have ended by itself, and said nothing else."""
    command = [sys.executable, str(FORKING), case, str(argument)]
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, NOISE.sub("", done.stderr)) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("case", ["inherited", "fresh", "busy"])
@pytest.mark.parametrize("support", ["1", ""])
def test_a_forked_child_has_a_connection_of_its_own(case: str, support: str, address: str) -> None:
    more = {"GRPC_ENABLE_FORK_SUPPORT": support} if support else {}
    answers = {"inherited": "((1, 4), (1, 4))"}
    assert run(case, address, **more) == [f"child: {answers.get(case, '(1, 4)')}", "ended: 0", "parent: (1, 4)"]


@pytest.mark.parametrize("case", ["inherited", "fresh", "busy", "streaming", "awaiting"])
def test_where_grpc_ignores_forks_the_child_is_told_at_once(case: str, address: str) -> None:
    said, ended, parent, *more = run(case, address, GRPC_ENABLE_FORK_SUPPORT="0")
    assert said.startswith("child: DeviceStateError gRPC was in use before process")
    assert (ended, parent) == ("ended: 0", "parent: (1, 4)")
    assert all("DeviceStateError" in line or line == "ended: 0" for line in more)


def test_streams_that_were_open_are_over_in_the_child_and_go_on_in_the_parent(address: str) -> None:
    said, *rest = run("streaming", address)
    assert said.startswith("child: this stream of ModelStreamInfer was made in process")
    assert said.endswith("(1, 4)")
    assert rest == ["ended: 0", "parent: (1, 4)"]


def test_an_open_async_device_is_refused_in_a_child_where_a_blocking_one_works(address: str) -> None:
    said, *rest = run("awaiting", address)
    assert said.startswith("child: gRPC was in use before process")
    assert "blocking client" in said
    assert said.endswith("(1, 4)")
    assert rest == ["ended: 0", "parent: (1, 4)", "child: (1, 4)", "ended: 0"]


def test_workers_of_a_data_loader_ask_the_device_they_inherited(address: str) -> None:
    assert run("loader", address) == ["parent: torch.Size([8, 4])"]


def test_an_emulator_in_process_is_the_parents(folder: Path) -> None:
    said, *rest = run("emulator", folder)
    assert said.startswith("child: this device (emulator emulator-0) was made in process")
    assert "in each process" in said
    assert rest == ["ended: 0", "child: did nothing", "ended: 0", "parent: (1, 4)", "stored: 2"]


def test_a_store_is_free_when_its_owner_closes_it_whatever_was_forked(folder: Path) -> None:
    assert run("outlived", folder) == ["parent: (1, 4)"]


@pytest.mark.parametrize(("case", "shape"), [("digital", "(1, 10)"), ("interpreter", "(1, 4)")])
def test_other_devices_in_process_are_the_parents_too(case: str, shape: str, folder: Path) -> None:
    said, *rest = run(case, folder)
    assert said.startswith("child: DeviceStateError this device (")
    assert rest == ["ended: 0", f"parent: {shape}"]


def test_a_pair_is_the_parents(folder: Path, address: str) -> None:
    said, *rest = run("fallback", f"{address}@{folder}")
    assert said.startswith("child: DeviceStateError this pair of devices was made in process")
    assert rest == ["ended: 0", "parent: (1, 4)"]


def test_a_child_of_a_serving_process_leaves_the_server_alone(folder: Path) -> None:
    assert run("server", folder) == ["child: left", "ended: 0", "parent: (1, 4)"]
