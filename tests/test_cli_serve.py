"""``pcmedge serve`` as a process: addresses, stores, signals, and what its clients see of them."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from cli_models import write_large_image, write_sources
from cli_process import ENTRY, killed_in_the_end, run, run_process, served, start, wait_for


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = write_sources(tmp_path_factory.mktemp("sources"))
    target = sources.folder / "small.pcmi"
    pcmedge.compile(sources.model, calibration=np.load(sources.data)).save(target)
    return target


def test_lab_verbs_need_a_device_served_with_lab(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served("--physics", "ideal") as (url, process):
        result = run(capsys, "lab", "advance", "1d", "--device", url, "--json")
        assert (result.code, result.error["reason"]) == (9, "UNIMPLEMENTED")
        empty = run(capsys, "self-test", "--device", url, "--json")
        assert (empty.code, empty.error["reason"]) == (5, "NOT_PROGRAMMED")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def test_without_a_store_serve_says_that_state_is_in_memory(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with start("serve", "--listen", "127.0.0.1:0", "--ready-file", ready) as process:
        wait_for(ready.exists)
        written = json.loads(ready.read_text())
        assert written["persistent"] is False
        assert written["pid"] == process.pid
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"listening on {written['address']}" in out
    assert "in memory only" in err
    assert not ready.exists()


SIGNAL_TAKEN_BY_ANOTHER_THREAD = """
import pathlib, signal, sys, threading, time
def interrupt():
    while not pathlib.Path(sys.argv[-1]).exists():
        time.sleep(0.01)
    time.sleep(0.3)  # the main thread waits by now
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(60)
threading.Thread(target=interrupt, daemon=True).start()
from pcmedge.cli.main import main
main()
"""


def test_a_signal_that_another_thread_takes_stops_it_too(tmp_path: Path) -> None:
    """As one does that comes in the instant before the service waits: no system call is interrupted by it."""
    entry = (sys.executable, "-c", SIGNAL_TAKEN_BY_ANOTHER_THREAD)
    stopped = run_process("serve", "--listen", "127.0.0.1:0", "--ready-file", tmp_path / "ready", entry=entry)
    assert stopped.code == 0
    assert "stopping" in stopped.err


def test_a_store_keeps_the_device_and_its_image(image: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with served(image, "--store", store, "--serial", "pcm-7") as (url, _), pcmedge.connect(url) as connected:
        first = connected.models()[0]
    with served(image, "--store", store) as (url, _), pcmedge.connect(url) as connected:
        assert connected.identity().serial == "pcm-7"
        second = connected.models()[0]
    assert second.program_generation == first.program_generation == 1
    assert second.programmed_at_unix_s == first.programmed_at_unix_s


def test_address_in_use_and_store_in_use_are_told_apart(image: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with served("--store", store) as (url, _):
        listen = url.removeprefix("grpc://")
        taken = run_process("serve", "--listen", listen, "--json")
        assert (taken.code, taken.error["reason"]) == (7, "ADDRESS_IN_USE")
        busy = run_process("serve", "--listen", "127.0.0.1:0", "--store", store, "--json")
        assert (busy.code, busy.error["reason"]) == (8, "STORE_IN_USE")


def test_an_unwritable_store_is_exit_code_8(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = run_process("serve", "--listen", "127.0.0.1:0", "--store", blocked / "store", "--json")
    assert (result.code, result.error["reason"]) == (8, "STORE_UNWRITABLE")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "nowhere"),
        ("--clock", "backwards"),
        ("--physics", "no-such-physics"),
        ("--profile", "no-such-profile"),
        ("--listen", "192.0.2.1:7390"),
        ("--max-batch-size", "0"),
        ("--max-batch-size", "4096"),
        ("--max-batch-size", "8", "--max-queue-delay", "soon"),
        ("--max-queue-delay", "2ms"),
        ("--max-queue-size", "0"),
        ("--max-batches-at-once", "0"),
    ],
    ids=" ".join,
)
def test_wrong_serve_options_are_exit_code_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "serve", *arguments, "--json")
    assert result.code == 2, result.out
    assert result.error["message"]


def test_a_served_device_batches_as_it_was_told(image: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    options: tuple[Any, ...] = ("--max-batch-size", "2", "--max-queue-delay", "1h", "--max-queue-size", "5")
    options += ("--max-batches-at-once", "3", "--ready-file", ready)
    with served(image, *options) as (url, _), pcmedge.connect(url, timeout_s=60.0) as one:
        told = json.loads(ready.read_text())
        assert (told["max_batch_size"], told["max_queue_delay_s"], told["max_queue_size"]) == (2, 3600.0, 5)
        assert told["max_batches_at_once"] == 3
        spec = one.model_spec().inputs[0]
        sample = np.zeros((1, *spec.shape[1:]), np.float32)
        # Each would wait an hour alone: they are answered because they share a run.
        with pcmedge.connect(url, timeout_s=60.0) as two, ThreadPoolExecutor(2) as pool:
            answers = [future.result() for future in [pool.submit(device.infer, sample) for device in (one, two)]]
        assert [len(answer) for answer in answers] == [1, 1]


def test_the_emulator_package_serves_too() -> None:
    entry = (ENTRY[0], "-m", "pcmedge_emulator")
    with start("--listen", "127.0.0.1:0", "--json", entry=entry) as process:
        assert process.stdout is not None
        with killed_in_the_end(process):
            assert json.loads(process.stdout.readline())["event"] == "ready"
        process.terminate()
        assert json.loads(process.communicate(timeout=60)[0].splitlines()[-1])["event"] == "stopped"
        assert process.returncode == 0


def test_ctrl_c_while_watching_is_exit_code_130(address: str) -> None:
    with start("telemetry", "--watch", "--interval", "0.05", "--json", PCMEDGE_DEVICE=address) as process:
        assert process.stdout is not None
        with killed_in_the_end(process):
            assert json.loads(process.stdout.readline())["sequence"] == 1
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["error"]["reason"] == "CANCELLED"
    assert err == ""


def test_ctrl_c_during_programming_cancels_it(address: str, tmp_path: Path) -> None:
    large = tmp_path / "large.pcmi"
    write_large_image(large)
    with pcmedge.connect(address) as connected:
        before = connected.models()
        command = ("program", large, "--program-and-verify", "--margin", "0.01", "--max-iterations", "1000")
        with start(*command, "--device", address, "--json") as process:
            wait_for(lambda: any(each.state == "running" for each in connected.operations()))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert json.loads(out)["error"]["reason"] == "CANCELLED"
        assert err == ""
        wait_for(lambda: not any(each.state == "running" for each in connected.operations()))
        assert connected.models() == before
        assert connected.events()[-1].kind == "cancelled"


def test_a_server_killed_while_watched_is_exit_code_6(tmp_path: Path) -> None:
    watch = ("telemetry", "--watch", "--interval", "0.05", "--json", "--device")
    with served() as (url, server), start(*watch, url) as watcher:
        assert watcher.stdout is not None
        with killed_in_the_end(watcher):
            assert watcher.stdout.readline()
        os.kill(server.pid, signal.SIGKILL)
        out, err = watcher.communicate(timeout=60)
    assert watcher.returncode == 6
    assert json.loads(out.splitlines()[-1])["error"]["reason"] == "UNAVAILABLE"
    assert err == ""
