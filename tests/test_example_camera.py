"""examples/camera, end to end: its own clip, a served chip that dies and comes back, a fallback, picture and video."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pcmedge
import pytest
from cli_process import halted, served, wait_for
from example_process import application
from pcmedge.demo.digits import MODEL_FILE

from examples.camera.__main__ import main, parse
from examples.camera.demo_clip import demo_image, make_clip
from examples.camera.device_link import DeviceLink
from examples.camera.frames import Capture, Frame, LatestFrame, SourceError
from examples.camera.options import opener
from examples.camera.perception import Tally, perceive
from examples.camera.regions import board, centre, whole

STEADY = ("--seed", "3", "--clock", "manual")
"""Of a chip that makes the same of a clip however long that takes."""


def frame(number: int) -> Frame:
    return Frame(number=number, picture=np.zeros((4, 6, 3), np.uint8), captured_unix_s=0.0, captured_s=0.0)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "board.pcmi"
    demo_image().save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"), digits=3).path


# ---------------------------------------------------------------------------------------------------------- frames


def test_the_latest_frame_replaces_one_that_nobody_took() -> None:
    latest = LatestFrame()
    for number in range(4):
        latest.put(frame(number))
    taken = latest.take(0.0)
    assert taken is not None
    assert (taken.number, latest.dropped) == (3, 3)
    assert latest.take(0.0) is None
    latest.put(frame(4))
    latest.close()
    latest.put(frame(5))  # too late
    assert not latest.ended
    last = latest.take()
    assert last is not None
    assert last.number == 4
    assert latest.ended
    assert latest.take() is None
    assert latest.dropped == 3


def test_a_waiting_put_drops_nothing() -> None:
    latest = LatestFrame()
    thread = threading.Thread(target=lambda: [latest.put(frame(number), wait=True) for number in range(20)])
    thread.start()
    taken = [latest.take(30.0) for _ in range(20)]
    thread.join()
    assert [each.number for each in taken if each] == list(range(20))
    assert latest.dropped == 0


def test_a_slow_reader_gets_the_newest_frame_and_the_rest_is_counted(clip: Path) -> None:
    capture = Capture(clip, fps=1000)
    wait_for(lambda: capture.latest._closed)  # all 36 frames have passed
    last = capture.latest.take()
    assert last is not None
    assert (last.number, capture.latest.dropped) == (35, 35)
    assert last.captured_s <= time.monotonic()
    capture.close()


def test_a_file_is_looped_and_numbered_on(clip: Path) -> None:
    capture = Capture(clip, loop=True, every_frame=True)
    numbers = [taken.number for _ in range(80) if (taken := capture.latest.take(30.0))]
    capture.close()
    assert numbers == list(range(80))


@pytest.mark.parametrize("source", ["no-such-file.mp4", "97"])
def test_a_source_that_is_not_there(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=source):
        Capture(source)
    assert main(["--demo", "--headless", "--source", source]) == 2
    assert source in capsys.readouterr().err


def test_a_live_source_cannot_be_looped() -> None:
    with pytest.raises(SourceError, match="loop"):
        Capture("rtsp://127.0.0.1/stream", loop=True)


def test_regions() -> None:
    picture = np.full((100, 160, 3), 60, np.uint8)
    assert whole(picture) == (0, 0, 160, 100)
    assert centre(picture) == (30, 0, 100, 100)
    assert board(picture) is None
    picture[20:70, 40:100] = 255
    picture[25:65, 46:94] = (0, 0, 200)  # blue, green, red
    found = board(picture)
    assert found == (46, 25, 48, 40)
    assert found.cut(picture)[0, 0].tolist() == [200, 0, 0]


# ------------------------------------------------------------------------------------------------------------ device


def test_a_device_that_falls_silent_is_late_then_away_then_back(image: Path) -> None:
    events: list[str] = []
    prepared: list[str] = []
    picture = np.zeros((96, 96, 3), np.uint8)
    with served(image, "--seed", "3") as (address, server):
        link = DeviceLink(
            lambda: pcmedge.connect(address, lazy=True, timeout_s=1.0),
            on_event=lambda kind, message: events.append(kind),
            on_ready=lambda chip: prepared.append(chip.address),
        )

        def ask() -> str:
            return link.ask(picture, time.monotonic() + 30).status

        wait_for(lambda: ask() == "answered")
        with halted(server):
            before = list(events)
            assert [ask() for _ in range(3)] == ["late", "late", "away"]
            assert events == [*before, "device-away"]
            prepared.clear()
        wait_for(lambda: ask() == "answered")
        link.close()
    assert events == [*before, "device-away", "device-back"]
    # A busy machine may be late again meanwhile, and then the chip is prepared again.
    assert set(prepared) == {address}


def test_an_answer_after_the_deadline_is_late_and_holds_nobody_up(image: Path) -> None:
    holding, release = threading.Event(), threading.Event()

    def slow(chip: pcmedge.Device) -> None:
        holding.set()
        release.wait(60)

    picture = np.zeros((96, 96, 3), np.uint8)
    link = DeviceLink(lambda: pcmedge.Emulator(image, seed=1, clock="manual"), on_ready=slow)
    assert link.ask(picture, time.monotonic()).status == "away"  # it is being opened
    assert holding.wait(60)
    assert link.ask(picture, time.monotonic()).status == "away"  # still; and this returned
    release.set()
    assert link.ask(picture, time.monotonic() + 30).status == "answered"
    assert link.ask(picture, time.monotonic() - 1).status == "late"
    link.close()


def test_wrong_arguments_end_the_application(
    image: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--demo", "--headless", "--image", str(tmp_path / "none.pcmi")]) == 2
    assert "none.pcmi" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--source"):
        main(["--headless", "--image", str(image)])
    with pytest.raises(SystemExit, match="--image"):
        main(["--headless", "--source", str(clip), "--device", "127.0.0.1:1", "--fallback", "model.tflite"])


# -------------------------------------------------------------------------------------------------------- end to end


def test_the_demo_reads_its_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, picture = tmp_path / "out.mp4", tmp_path / "out.png"
    # How much it drifts is not for the machine's speed to say.
    options = ["--headless", "--json", "--every-frame", "--deadline", "30", "--clock", "manual"]
    assert main(["--demo", *options, "--video", str(video), "--picture", str(picture)]) == 0
    *_, summary = documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert summary["event"] == "summary"
    assert (summary["frames"], summary["answered"], summary["dropped"]) == (240, 240, 0)
    assert summary["right"] >= 0.9 * summary["judged"] == 0.9 * 240
    assert 0 < summary["latency_p50_ms"] <= summary["latency_p95_ms"]
    frames = [document for document in documents if document["event"] == "frame"]
    assert [each["number"] for each in frames] == list(range(240))
    assert sum(each["labels"][0][0] == each["truth"] for each in frames) == summary["right"]
    written = cv2.VideoCapture(str(video))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 240
    written.release()
    annotated = cv2.imread(str(picture))
    assert annotated is not None
    assert annotated.shape == (300, 400, 3)
    green = (annotated == (90, 220, 90)).all(axis=2).sum()
    assert green > 300  # the box around what was looked at


def test_the_device_dies_and_comes_back(image: Path) -> None:
    # A deadline that a busy machine keeps: what is away here has been killed.
    arguments = ["--demo", "--loop", "--headless", "--deadline", "30"]
    with (
        served(image, *STEADY) as (address, server),
        application("examples.camera", *arguments, "--device", address) as camera,
    ):
        camera.wait_for("frame", 10, status="answered")
        server.kill()
        camera.wait_for("device-away")
        gone = len(camera.documents)
        camera.wait_for("frame", 20, after=gone, status="away")  # frames go on
        with served(image, *STEADY, listen=address.removeprefix("grpc://")):
            camera.wait_for("device-back", after=gone)
            back = len(camera.documents)
            camera.wait_for("frame", 100, after=back, status="answered")
            assert camera.end() == 0
        assert camera.errors() == ""
    kinds = [document["event"] for document in camera.documents if document["event"] != "frame"]
    assert kinds == ["device-ready", "device-away", "device-back", "summary"]
    numbers = [each["number"] for each in camera.of("frame")]
    assert numbers == sorted(set(numbers))
    answered = [each for each in camera.of("frame", back) if each["status"] == "answered"]
    right = sum(each["labels"][0][0] == each["truth"] for each in answered)
    assert right > 0.7 * len(answered)  # of some nine digits, and any chip has its weak ones


def test_a_fallback_answers_meanwhile(image: Path) -> None:
    events: list[str] = []
    prepared: list[str] = []
    picture = np.zeros((96, 96, 3), np.uint8)
    with served(image, "--seed", "3") as (address, server):
        options = parse(["--device", address, "--image", str(image), "--fallback", "--deadline", "30"])
        link = DeviceLink(
            opener(options, pcmedge.ChipImage.open(image)),
            on_event=lambda kind, message: events.append(kind),
            on_ready=lambda chip: prepared.append(chip.address),
        )

        def ask() -> str:
            return link.ask(picture, time.monotonic() + 30).status

        assert ask() == "answered"
        server.kill()
        assert [ask() for _ in range(5)] == ["fallback"] * 5  # none is lost, the one that noticed included
        assert link.away
        with served(image, "--seed", "3", listen=address.removeprefix("grpc://")):
            wait_for(lambda: ask() == "answered")
        link.close()
    assert events == ["device-ready", "device-away", "device-back"]
    assert prepared == [address, address]


def test_a_digital_model_answers_instead(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = ["--demo", "--headless", "--json", "--every-frame", "--deadline", "30", "--frames", "48"]
    model = ["--device", address, "--image", str(image), "--fallback", str(MODEL_FILE)]
    assert main([*options, *model]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["fallback"], summary["right"]) == (48, 48)


def test_a_camera_is_served_by_whoever_opened_it_later(image: Path, clip: Path) -> None:
    """No device at the start is no reason to end."""
    with served(image, "--seed", "3") as (address, server):
        server.kill()
        server.wait()
        device = pcmedge.connect(address, lazy=True, timeout_s=30.0)
        link, tally = DeviceLink(lambda: device), Tally()
        capture = Capture(clip, loop=True)
        frames = perceive(capture, link, board, 30.0)

        def looked(status: str) -> int:
            tally.add(next(frames), None)
            return tally.statuses[status]

        assert looked("away") == 1
        with served(image, "--seed", "3", listen=address.removeprefix("grpc://")):
            wait_for(lambda: looked("answered"))
        capture.close()
        link.close()
    assert link.away == ""
