"""examples/drone, end to end: a simulated vehicle on loopback, a chip that dies, and recalibration in its place."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pcmedge
import pytest
from cli_process import PATIENCE_S, served, wait_for
from example_process import Application, application
from hypothesis import given
from hypothesis import strategies as st

from examples.camera.demo_clip import demo_image
from examples.camera.outputs import Reporter
from examples.drone.__main__ import main
from examples.drone.phases import SETTLED_S, Gate, SystemStatus, VehicleState, judge, recalibration_due
from examples.drone.vehicle import LEGS, Vehicle, mavlink
from examples.drone.vehicle_link import VehicleLink

HOVER = VehicleState(
    heartbeat_age_s=0.5, attitude_age_s=0.1, position_age_s=0.1, armed=True, system_status=SystemStatus.ACTIVE
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "board.pcmi"
    demo_image().save(path)
    return path


# ------------------------------------------------------------------------------------------------------------ the rule


@pytest.mark.parametrize(
    ("change", "allowed", "reason"),
    [
        ({}, True, "standing or hovering"),
        ({"armed": False}, True, "disarmed"),
        ({"armed": False, "velocity_m_s": (9.0, 0.0, 0.0)}, True, "disarmed"),  # carried to the field
        ({"armed": False, "heartbeat_age_s": 3.1}, False, "vehicle not heard"),
        ({"armed": False, "system_status": 5}, False, "vehicle in CRITICAL"),
        ({"system_status": 6}, False, "vehicle in EMERGENCY"),
        ({"system_status": 8}, False, "vehicle in FLIGHT_TERMINATION"),
        ({"attitude_age_s": 1.1}, False, "attitude or position too old"),
        ({"position_age_s": math.inf}, False, "attitude or position too old"),
        ({"velocity_m_s": (0.8, 0.8, 0.0)}, False, "moving over ground"),
        ({"velocity_m_s": (math.nan, 0.0, 0.0)}, False, "moving over ground"),
        ({"velocity_m_s": (0.0, 0.9, -0.2)}, True, "standing or hovering"),
        ({"velocity_m_s": (0.0, 0.0, -0.4)}, False, "climbing or descending"),
        ({"velocity_m_s": (0.0, 0.0, 0.4)}, False, "climbing or descending"),
        ({"turn_rad_s": (0.0, 0.0, -0.3)}, False, "turning"),
        ({"turn_rad_s": (0.1, math.nan, 0.0)}, False, "turning"),
    ],
)
def test_the_rule(change: dict[str, object], allowed: bool, reason: str) -> None:
    verdict = judge(replace(HOVER, **change))  # type: ignore[arg-type]
    assert (verdict.allowed, verdict.reason) == (allowed, reason)
    assert len(reason) <= 40


def test_a_vehicle_never_heard_allows_nothing() -> None:
    assert not judge(VehicleState()).allowed


speeds = st.floats(-30.0, 30.0)


@given(velocity=st.tuples(speeds, speeds, speeds), turn=st.tuples(speeds, speeds, speeds))
def test_more_motion_never_allows_what_less_forbade(
    velocity: tuple[float, float, float], turn: tuple[float, float, float]
) -> None:
    state = replace(HOVER, velocity_m_s=velocity, turn_rad_s=turn)
    faster = replace(
        state, velocity_m_s=tuple(2 * each for each in velocity), turn_rad_s=tuple(2 * each for each in turn)
    )  # fmt: skip
    assert judge(state).allowed or not judge(faster).allowed


def test_a_pause_between_manoeuvres_is_no_hover() -> None:
    gate, cruise = Gate(), replace(HOVER, velocity_m_s=(8.0, 0.0, 0.0))
    assert not gate.ask(HOVER, 100.0).allowed
    assert not gate.ask(HOVER, 100.0 + SETTLED_S - 0.1).allowed
    assert not gate.ask(cruise, 102.0).allowed
    assert not gate.ask(HOVER, 102.1).allowed
    assert gate.ask(HOVER, 102.1 + SETTLED_S).allowed
    assert gate.ask(replace(HOVER, armed=False), 105.0).allowed
    assert Gate().ask(replace(HOVER, armed=False), 0.0).allowed  # nothing to settle


def test_when_recalibration_is_due() -> None:
    ages = [age for age in range(1000) if recalibration_due(age, 0.0)]
    assert ages[0] == 20
    assert not recalibration_due(59.9, 20.0)
    assert recalibration_due(60.0, 20.0)


# ------------------------------------------------------------------------------------------------------------- MAVLink


@contextmanager
def linked() -> Iterator[tuple[VehicleLink, Vehicle, list[str]]]:
    events: list[str] = []
    link = VehicleLink("udpin:127.0.0.1:0", on_event=lambda kind, message: events.append(kind))
    vehicle = Vehicle(f"udpout:127.0.0.1:{link.port}")
    try:
        yield link, vehicle, events
    finally:
        vehicle.close()
        link.close()


def stepped(link: VehicleLink, condition: object) -> None:
    def met() -> bool:
        link.step(0.05, active=True)
        return bool(condition())  # type: ignore[operator]

    wait_for(met)


def test_what_the_vehicle_says_is_kept_and_what_is_sent_arrives() -> None:
    with linked() as (link, vehicle, events):
        assert mavlink.WIRE_PROTOCOL_VERSION == "2.0"
        stepped(link, lambda: judge(link.state()).reason == "disarmed")
        vehicle.fly("cruise")
        stepped(link, lambda: judge(link.state()).reason == "moving over ground")
        north, east, down = link.state().velocity_m_s
        assert math.hypot(north, east) == pytest.approx(LEGS["cruise"].speed_m_s, abs=0.02)
        assert down == 0.0
        assert link.state().turn_rad_s[2] == pytest.approx(0.1)
        vehicle.fly("take-off")
        stepped(link, lambda: link.state().velocity_m_s[2] == -2.5 and (link.altitude_m() or 0) > 1)
        link.send_value("PCM_TEST", 0.25)
        link.send_text("PCM " + "x" * 60)
        wait_for(lambda: vehicle.values("PCM_TEST") == [0.25] and vehicle.texts() == ["PCM " + "x" * 46])
        with pytest.raises(ValueError, match="10"):
            link.send_value("PCM_TOO_LONG", 0.0)
        assert events == ["vehicle-heard"]
        found = vehicle.heartbeats[0]
        assert (found.get_srcSystem(), found.get_srcComponent()) == (1, mavlink.MAV_COMP_ID_ONBOARD_COMPUTER)
        assert (found.type, found.autopilot) == (mavlink.MAV_TYPE_ONBOARD_CONTROLLER, mavlink.MAV_AUTOPILOT_INVALID)


def test_others_on_the_link_do_not_speak_for_the_vehicle() -> None:
    with linked() as (link, vehicle, _):
        stranger = Vehicle(f"udpout:127.0.0.1:{link.port}", system=7)
        try:
            vehicle.fly("cruise")
            stepped(link, lambda: judge(link.state()).reason == "moving over ground")
            heard = stranger.heartbeats_sent
            stepped(link, lambda: stranger.heartbeats_sent >= heard + 1)
            assert link.state().armed  # the stranger is parked and disarmed
        finally:
            stranger.close()


def heartbeat_arrives(link: VehicleLink, end: int) -> None:
    """Of the companion, at the other end of a line."""
    os.set_blocking(end, False)
    received = bytearray()

    def come() -> bool:
        with contextlib.suppress(BlockingIOError):
            received.extend(os.read(end, 1000))
        return any(message.get_type() == "HEARTBEAT" for message in parser.parse_buffer(bytes(received)) or ())

    parser = mavlink.MAVLink(None)
    stepped(link, come)


def test_a_serial_line_that_is_pulled_out_and_plugged_in(tmp_path: Path) -> None:
    port, events = tmp_path / "ttyACM0", []

    def plug_in() -> tuple[int, int]:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        port.symlink_to(os.ttyname(theirs))
        return ours, theirs

    ends = plug_in()
    link = VehicleLink(str(port), on_event=lambda kind, message: events.append(kind))
    heartbeat_arrives(link, ends[0])
    for end in ends:
        os.close(end)
    port.unlink()
    stepped(link, lambda: "link-lost" in events)
    ends = plug_in()
    heartbeat_arrives(link, ends[0])
    link.close()
    for end in ends:
        os.close(end)
    assert events == ["link-lost"]


def test_a_tcp_connection_that_is_ended_and_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        link = VehicleLink(f"tcp:127.0.0.1:{port}", on_event=lambda kind, message: events.append(kind))
        end, _ = server.accept()
        heartbeat_arrives(link, end.fileno())
    end.close()
    stepped(link, lambda: "link-lost" in events)
    with socket.create_server(("127.0.0.1", port)) as server:
        server.setblocking(False)
        accepted: list[socket.socket] = []

        def come() -> bool:
            with contextlib.suppress(BlockingIOError):
                accepted.append(server.accept()[0])
            return bool(accepted)

        stepped(link, come)
        heartbeat_arrives(link, accepted[0].fileno())
        link.close()
        accepted[0].close()
    assert events == ["link-lost"]
    assert capsys.readouterr().out == ""


def test_an_address_that_cannot_be_opened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--demo", "--mavlink", "/dev/no-such-port"]) == 2
    assert "no-such-port" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- end to end


@contextmanager
def flying(address: str, *more: str | Path) -> Iterator[tuple[Application, Vehicle]]:
    """The companion as a process, and a vehicle that does what the test says."""
    # The vehicle listens here, so that the test knows the port and the companion finds it.
    vehicle = Vehicle("udpin:127.0.0.1:0")
    try:
        arguments = ["--demo", "--mavlink", f"udpout:127.0.0.1:{vehicle.port}", "--device", address, "--deadline", "30"]
        arguments += ["--rate", "10"]
        with application("examples.drone", *arguments, *more) as companion:
            yield companion, vehicle
    finally:
        vehicle.close()


def recalibrations(address: str) -> int:
    with pcmedge.connect(address) as device:
        return device.telemetry().models[0].recalibrations


def test_the_chip_is_recalibrated_in_a_hover_and_not_before(image: Path) -> None:
    # Ten hours a second: recalibration is overdue all the time.
    with served(image, "--seed", "3", "--clock", "36000") as (address, _), pcmedge.connect(address) as chip:
        chip.set_policy("manual")
        before = recalibrations(address)
        with flying(address) as (companion, vehicle):
            vehicle.fly("cruise")
            companion.wait_for("device-ready")
            ours, since_s = len(vehicle.heartbeats), time.monotonic()
            wait_for(lambda: len(vehicle.values("PCM_AGE_S")) >= 6)
            assert chip.policy().kind == "manual"
            assert set(vehicle.values("PCM_RECOK")) == {0.0}
            assert recalibrations(address) == before
            assert companion.of("recalibrating") == []
            vehicle.fly("hover")
            companion.wait_for("recalibrated")
            assert recalibrations(address) > before
            wait_for(lambda: vehicle.values("PCM_RECOK")[-1] == 1.0)
            wait_for(lambda: any(text.startswith("PCM recalibrated") for text in vehicle.texts()))
            for name in ("PCM_CLASS", "PCM_SCORE", "PCM_LAT_MS", "PCM_DRIFT", "PCM_RECALS", "PCM_AWAY", "PCM_BUSY"):
                assert vehicle.values(name), name
            assert set(vehicle.values("PCM_CLASS")) <= set(range(10))
            assert all(0 <= score <= 1 for score in vehicle.values("PCM_SCORE"))
            # Heartbeats go on, and come no faster than at 1 Hz; a few may have waited to be read.
            wait_for(lambda: len(vehicle.heartbeats) >= ours + 8)
            assert len(vehicle.heartbeats) - ours <= time.monotonic() - since_s + 4
            assert companion.end() == 0
    assert companion.documents[-1]["event"] == "summary"


def outcomes(companion: Application) -> int:
    kinds = ("recalibrated", "recalibration-interrupted", "recalibration-refused")
    return sum(len(companion.of(kind)) for kind in kinds)


def test_a_recalibration_under_way_is_interrupted(image: Path) -> None:
    with served(image, "--seed", "3", "--clock", "36000") as (address, _), pcmedge.connect(address) as chip:
        chip.set_policy("manual")
        with flying(address, "--reads", "64") as (companion, vehicle):
            vehicle.fly("hover")
            # Each takes a second or two; the vehicle flies on as soon as one has begun, until that was in time.
            while not companion.of("recalibration-interrupted"):
                vehicle.fly("hover")
                begun = len(companion.of("recalibrating"))
                companion.wait_for("recalibrating", begun + 1)
                vehicle.fly("cruise")
                wait_for(lambda n=begun + 1: outcomes(companion) >= n)
            assert any(event.kind == "cancelled" for event in chip.events())
            vehicle.fly("hover")
            companion.wait_for("recalibrated")
            assert companion.end() == 0


def test_the_device_and_the_vehicle_go_and_come_back(image: Path) -> None:
    with served(image, "--seed", "3") as (address, server), flying(address) as (companion, vehicle):
        wait_for(lambda: vehicle.values("PCM_CLASS"))
        assert vehicle.values("PCM_AWAY")[-1] == 0.0
        server.kill()
        companion.wait_for("device-away")
        wait_for(lambda: vehicle.values("PCM_AWAY")[-1] == 1.0)
        wait_for(lambda: "PCM device away" in vehicle.texts())
        wait_for(lambda: vehicle.heartbeats[-1].system_status == mavlink.MAV_STATE_STANDBY)
        with served(image, "--seed", "3", listen=address.removeprefix("grpc://")):
            companion.wait_for("device-back")
            wait_for(lambda: vehicle.values("PCM_AWAY")[-1] == 0.0)
            with pcmedge.connect(address) as chip:
                assert chip.policy().kind == "manual"  # also of the chip that came back with the image's own policy
            vehicle.close()
            companion.wait_for("vehicle-lost")
            again = Vehicle(f"udpin:127.0.0.1:{vehicle.port}")
            try:
                companion.wait_for("vehicle-heard", 2)
                wait_for(lambda: again.values("PCM_CLASS") and again.heartbeats)
            finally:
                again.close()
            assert companion.end() == 0
    kinds = [each["event"] for each in companion.documents]
    assert kinds.count("device-away") == kinds.count("device-back") == 1


def test_the_demo_is_a_whole_flight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether the recalibration begun on the ground ends there is a matter of seconds; the tests above wait for one.
    on_the_ground = {"vehicle-heard", "device-ready", "detection", "recalibrating"}
    flight = [("parked", PATIENCE_S), ("take-off", 0.3), ("cruise", 0.3), ("hover", 0.3), ("land", 0.3)]
    said, begun_s = set[str](), time.monotonic()

    class TakesOff(Reporter):
        """The vehicle does, when all that happens on the ground has happened."""

        def event(self, kind: str, message: str, **more: Any) -> None:
            super().event(kind, message, **more)
            said.add(kind)
            if said >= on_the_ground and flight[0][1] == PATIENCE_S:
                flight[0] = ("parked", time.monotonic() - begun_s)

    monkeypatch.setattr("examples.drone.__main__.FLIGHT", flight)
    monkeypatch.setattr("examples.drone.__main__.Reporter", TakesOff)
    options = ["--demo", "--json", "--clock", "3600", "--fallback", "--deadline", "30"]
    assert main([*options, "--picture", str(tmp_path / "out.png")]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {document["event"] for document in documents} >= {*on_the_ground, "summary"}
    assert documents[-1]["answered"] > 0
    assert (tmp_path / "out.png").stat().st_size > 1000
