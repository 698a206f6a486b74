"""What every command of the command line has in common: help, errors, JSON, pipes, completion, speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import ENTRY, environment, run, run_process
from pcmedge import __version__

VERBS = {
    "build": ("compile", "inspect", "verify", "rebuffer"),
    "run": ("serve", "devices"),
    "program": ("program", "images", "activate", "deactivate", "erase"),
    "use": ("infer", "recalibrate", "rollback", "policy", "buffer", "self-test", "telemetry", "events", "read-tile"),
    "study": ("demo", "drift", "doctor"),
}
LAB_VERBS = ("advance", "clock", "noise", "snapshot", "restore", "snapshots", "delete-snapshot")
ALL_VERBS = [verb for verbs in VERBS.values() for verb in verbs]
COMMANDS = [*((verb,) for verb in ALL_VERBS), *(("lab", verb) for verb in LAB_VERBS)]


@pytest.fixture(autouse=True)
def _no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PCMEDGE_DEVICE", raising=False)


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "--help")
    assert result.code == 0
    listed = {line.split()[1] for line in result.out.splitlines() if line.startswith("│ ") and len(line.split()) > 2}
    assert {*ALL_VERBS, "lab"} <= listed


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_takes_json(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, *command, "--help")
    assert result.code == 0
    assert "--json" in result.out
    assert result.err == ""


def test_help_examples_name_commands_and_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    described = {" ".join(command): run(capsys, *command, "--help").out for command in [(), *COMMANDS]}
    examples = 0
    for text in described.values():
        for line in text.splitlines():
            words = line.split("|")[0].split()
            if len(words) > 1 and words[0] == "pcmedge" and words[1] in (*ALL_VERBS, "lab"):
                target = " ".join(words[1:3] if words[1] == "lab" else words[1:2])
                options = [word.split("=")[0] for word in words if word.startswith("--")]
                assert all(option in described[target] for option in options), line
                examples += 1
    assert examples >= 20


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_help_fits_80_columns(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        return run(capsys, *command, "--help").out

    def examples(text: str) -> list[str]:
        return [line.strip() for line in text.splitlines() if line.strip().startswith("pcmedge ")]

    narrow = shown(80)
    assert all(len(line.rstrip()) <= 80 for line in narrow.splitlines())
    assert examples(narrow) == examples(shown(200))  # no example is broken into two lines
    assert "<bool>" not in narrow  # a switch takes no value
    assert " -h " in narrow


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys)
    assert result.code == 2
    assert "Usage: pcmedge" in result.out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version").out == f"pcmedge {__version__}\n"


@pytest.mark.parametrize("arguments", [["--version", "--json"], ["--json", "--version"]])
def test_version_as_json(arguments: list[str]) -> None:
    assert run_process(*arguments).document == {"version": __version__}


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["verify"],
        ["verify", "--no-such-option", "x"],
        ["lab", "no-such-verb"],
        ["serve", "--threads", "many"],
        ["policy", "sometimes"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, *arguments)
    assert (text.code, text.out) == (2, "")
    assert text.err.startswith("error: ")
    assert "--help" in text.err
    document = run(capsys, *arguments, "--json")
    assert document.code == 2
    assert document.error["reason"] == "USAGE"
    assert document.err == ""


def test_python_m_is_the_command() -> None:
    assert run_process("--version", entry=(sys.executable, "-m", "pcmedge")).out == f"pcmedge {__version__}\n"


def test_json_may_stand_before_the_verb(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "--json", "verify", tmp_path / "none.pcmi").error["reason"] == "FILE_MISSING"


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "none.pcmi"],
        ["inspect", "none.pcmi"],
        ["serve", "none.pcmi"],
        ["program", "none.pcmi", "--device", "grpc://127.0.0.1:1"],
        ["infer", "--input", "none.npy", "--device", "grpc://127.0.0.1:1"],
        ["infer", "--input", "none.png", "--device", "grpc://127.0.0.1:1"],
        ["compile", "none.onnx", "--calibration", "none.npy"],
        ["compile", "no_such_module:factory", "--calibration", __file__ + ".npy"],
        ["drift", "none.pcmi", "--data", "none.npz"],
    ],
    ids=" ".join,
)
def test_a_missing_file_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, *arguments)
    assert (text.code, text.out) == (2, "")
    assert "none." in text.err or "no_such_module" in text.err or "npy" in text.err
    assert "Traceback" not in text.err
    assert run(capsys, *arguments, "--json").error["reason"] == "FILE_MISSING"


def test_without_a_device_the_message_says_how_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["images"], ["telemetry"], ["recalibrate"], ["lab", "advance", "1d"], ["self-test"]):
        result = run(capsys, *arguments, "--json")
        assert result.code == 2
        assert "PCMEDGE_DEVICE" in result.error["message"]


def test_a_traceback_only_with_debug(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "none.pcmi"
    assert "Traceback" not in run(capsys, "verify", missing).err
    for arguments in (["--debug", "verify", missing], ["verify", missing, "--debug"]):
        result = run(capsys, *arguments)
        assert result.code == 2
        assert "Traceback" in result.err


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom pcmedge.cli.main import run\nrun(['--help'])\n"
        "heavy = {'numpy', 'grpc', 'onnx', 'onnxruntime', 'pyarrow', 'torch', 'google.protobuf', 'pydantic'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    result = run_process(entry=(sys.executable, "-c", script))
    assert result.out.rstrip().endswith("heavy: []")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    shown = run_process("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert shown.code == 0
    assert "_PCMEDGE_COMPLETE" in shown.out


def test_completion_completes_verbs() -> None:
    result = run_process(_PCMEDGE_COMPLETE="complete_bash", COMP_WORDS="pcmedge rec", COMP_CWORD="1")
    assert {"recalibrate"} == set(result.out.split())


def test_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [*ENTRY, "doctor", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
        code = process.wait(timeout=60)
    assert code == 141
    assert stderr == ""


def test_doctor_reports_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "doctor", "--json")
    checks = result.document["checks"]
    assert {check["status"] for check in checks} <= {"ok", "warn", "fail"}
    assert {check["name"] for check in checks} >= {"pcmedge", "python", "numpy", "grpcio", "contract", "emulator"}
    assert result.code == (0 if result.document["ok"] else 1)
    assert all(check["advice"] for check in checks if check["status"] != "ok")


def test_doctor_draws_what_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    checks = run(capsys, "doctor", "--json").document["checks"]
    text = run(capsys, "doctor").out
    assert all(check["name"] in text for check in checks)


def test_doctor_checks_an_image_and_a_device_it_is_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.pcmi"
    broken.write_bytes(b"PCMI" + bytes(100))
    result = run(capsys, "doctor", broken, "--device", "grpc://127.0.0.1:1", "--json")
    failed = {check["area"] for check in result.document["checks"] if check["status"] == "fail"}
    assert result.code == 1
    assert {"image", "device"} <= failed


def test_doctor_knows_the_combinations_that_break() -> None:
    from pcmedge.cli.checks import known_bad

    def names(**versions: str | None) -> set[str]:
        return {check.name for check in known_bad({name.replace("_", "-"): v for name, v in versions.items()})}

    assert names(pyarrow="26.0.1", numpy="1.26.4") == {"pyarrow/numpy"}
    assert names(pyarrow="25.0.1", numpy="1.26.4", tflite_runtime="2.14.0") == set()
    assert names(numpy="2.4.6", tflite_runtime="2.14.0", pyarrow="26.0.1") == {"tflite-runtime/numpy"}
    assert names(numpy="2.4.6", tritonclient="2.60.0", protobuf="7.36.2") == {"tritonclient/protobuf"}
    assert names(numpy="2.4.6", tritonclient="2.60.0", protobuf="6.33.6") == set()


def test_json_has_no_not_a_number() -> None:
    import numpy as np
    from pcmedge.cli.plain import to_plain

    plain = to_plain({"a": np.array([1.0, np.nan]), "b": b"\x01\xff", "c": (np.int64(3), float("inf"))})
    assert json.loads(json.dumps(plain, allow_nan=False)) == {"a": [1.0, None], "b": "01ff", "c": [3, None]}


def test_json_of_a_message_spells_enumerations_and_whole_numbers() -> None:
    from pcmedge._contract import device_pb2
    from pcmedge.cli.plain import to_plain

    update = device_pb2.OperationUpdate(state=device_pb2.OPERATION_STATE_RUNNING, done=3, total=2**40)
    document = to_plain(update)
    assert (document["state"], document["done"], document["total"]) == ("running", 3, 2**40)
    assert "program" not in document
