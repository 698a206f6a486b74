"""A small simulated vehicle that speaks MAVLink 2: enough of an autopilot to try a companion computer on.

python -m examples.drone.vehicle udpout:127.0.0.1:14550        # one flight; prints what the companion sends

It moves exactly as its flight plan says; there is no physics and no control in it.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("MAVLINK20", "1")

from pymavlink import mavutil

mavlink = mavutil.mavlink
STEP_S = 0.05
HEARTBEAT_S = 1.0
METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True, kw_only=True)
class Leg:
    """``turn_rad_s``: about the yaw axis."""

    name: str
    armed: bool = True
    speed_m_s: float = 0.0
    climb_m_s: float = 0.0
    turn_rad_s: float = 0.0


LEGS = {
    leg.name: leg
    for leg in (
        Leg(name="parked", armed=False),
        Leg(name="take-off", climb_m_s=2.5),
        Leg(name="cruise", speed_m_s=8.0, turn_rad_s=0.1),
        Leg(name="hover"),
        Leg(name="land", climb_m_s=-1.5),
    )
}
Plan = Sequence[tuple[str, float]]
FLIGHT: Plan = (
    ("parked", 4.0),
    ("take-off", 4.0),
    ("cruise", 8.0),
    ("hover", 7.0),
    ("cruise", 5.0),
    ("land", 7.0),
    ("parked", 3.0),
)
"""Legs and how long each lasts, seconds."""


class Vehicle:
    """Sends HEARTBEAT at 1 Hz, ATTITUDE and GLOBAL_POSITION_INT at 20 Hz, and keeps what a companion sends.

    ``plan``: flown once; without one the vehicle stays in the leg it was told last by :meth:`fly`. Runs in a thread.
    """

    def __init__(self, address: str, *, system: int = 1, plan: Plan = ()) -> None:
        self._connection = mavutil.mavlink_connection(
            address, source_system=system, source_component=mavlink.MAV_COMP_ID_AUTOPILOT1
        )
        self.port = int(self._connection.port.getsockname()[1])
        """Of its UDP socket."""
        self._plan = plan
        self._leg = LEGS[plan[0][0] if plan else "parked"]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._north_m = self._altitude_m = self._yaw_rad = 0.0
        self._values: dict[str, list[float]] = {}
        self._texts: list[str] = []
        self.heartbeats_sent = 0
        self.heartbeats: list[Any] = []
        """Those of the companion."""
        self.landed = threading.Event()
        """Set when the plan is over."""
        self._thread = threading.Thread(target=self._run, name="vehicle", daemon=True)
        self._thread.start()

    @property
    def leg(self) -> str:
        return self._leg.name

    def fly(self, name: str) -> None:
        self._leg = LEGS[name]

    def values(self, name: str) -> list[float]:
        """What came as NAMED_VALUE_FLOAT of this name, oldest first."""
        with self._lock:
            return list(self._values.get(name, ()))

    def texts(self) -> list[str]:
        """What came as STATUSTEXT."""
        with self._lock:
            return list(self._texts)

    def _run(self) -> None:
        started_s = time.monotonic()
        beat_s = started_s
        while not self._stopping.is_set():
            now_s = time.monotonic()
            if self._plan:
                self._follow(now_s - started_s)
            self._move()
            self._send(int(1000 * (now_s - started_s)))
            if now_s >= beat_s:
                beat_s += HEARTBEAT_S
                self._beat()
            self._receive()
            self._stopping.wait(max(0.0, now_s + STEP_S - time.monotonic()))
        self._connection.close()

    def _follow(self, elapsed_s: float) -> None:
        for name, seconds in self._plan:
            if elapsed_s < seconds:
                self.fly(name)
                return
            elapsed_s -= seconds
        self.landed.set()

    def _move(self) -> None:
        leg = self._leg
        self._north_m += leg.speed_m_s * math.cos(self._yaw_rad) * STEP_S
        self._altitude_m = max(0.0, self._altitude_m + leg.climb_m_s * STEP_S)
        self._yaw_rad = math.remainder(self._yaw_rad + leg.turn_rad_s * STEP_S, 2 * math.pi)

    def _send(self, boot_ms: int) -> None:
        leg = self._leg
        pitch = -0.15 if leg.speed_m_s else 0.0
        self._connection.mav.attitude_send(boot_ms, 0.0, pitch, self._yaw_rad, 0.0, 0.0, leg.turn_rad_s)
        north, east = leg.speed_m_s * math.cos(self._yaw_rad), leg.speed_m_s * math.sin(self._yaw_rad)
        climb = leg.climb_m_s if self._altitude_m > 0 else max(0.0, leg.climb_m_s)
        self._connection.mav.global_position_int_send(
            boot_ms,
            round(1e7 * (47.0 + self._north_m / METRES_PER_DEGREE)),
            round(1e7 * 8.0),
            round(1000 * (400.0 + self._altitude_m)),
            round(1000 * self._altitude_m),
            round(100 * north),
            round(100 * east),
            round(-100 * climb),
            round(math.degrees(self._yaw_rad) % 360 * 100) % 36000,
        )

    def _beat(self) -> None:
        armed = self._leg.armed
        mode = mavlink.MAV_MODE_FLAG_CUSTOM_MODE_ENABLED | (mavlink.MAV_MODE_FLAG_SAFETY_ARMED if armed else 0)
        self._connection.mav.heartbeat_send(
            mavlink.MAV_TYPE_QUADROTOR,
            mavlink.MAV_AUTOPILOT_GENERIC,
            mode,
            0,
            mavlink.MAV_STATE_ACTIVE if armed else mavlink.MAV_STATE_STANDBY,
        )
        self.heartbeats_sent += 1

    def _receive(self) -> None:
        while (message := self._connection.recv_match(blocking=False)) is not None:
            with self._lock:
                match message.get_type():
                    case "HEARTBEAT":
                        self.heartbeats.append(message)
                    case "NAMED_VALUE_FLOAT":
                        self._values.setdefault(message.name, []).append(message.value)
                    case "STATUSTEXT":
                        self._texts.append(message.text)

    def close(self) -> None:
        """It falls silent, as one whose radio died."""
        self._stopping.set()
        self._thread.join()


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    vehicle = Vehicle(arguments[0], plan=FLIGHT)
    leg, shown = "", 0
    try:
        while not vehicle.landed.wait(0.2):
            if vehicle.leg != leg:
                leg = vehicle.leg
                print(f"vehicle: {leg}", flush=True)
            texts = vehicle.texts()
            for text in texts[shown:]:
                print(f"companion: {text}", flush=True)
            shown = len(texts)
    finally:
        vehicle.close()
    print(f"landed; heard {len(vehicle.heartbeats)} heartbeats of the companion, sent {vehicle.heartbeats_sent}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
