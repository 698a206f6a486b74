"""Several applications, each a process of its own, and several resident models share one device."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pcmedge
import pytest
from cli_process import environment, killed_in_the_end, run
from service_devices import served
from service_models import classifier

PROGRAM = Path(__file__).parent / "sharing.py"
ROUNDS = 4


@contextlib.contextmanager
def application(address: str, *arguments: object) -> Iterator[Any]:
    command = [sys.executable, str(PROGRAM), address, *map(str, arguments)]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: Any) -> str:
    with killed_in_the_end(process):
        return str(process.stdout.readline()).strip()


def finished(process: Any) -> Any:
    """What it saw, after it was told to end."""
    out, err = process.communicate("\n", timeout=60)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


def test_one_reprograms_under_a_lease_and_the_others_never_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.pcmi", tmp_path / "two.pcmi"
    classifier("shared", seed=1).save(one)
    classifier("shared", seed=2).save(two)
    with (
        served(classifier("shared", seed=2), classifier("lone"), read_noise="off") as server,
        pcmedge.connect(server.address) as device,
    ):
        for name in ("shared", "lone"):
            device.set_policy("manual", model=name)
        with application(server.address, "programs", ROUNDS, one, two) as updater:
            assert first_line(updater) == "leased"
            with (
                application(server.address, "shared", 0) as shared,
                application(server.address, "lone", 0) as lone,
            ):
                for process in (shared, lone):
                    assert first_line(process) == "asking"
                assert finished(updater) == {"programmed": ROUNDS}
                saw_shared, saw_lone = finished(shared), finished(lone)
        events = device.events()
        assert [model.name for model in device.models()] == ["lone", "shared"]
        listing = run(capsys, "events", "--device", server.address, "--json")
    # The model nobody touched gave one answer throughout, from one programming.
    assert len(saw_lone["answers"]) == 1
    # Each answer of the other one is that of a whole programming: never two answers of one generation.
    generations = [key.partition(" ")[0] for key in saw_shared["answers"]]
    assert len(generations) == len(set(generations)) >= 1
    # While the lease was held nobody else changed anything, and was told by whom.
    assert saw_shared["refused"] == saw_lone["refused"] == "updater"
    programmed = [event for event in events if event.kind == "programmed"]
    assert [event.details.get("holder", "") for event in programmed] == ["", "", *["updater"] * ROUNDS]
    assert "deactivated" not in {event.kind for event in events}
    assert "updater" in listing.out


def test_models_of_one_device_answer_side_by_side_in_one_process() -> None:
    with pcmedge.Emulator(clock="manual", read_noise="off") as device:
        for name, seed in (("a", 1), ("b", 2), ("c", 3)):
            device.program(classifier(name, seed=seed))
        lease = device.acquire_lease("maintenance")
        device.deactivate("b", mutation=pcmedge.device.Mutation(lease_id=lease.lease_id))
        device.release_lease(lease)
        assert device.events()[-1].details["holder"] == "maintenance"
        assert device.set_policy("manual", model="a").kind == "manual"
        assert "holder" not in device.events()[-1].details
        with pytest.raises(pcmedge.errors.InputError, match="a, c"):
            device.infer([[[[0.0] * 6] * 6]])
