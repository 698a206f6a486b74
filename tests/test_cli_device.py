"""The device verbs against a real ``pcmedge serve`` process on a real port."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from cli_models import LABELS, Sources, write_sources
from cli_process import run, run_process, without_extras
from pcmedge.device import Fault, Policy
from service_devices import served as served_by_chip
from service_models import classifier


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def image(sources: Sources) -> Path:
    target = sources.folder / "small.pcmi"
    picture = json.loads(sources.preprocessing.read_text())
    made = pcmedge.compile(sources.model, calibration=np.load(sources.data), labels=LABELS, preprocessing=picture)
    made.save(target)
    return target


def both(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[Any, str]:
    """The command for programs (its document) and for people (its text); both must succeed."""
    document = run(capsys, *arguments, "--json")
    text = run(capsys, *arguments)
    assert (document.code, text.code) == (0, 0), document.out + text.err
    assert document.err == ""
    assert text.out
    return document.document, text.out


def test_devices_tells_who_is_there(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    document, text = both(capsys, "devices", device)
    found = document["devices"][0]
    assert found["url"] == device
    assert found["identity"]["emulated"] is True
    assert [model["name"] for model in found["models"]] == ["small-net"]
    assert "small-net" in text
    scanned = run(capsys, "devices", "--json", "--timeout", "30").document
    assert device in {each["url"] for each in scanned["devices"]}


def test_images_and_telemetry_and_events(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    document, text = both(capsys, "images")
    assert (document["models"][0]["name"], document["models"][0]["active"]) == ("small-net", True)
    assert "small-net" in text
    document, text = both(capsys, "telemetry", "--tiles")
    assert document["models"][0]["tiles"][0]["layer"] == "conv"
    assert "small-net" in text
    document, text = both(capsys, "events")
    assert [event["kind"] for event in document["events"]][:2] == ["started", "programmed"]
    assert "programmed" in text


def test_telemetry_says_why_a_device_is_degraded(capsys: pytest.CaptureFixture[str]) -> None:
    with served_by_chip(classifier()) as server:
        with pcmedge.connect(server.address) as device:
            device.set_policy(Policy(kind="manual", agreement_threshold=1.0))
            device.lab.advance("1y")
            device.self_test()
        document, text = both(capsys, "telemetry", "--device", server.address)
    assert document["state"] == "degraded"
    (reason,) = document["degraded_reasons"]
    assert reason.startswith("self-test agreement of 'small' is ")
    assert f"degraded: {reason}" in text


def test_watched_telemetry_is_one_document_per_line(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    watched = run(capsys, "telemetry", "--watch", "--interval", "0.05", "--count", "3", "--json")
    lines = [json.loads(line) for line in watched.out.splitlines()]
    assert (watched.code, [line["sequence"] for line in lines]) == (0, [1, 2, 3])


def test_infer_writes_what_it_prints(
    device: str, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, text = both(capsys, "infer", "--input", sources.data, "--detailed")
    scores = np.array(document["outputs"]["scores"]["data"])
    assert scores.shape == (48, len(LABELS))
    assert document["noise"] is True
    assert "max at" in text
    for target in ("y.npy", "y.npz"):
        written = run(capsys, "infer", "--input", sources.data, "--output", tmp_path / target, "--json")
        assert "data" not in written.document["outputs"]["scores"]
        assert (tmp_path / target).is_file()
    blocked = run(capsys, "infer", "--input", sources.data, "--output", tmp_path / "y.npy" / "z.npy", "--json")
    assert (blocked.code, blocked.error["reason"]) == (8, "FILE_UNWRITABLE")
    saved = np.load(tmp_path / "y.npy")
    assert np.corrcoef(saved.ravel(), scores.ravel())[0, 1] > 0.9


def test_infer_classifies_a_picture(
    device: str, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    pixels = np.random.default_rng(5).integers(0, 256, (12, 9), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    np.save(tmp_path / "picture.npy", pixels)
    document, text = both(capsys, "infer", "--input", tmp_path / "picture.png", "--top-k", "2")
    assert len(document["classes"]) == 2
    assert {each["label"] for each in document["classes"]} <= set(LABELS)
    assert document["classes"][0]["label"] in text or document["classes"][1]["label"] in text
    array, _ = both(capsys, "infer", "--input", tmp_path / "picture.npy", "--classify")
    assert sum(each["probability"] for each in array["classes"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 1, 6, 7), np.float32), "INPUT_SHAPE"),
        (np.zeros((2, 1, 6, 6), np.int32), "INPUT_TYPE"),
        (np.full((2, 1, 6, 6), np.nan, np.float32), "INPUT_VALUE"),
    ],
    ids=["shape", "type", "value"],
)
def test_wrong_input_is_exit_code_2(
    array: np.ndarray[Any, Any], reason: str, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "wrong.npy", array)
    result = run(capsys, "infer", "--input", tmp_path / "wrong.npy", "--json")
    assert (result.code, result.error["reason"]) == (2, reason)


def test_an_unknown_model_is_exit_code_2(device: str, sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "infer", "--input", sources.data, "--model", "nobody", "--json")
    assert (result.code, result.error["reason"]) == (2, "MODEL_NOT_FOUND")


def test_several_models_are_told_apart_with_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with served_by_chip(classifier("one", seed=1), classifier("two", seed=2)) as server:
        result = run(capsys, "self-test", "--device", server.address, "--json")
        assert (result.code, result.error["reason"]) == (2, "INPUT_INVALID")
        assert result.error["message"] == "2 models are active (one, two); say which with --model"
        assert result.error["metadata"]["models"] == "one,two"
        assert run(capsys, "self-test", "--device", server.address, "--model", "two", "--json").code == 0


def test_a_year_passes_and_the_device_is_recalibrated(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "policy", "manual")
    before, _ = both(capsys, "lab", "clock")
    assert run(capsys, "lab", "snapshot", "fresh").code == 0
    advanced = run(capsys, "lab", "advance", "30d", "--json").document
    assert advanced["clock"]["device_time_s"] == pytest.approx(before["device_time_s"] + 30 * 86400)
    assert advanced["recalibrations"] == 0
    forced = run(capsys, "recalibrate", "--method", "gdc", "--force", "--json")
    assert forced.code == 0
    assert forced.document["committed"] is True
    assert forced.document["median_drift_factor"] > 1.2
    rolled, text = both(capsys, "rollback")
    assert rolled["statistics_generation"] > forced.document["statistics_generation"]
    assert "rolled back" in text
    restored, _ = both(capsys, "lab", "restore", "fresh")
    assert restored["device_time_s"] == pytest.approx(before["device_time_s"])
    listed, text = both(capsys, "lab", "snapshots")
    assert [each["name"] for each in listed["snapshots"]] == ["fresh"]
    assert "fresh" in text
    assert run(capsys, "lab", "delete-snapshot", "fresh").code == 0


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("interval", "--every", "12h"), "interval_s", 43200.0),
        (("log-time", "--ratio", "3"), "log_time_ratio", 3.0),
        (("log-time", "--reads", "4"), "reads", 4),
        (("drift", "--threshold", "0.02"), "drift_threshold", 0.02),
        (("self-test", "--threshold", "0.8"), "agreement_threshold", 0.8),
        (("self-test", "--drop", "0.1", "--self-test-ratio", "2"), "agreement_drop", 0.1),
        (("log-time", "--self-test-every", "1h", "--agreement", "0.7"), "self_test_interval_s", 3600.0),
        (
            ("drift", "--threshold", "0.02", "--self-test-every", "1h", "--spacing", "1d"),
            "self_test_spacing_s",
            86400.0,
        ),
        (("manual", "--self-test-every", "1d"), "self_test_interval_s", 86400.0),
        (("manual",), "kind", "manual"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_policies_are_set_and_shown(
    arguments: tuple[str, ...], field: str, value: float | str, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, _ = both(capsys, "policy", *arguments)
    shown, text = both(capsys, "policy")
    assert changed["kind"] == shown["kind"] == arguments[0]
    assert shown[field] == (value if isinstance(value, str) else pytest.approx(value))
    assert arguments[0] in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("policy", "interval"),
        ("policy", "drift"),
        ("policy", "interval", "--every", "0s"),
        ("policy", "log-time", "--ratio", "0"),
        ("policy", "drift", "--threshold", "0"),
        ("policy", "self-test"),
        ("policy", "self-test", "--threshold", "0.9", "--agreement", "0.9"),
        ("policy", "log-time", "--drop", "0"),
        ("policy", "log-time", "--self-test-every", "now and then"),
        ("policy", "--drop", "0.1"),
        ("lab", "clock", "--mode", "accelerated", "--rate", "0"),
        ("lab", "advance", "soon"),
        ("lab", "clock", "--mode", "accelerated"),
        ("lab", "restore", "no-such-snapshot"),
        ("lab", "snapshot", "no/slash"),
        ("erase", "nobody"),
        ("buffer", "--replace", __file__),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_exit_code_2(
    arguments: tuple[str, ...], device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, *arguments, "--json")
    assert result.code == 2
    assert result.error["message"]


def test_the_calibration_buffer_is_described_and_replaced(
    device: str, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> None:
    described, text = both(capsys, "buffer")
    assert described["source"] == "image"
    assert "samples" in text
    replaced = run(capsys, "buffer", "--replace", sources.data, "--json").document
    assert (replaced["source"], replaced["samples"]) == ("application", 48)


def test_a_tile_is_read_and_noise_is_switched(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = run(capsys, "read-tile", "0", "--output", tmp_path / "tile.npz", "--json").document
    with np.load(tmp_path / "tile.npz") as saved:
        conductances = {name: saved[name] for name in saved.files}
    assert set(conductances) == {"g_plus_microsiemens", "g_minus_microsiemens"}
    assert conductances["g_plus_microsiemens"].shape == (written["rows"], written["columns"])
    document, text = both(capsys, "read-tile", "0")
    assert document["g_plus_microsiemens"]["maximum"] > 0
    assert "µS" in text
    assert run(capsys, "read-tile", "9999", "--json").code == 2
    for kind in ("off", "additive"):
        assert run(capsys, "lab", "noise", kind, "--json").document == {"read_noise_per_mvm": kind}


def test_self_test_reports_agreement(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "self-test", "--json")
    assert result.code == (0 if result.document["passed"] else 1)
    assert 0 <= result.document["agreement"] <= 1
    assert "self-test" in run(capsys, "self-test").out


def test_past_self_tests_are_a_table_a_plot_and_a_document(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "self-test")
    document, text = both(capsys, "self-test", "--history")
    assert document["model"] == "small-net"
    first, *_, last = document["self_tests"]
    assert (first["cause"], first["age_s"], last["cause"]) == ("programmed", 0.0, "request")
    assert 0 <= last["agreement"] <= 1
    assert last["mean_absolute_difference"] > 0
    assert "programmed" in text
    assert any(bar in text for bar in "▁▂▃▄▅▆▇█")
    telemetry, text = both(capsys, "telemetry")
    assert telemetry["models"][0]["self_tests"] == document["self_tests"]
    assert "self-tests" in text


def test_a_diagnosis_sends_nobody_off_tiles_the_model_has_left(capsys: pytest.CaptureFixture[str]) -> None:
    with served_by_chip(classifier()) as server, pcmedge.connect(server.address) as device:
        url = ("--device", server.address)
        device.lab.inject_faults([Fault(kind="tile-lost", tile=0)])
        broken = run(capsys, "diagnose", *url)
        assert (broken.code, "program the image again" in broken.out) == (1, True)
        device.program(classifier())
        mended = run(capsys, "diagnose", *url)
        assert (mended.code, "program the image again" in mended.out) == (0, False)
        assert run(capsys, "diagnose", *url, "--json").document["retired_tiles"] == [0]


def test_deactivate_erase_and_program_again(device: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "deactivate", "small-net", "--json").document["model"]["active"] is False
    refused = run(capsys, "self-test", "--json")
    assert (refused.code, refused.error["reason"]) == (5, "NOT_PROGRAMMED")
    assert run(capsys, "activate", "small-net", "--json").document["model"]["active"] is True
    assert run(capsys, "erase", "small-net", "--json").document["freed_tiles"] == 2
    assert "no image" in run(capsys, "images").out
    document, text = both(capsys, "program", image, "--program-and-verify", "--margin", "1.0", "--replace")
    assert document["model"]["name"] == "small-net"
    assert document["tiles"][0]["rms_error_microsiemens"] > 0
    assert "program generation" in text


def test_the_base_install_infers_and_recalibrates(device: str, sources: Sources, tmp_path: Path) -> None:
    entry = without_extras(tmp_path)
    answer = run_process("infer", "--input", sources.data, "--device", device, "--json", entry=entry)
    assert answer.code == 0, answer.out
    assert answer.document["outputs"]["scores"]["shape"] == [48, len(LABELS)]
    assert (
        run_process("recalibrate", "--force", "--device", device, "--json", entry=entry).document["committed"] is True
    )


def test_doctor_finds_image_and_device_fit(device: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = run(capsys, "doctor", image, "--device", device, "--json").document
    fit = [check for check in document["checks"] if check["name"] == "fit"]
    assert [check["status"] for check in fit] == ["ok"]


def test_nobody_there_is_exit_code_6(sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"grpc://127.0.0.1:{free.getsockname()[1]}"
        for arguments in (("images",), ("infer", "--input", sources.data), ("telemetry", "--watch")):
            result = run(capsys, *arguments, "--device", dead, "--timeout", "10", "--json")
            assert result.code == 6
            assert dead in result.error["message"]
        silent = run(capsys, "devices", dead, "--json", "--timeout", "10")
        assert (silent.code, silent.document["devices"]) == (6, [])


def test_a_fallback_answers_for_a_device_that_is_gone(
    image: Path, sources: Sources, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, batch = f"unix://{tmp_path}/nobody.sock", sources.data
    for fallback in (device, image):
        answered = run(capsys, "infer", "--input", batch, "--device", gone, "--fallback", fallback, "--json")
        assert (answered.code, answered.err) == (0, "")
        assert answered.document["answered_by"] == "fallback"
        assert [turnover["reason"] for turnover in answered.document["turnovers"]] == ["UNAVAILABLE"]
    assert answered.document["device_serial"] == "fallback"
    told = run(capsys, "infer", "--input", batch, "--device", gone, "--fallback", image)
    assert told.err.count("the fallback answers") == 1
    assert gone in told.err
    there = run(capsys, "infer", "--input", batch, "--fallback", image, "--min-agreement", "0", "--json")
    assert there.document["answered_by"] == "primary"
    refused = run(capsys, "infer", "--input", batch, "--deadline", "1", "--json")
    assert (refused.code, refused.error["reason"]) == (2, "INPUT_INVALID")
    missing = run(capsys, "infer", "--input", batch, "--fallback", tmp_path / "none.pcmi", "--json")
    assert (missing.code, missing.error["reason"]) == (2, "FILE_MISSING")
