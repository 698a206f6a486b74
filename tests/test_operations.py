"""Operating ``pcmedge serve``: configuration, logs, metrics, health, draining; real processes and real clients."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tomllib
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import pcmedge
import pytest
import typer
from chip_models import digits_image
from cli_models import write_large_image
from cli_process import PATIENCE_S, killed_in_the_end, run, served, start, wait_for
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pcmedge.cli import settings
from pcmedge.cli.main import app
from pcmedge.errors import InputValueError, UnauthenticatedError, UnavailableError
from pcmedge.protocol.tokens import new_token
from pcmedge_emulator.service.metrics import metrics_address
from prometheus_client.parser import text_string_to_metric_families

DEPLOY = Path(__file__).parent.parent / "deploy"
TEXT = "PCMEDGE_SERVE_"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("image") / "digits.pcmi"
    digits_image().save(target)
    return target


# ------------------------------------------------------------------------------------------------------- configuration


def test_flags_win_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('serial = "file"\nclock = "manual"\nseed = 1\nlab = true\nmax_batch_size = 4\nread_noise = "off"\n')
    monkeypatch.setenv(f"{TEXT}SERIAL", "variable")
    monkeypatch.setenv(f"{TEXT}SEED", "2")
    monkeypatch.setenv(f"{TEXT}STORE", "")
    monkeypatch.setenv(f"{TEXT}CONFIG", str(file))
    found = run(capsys, "serve", "--seed", "3", "--print-config", "--json").document["config"]
    assert found["seed"] == {"value": 3, "from": "command line"}
    assert found["serial"] == {"value": "variable", "from": f"environment {TEXT}SERIAL"}
    assert found["clock"] == {"value": "manual", "from": f"file {file}"}
    assert found["read_noise"] == {"value": "off", "from": f"file {file}"}
    assert (found["lab"]["value"], found["max_batch_size"]["value"]) == (True, 4)
    assert found["store"] == {"value": None, "from": "default"}


def test_what_it_prints_is_a_configuration_that_means_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--serial", 'a "quoted" ü', "--threads", "2", "--access-log", "--store", str(tmp_path / "store"))
    printed = run(capsys, "serve", *options, "--print-config").out
    assert tomllib.loads(printed)["serial"] == 'a "quoted" ü'
    file = tmp_path / "printed.toml"
    file.write_text(printed)
    first = run(capsys, "serve", *options, "--print-config", "--json").document["config"]
    again = run(capsys, "serve", "--config", str(file), "--print-config", "--json").document["config"]
    assert {name: each["value"] for name, each in again.items()} == {
        name: each["value"] for name, each in first.items()
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_bach_size = 4", "'max_batch_size'"),
        ("max-batch-size = 4", "'max_batch_size'"),
        ("[serve]\nlab = true", "no setting 'serve'"),
        ("max_batch_size = 0", "max_batch_size: Input should be greater than or equal to 1"),
        ('max_batch_size = "many"', "valid integer"),
        ('read_noise = "loud"', "'additive', 'off' or 'input-dependent'"),
        ("lab = ", "is not TOML"),
        ("json = true", "no setting 'json'"),
        ('drain_timeout = "soon"', ": drain_timeout: expected a duration"),
        ('max_queue_delay = "-1s"', ": max_queue_delay: expected a duration"),
        ('max_connection_age = "old"', ": max_connection_age: expected a duration"),
        ('clock = "fast"', ": clock: "),
        ('listen = "7390"', ": listen: expected grpc://host:port"),
        ('metrics = "yes"', ": metrics: expected grpc://host:port"),
        ('faults = "some"', ": faults: expected faults as KIND=RATE"),
        ('physics = "pcm-1nm"', ": physics: expected one of"),
        ('trusted_key = "vendor.key.pub"', """trusted_key: Input should be a valid list, as in trusted_key = ["""),
    ],
)
def test_a_wrong_file_is_told_and_nothing_starts(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    result = run(capsys, "serve", "--config", str(file), "--json")
    assert (result.code, result.error["reason"]) == (2, "INPUT_VALUE")
    assert told in result.error["message"]
    assert str(file) in result.error["message"]


def test_a_missing_file_and_unknown_variables_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "serve", "--config", "none.toml", "--json").error["reason"] == "FILE_MISSING"
    monkeypatch.setenv(f"{TEXT}LISTN", "127.0.0.1:0")
    error = run(capsys, "serve", "--json").error
    assert (error["reason"], error["metadata"]["nearest"]) == ("INPUT_VALUE", f"{TEXT}LISTEN")


def test_a_text_that_cannot_be_read_is_told_with_its_option_or_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = run(capsys, "serve", "--drain-timeout", "soon", "--print-config", "--json").error
    assert (given["reason"], given["metadata"]) == ("INPUT_VALUE", {"key": "drain_timeout", "value": "soon"})
    assert given["message"].startswith("--drain-timeout: expected a duration")
    monkeypatch.setenv(f"{TEXT}DRAIN_TIMEOUT", "later")
    told = run(capsys, "serve", "--json").error["message"]
    assert told.startswith(f"environment {TEXT}DRAIN_TIMEOUT: drain_timeout: expected a duration")
    unknown = run(capsys, "serve", "--drain-timeout", "1s", "--profile", "pcm-1x1", "--json")
    assert unknown.error["reason"] == "NOT_FOUND"
    assert unknown.error["message"].startswith("--profile: no chip profile")


def test_a_list_in_a_variable_is_json_and_a_bare_word_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{TEXT}TRUSTED_KEY", "vendor.key.pub")
    told = run(capsys, "serve", "--json").error["message"]
    example = f"""{TEXT}TRUSTED_KEY='["first", "second"]'"""
    assert told.endswith(f"trusted_key: Input should be a valid list, as in {example} (JSON)")
    monkeypatch.setenv(f"{TEXT}TRUSTED_KEY", example.partition("=")[2].strip("'"))
    found = run(capsys, "serve", "--print-config", "--json").document["config"]
    assert found["trusted_key"]["value"] == ["first", "second"]


def verb(
    token: Annotated[str, typer.Option()] = "",
    token_file: Annotated[Path | None, typer.Option()] = None,
    secret_number: Annotated[int, typer.Option()] = 0,
) -> None: ...


def test_secrets_are_masked_and_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    made = typer.Typer()
    made.command()(verb)
    command = typer.main.get_command(made)
    monkeypatch.setenv("X_TOKEN", "hunter2")
    monkeypatch.setenv("X_TOKEN_FILE", "tokens")
    context = typer.Context(command)
    settings.apply(context, verb, "X_", None)
    command.parse_args(context, [])
    found = settings.effective(context, verb)
    assert found["token"] == settings.Setting(value=settings.MASK, origin="environment X_TOKEN")
    assert found["token_file"].value == "tokens"
    monkeypatch.setenv("X_SECRET_NUMBER", "hunter2")
    with pytest.raises(InputValueError, match="X_SECRET_NUMBER: secret_number: ") as told:
        settings.apply(typer.Context(command), verb, "X_", None)
    assert "hunter2" not in str(told.value)


# ------------------------------------------------------------------------------------------------------ logs, metrics


def test_logs_are_one_json_document_per_line_and_metrics_say_what_telemetry_says(image: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    options: tuple[Any, ...] = ("--clock", "manual", "--lab", "--max-batch-size", "8", "--log-format", "json")
    options += ("--access-log", "--metrics", "127.0.0.1:0", "--store", tmp_path / "store", "--ready-file", ready)
    with served(image, *options) as (url, process):
        with pcmedge.connect(url) as device:
            pictures = np.zeros((3, *device.model_spec().inputs[0].shape[1:]), np.float32)
            device.infer(pictures)
            device.lab.advance("1h")
            device.recalibrate()
            device.self_test()
            with pytest.raises(InputValueError):
                device.infer(np.full_like(pictures, np.nan))
            reading = device.telemetry(tiles=True)
            text = urllib.request.urlopen(json.loads(ready.read_text())["metrics"], timeout=30).read().decode()
            name = reading.models[0].name
            spec = device.model_spec().inputs[0]
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0

    lines = [json.loads(line) for line in err.splitlines()]
    kinds = [line["event"] for line in lines if line["event"] != "call"]
    assert kinds[:3] == ["started", "programmed", "ready"]
    assert "recalibrated" in kinds
    assert kinds[-2:] == ["draining", "stopped"]
    assert all({"event", "level", "time"} <= set(line) for line in lines)
    calls = [line for line in lines if line["event"] == "call"]
    assert ("ModelInfer", "OK") in {(line["call"], line["status"]) for line in calls}
    assert ("ModelInfer", "INVALID_ARGUMENT") in {(line["call"], line["status"]) for line in calls}
    assert all(line["request_id"] and line["duration_ms"] >= 0 for line in calls)
    assert spec.name not in json.dumps(calls)

    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["pcmedge_up",] == 1
    assert samples["pcmedge_health", "ready"] == 1
    assert samples["pcmedge_health", "degraded"] == 0
    assert samples["pcmedge_requests_total", "served"] == reading.requests_served == 1
    assert samples["pcmedge_calls_total", "INVALID_ARGUMENT", "ModelInfer"] == 1
    assert samples["pcmedge_call_duration_seconds_count", "ModelInfer"] == 2
    assert samples["pcmedge_model_inferences_total", name] == reading.models[0].inferences
    assert samples["pcmedge_model_age_seconds", name] == 3600.0
    assert samples["pcmedge_model_last_recalibration_age_seconds", name] == 3600.0
    assert samples["pcmedge_model_self_test_agreement_ratio", name] == reading.models[0].last_agreement
    assert samples["pcmedge_batch_size_sum", name] == 3
    assert samples["pcmedge_batch_size_bucket", "4.0", name] == 1
    assert samples["pcmedge_batch_size_bucket", "2.0", name] == 0
    assert samples["pcmedge_store_bytes",] > 0
    for tile in reading.models[0].tiles:
        assert samples["pcmedge_tile_drift_factor", *sorted((name, tile.layer, str(tile.tile)))] == tile.drift_factor


def test_calls_of_health_and_of_unknown_paths_and_the_token_file_are_logged(tmp_path: Path) -> None:
    tokens, path = tmp_path / "tokens", "/no.such.Service/Call\n" + "x" * 500
    new_token(tokens, "infer", "one")
    options = ("--access-log", "--log-format", "json", "--log-level", "debug", "--tokens", tokens)
    with served(*options, "--metrics", "127.0.0.1:0", "--ready-file", tmp_path / "ready") as (url, process):
        with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert next(watch).status == 1
            watch.cancel()
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(b"", timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
            new_token(tokens, "infer", "two")
            for change in (lambda: None, tokens.unlink):
                change()
                with pytest.raises(UnauthenticatedError):
                    pcmedge.connect(url, token="pcm_of-nobody")
        where = json.loads((tmp_path / "ready").read_text())["metrics"]
        text = urllib.request.urlopen(where, timeout=30).read().decode()
        process.terminate()
        _, err = process.communicate(timeout=60)

    lines = [json.loads(line) for line in err.splitlines()]
    named = {line["event"]: line for line in lines}
    assert named["token-file-reloaded"]["tokens"] == 2
    assert (named["token-file-refused"]["level"], named["token-file-refused"]["path"]) == ("error", str(tokens))
    assert named["token-file-refused"]["note"].startswith("nobody is let in")
    calls = {(line["call"], line["status"]): line for line in lines if line["event"] == "call"}
    assert calls["grpc.health.v1.Health/Check", "OK"]["level"] == "debug"
    assert calls["grpc.health.v1.Health/Watch", "CANCELLED"]["replies"] == 1
    unknown = calls["unknown", "UNIMPLEMENTED"]
    assert unknown["level"] == "info"
    assert unknown["path"].startswith("/no.such.Service/Call?x")
    assert len(unknown["path"]) == 128
    assert 'call="unknown",status="UNIMPLEMENTED"' in text
    assert "no.such" not in text


def test_metrics_stay_on_this_machine_unless_told_otherwise() -> None:
    assert metrics_address("127.0.0.1:0", insecure=False).local
    assert metrics_address("0.0.0.0:9090", insecure=True).port == 9090
    for wrong in ("0.0.0.0:9090", "unix:///tmp/metrics.sock", "nowhere"):
        with pytest.raises(InputValueError):
            metrics_address(wrong, insecure=False)


def test_metrics_at_a_taken_address_are_exit_code_7(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run(capsys, "serve", "--listen", "127.0.0.1:0", "--metrics", where, "--json")
    assert (result.code, json.loads(result.out.splitlines()[-1])["error"]["reason"]) == (7, "ADDRESS_IN_USE")


def test_health_as_an_exit_code(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served() as (url, _):
        assert run(capsys, "health", "--require", "alive", "--device", url).code == 0
        result = run(capsys, "health", "--device", url, "--json")
        assert (result.code, result.document["health"]) == (1, "alive")
        assert run(capsys, "program", str(image), "--device", url).code == 0
        result = run(capsys, "health", "--require", "healthy", "--device", url, "--json")
        assert (result.code, result.document) == (0, {"health": "ready", "state": "idle", "degraded_reasons": []})
    assert run(capsys, "health", "--device", url, "--timeout", "10").code == 6


# ------------------------------------------------------------------------------------------------------------ stopping


def test_under_load_nothing_accepted_fails_and_what_comes_later_is_unavailable(image: Path, tmp_path: Path) -> None:
    with served(image, "--max-batch-size", "8") as (url, process):
        stopped, refusals, answers = [False], [], [0] * 4

        def ask(number: int) -> None:
            with pcmedge.connect(url) as device:
                picture = np.zeros((1, *device.model_spec().inputs[0].shape[1:]), np.float32)
                while True:
                    try:
                        answer = device.infer(picture)
                    except UnavailableError as error:
                        refusals.append((stopped[0], error.reason))
                        return
                    assert np.isfinite(answer).all()
                    answers[number] += 1

        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(ask, number) for number in range(4)]
            wait_for(lambda: min(answers) > 20)
            stopped[0] = True
            process.terminate()
            for future in futures:
                future.result(timeout=PATIENCE_S)
        assert process.wait(timeout=60) == 0
    assert refusals == [(True, "UNAVAILABLE")] * 4


def test_a_second_signal_ends_it_while_it_drains(tmp_path: Path) -> None:
    large = tmp_path / "large.pcmi"
    write_large_image(large)
    with served("--drain-timeout", "1h") as (url, process), pcmedge.connect(url) as device:
        command = ("program", large, "--program-and-verify", "--margin", "0.01", "--max-iterations", "1000")
        with start(*command, "--device", url, "--json") as programming:
            wait_for(lambda: any(each.state == "running" for each in device.operations()))
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            with killed_in_the_end(process):
                assert any("draining" in line for line in process.stderr)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == -signal.SIGTERM
            assert programming.wait(timeout=60) == 6


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60.0)
        with start("serve", "--listen", "127.0.0.1:0", NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            assert manager.recv(100) == b"READY=1"
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            process.communicate(timeout=60)
        assert process.returncode == 0


# -------------------------------------------------------------------------------------------------------------- deploy


def unit() -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=False, delimiters="=")
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(DEPLOY / "pcmedge.service")
    return parsed


def known_options(verb: str) -> set[str]:
    command: Any = typer.main.get_command(app)
    return {name for parameter in command.commands[verb].params for name in parameter.opts}


def test_the_unit_starts_what_exists_as_nobody_in_particular() -> None:
    service = unit()["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0].endswith("/pcmedge")
    assert {word for word in words[2:] if word.startswith("--")} <= known_options(words[1])
    assert (service["Type"], service["DynamicUser"], service["NoNewPrivileges"]) == ("notify", "yes", "yes")
    assert service["ProtectSystem"] == "strict"


def test_the_unit_and_the_container_configure_what_serve_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(capsys, "serve", "--config", str(DEPLOY / "serve.toml"), "--print-config", "--json").document["config"]
    assert found["store"]["value"] == "/var/lib/" + unit()["Service"]["StateDirectory"]
    assert float(found["drain_timeout"]["value"].rstrip("s")) < float(unit()["Service"]["TimeoutStopSec"])
    container = (DEPLOY / "Containerfile").read_text()
    variables = dict(re.findall(r"(PCMEDGE_SERVE_\w+)=(\S+)", container))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = run(capsys, "serve", "--print-config", "--json").document["config"]
    (volume,) = re.findall(r"^VOLUME (\S+)$", container, re.MULTILINE)
    assert found["store"]["value"].startswith(volume)
    assert found["listen"]["value"].startswith(f"unix://{volume}")
    assert re.findall(r"^USER (\S+)$", container, re.MULTILINE) == ["10001:10001"]
    check = json.loads(re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", container, re.MULTILINE)[0])
    assert {word for word in check[2:] if word.startswith("--")} <= known_options(check[1])


def test_systemd_accepts_the_unit_where_there_is_one(tmp_path: Path) -> None:
    text = (DEPLOY / "pcmedge.service").read_text()
    assert text.count("/opt/pcmedge/bin/pcmedge") == 1
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        here = tmp_path / "pcmedge.service"
        here.write_text(text.replace("/opt/pcmedge/bin/pcmedge", "/bin/true"))
        done = subprocess.run(
            [analyze, "verify", str(here)], capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        assert (done.returncode, done.stderr) == (0, "")
