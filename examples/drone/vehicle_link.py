"""The MAVLink side: what the vehicle says, kept; what we say, sent. Owned by one thread."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("MAVLINK20", "1")  # Read by pymavlink when it is imported: version 2 on the wire.

from pymavlink import mavutil

from examples.drone.phases import HEARD_S, VehicleState

mavlink = mavutil.mavlink
HEARTBEAT_S = 1.0
REOPEN_S = 1.0
FORGET_S = 10.0
"""A UDP peer that was silent for so long is sent nothing any more, when there is another one."""
NAME_LENGTH, TEXT_LENGTH = 10, 50


class VehicleLink:
    """A component of the vehicle's system, at ``address`` as pymavlink writes it: udpin:HOST:PORT, a serial port, ...

    ``on_event(kind, message)`` hears of "vehicle-heard", "vehicle-lost" and "link-lost". A link that breaks (a serial
    adapter pulled out) is opened again every second. Raises OSError if it cannot be opened in the first place.
    """

    def __init__(
        self, address: str, *, system: int = 1, baud: int = 921600, on_event: Callable[[str, str], None]
    ) -> None:
        self._address, self._system, self._baud = address, system, baud
        self._on_event = on_event
        self._started_s = time.monotonic()
        self._heartbeat_due_s = self._started_s
        self._reopen_at_s = 0.0
        self._last_s: dict[str, float] = {}
        self._last: dict[str, Any] = {}
        self._heard = False
        self._connection: Any = None
        self._open()

    def _open(self) -> None:
        with _quiet():
            self._connection = mavutil.mavlink_connection(
                self._address,
                baud=self._baud,
                source_system=self._system,
                source_component=mavlink.MAV_COMP_ID_ONBOARD_COMPUTER,
                udp_timeout=FORGET_S,
                retries=1,
                # Only so does a TCP connection say that it has ended and cannot be made again.
                autoreconnect=self._address.startswith("tcp:"),
            )

    @property
    def port(self) -> int:
        """Of a UDP socket: the one that was free, where 0 was asked for."""
        return int(self._connection.port.getsockname()[1])

    def step(self, timeout_s: float, *, active: bool) -> None:
        """Read what has come, for at most ``timeout_s``, and send our heartbeat when it is due.

        ``active``: our state in it, MAV_STATE_ACTIVE or, while the chip does not answer, MAV_STATE_STANDBY.
        """
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            message = self._receive(min(left_s, max(0.001, self._heartbeat_due_s - time.monotonic())))
            if message is not None:
                self._take(message)
            self._beat(active)
        self._notice()

    def _receive(self, timeout_s: float) -> Any:
        if self._connection is None:
            time.sleep(timeout_s)
            if time.monotonic() >= self._reopen_at_s:
                self._reopen_at_s = time.monotonic() + REOPEN_S
                try:
                    self._open()
                except OSError:
                    return None
            return None
        try:
            with _quiet():
                message = self._connection.recv_match(blocking=True, timeout=timeout_s)
            # A TCP connection that pymavlink has made again still waits on the old socket.
            self._connection.fd = self._connection.port.fileno()
            return message
        except OSError as error:
            self._broken(error)
            return None

    def _take(self, message: Any) -> None:
        """Only the autopilot speaks for the vehicle; a ground station or a gimbal sends heartbeats too."""
        autopilot = message.get_srcComponent() == mavlink.MAV_COMP_ID_AUTOPILOT1
        if autopilot and message.get_srcSystem() == self._system:
            kind = message.get_type()
            self._last[kind], self._last_s[kind] = message, time.monotonic()

    def _beat(self, active: bool) -> None:
        now_s = time.monotonic()
        if now_s < self._heartbeat_due_s:
            return
        # One second after it was due, not after it was sent, so that the rate does not creep.
        self._heartbeat_due_s += HEARTBEAT_S
        if self._heartbeat_due_s < now_s:
            self._heartbeat_due_s = now_s + HEARTBEAT_S
        self._send(
            "heartbeat",
            mavlink.MAV_TYPE_ONBOARD_CONTROLLER,
            mavlink.MAV_AUTOPILOT_INVALID,
            0,
            0,
            mavlink.MAV_STATE_ACTIVE if active else mavlink.MAV_STATE_STANDBY,
        )

    def _notice(self) -> None:
        heard = self._age_s("HEARTBEAT") <= HEARD_S
        if heard != self._heard:
            self._heard = heard
            self._on_event(
                "vehicle-heard" if heard else "vehicle-lost",
                f"system {self._system} " + ("sends heartbeats" if heard else f"not heard for {HEARD_S:g} s"),
            )

    def _age_s(self, kind: str) -> float:
        return time.monotonic() - self._last_s.get(kind, -math.inf)

    def state(self) -> VehicleState:
        heartbeat, attitude = self._last.get("HEARTBEAT"), self._last.get("ATTITUDE")
        position = self._last.get("GLOBAL_POSITION_INT")
        return VehicleState(
            heartbeat_age_s=self._age_s("HEARTBEAT"),
            attitude_age_s=self._age_s("ATTITUDE"),
            position_age_s=self._age_s("GLOBAL_POSITION_INT"),
            armed=bool(heartbeat and heartbeat.base_mode & mavlink.MAV_MODE_FLAG_SAFETY_ARMED),
            system_status=heartbeat.system_status if heartbeat else 0,
            velocity_m_s=(position.vx / 100, position.vy / 100, position.vz / 100) if position else (0.0, 0.0, 0.0),
            turn_rad_s=(attitude.rollspeed, attitude.pitchspeed, attitude.yawspeed) if attitude else (0.0, 0.0, 0.0),
        )

    def altitude_m(self) -> float | None:
        """Above where it took off; None before the vehicle has said."""
        position = self._last.get("GLOBAL_POSITION_INT")
        return position.relative_alt / 1000 if position else None

    def send_value(self, name: str, value: float) -> None:
        """NAMED_VALUE_FLOAT; ``name`` has at most 10 characters."""
        if len(name) > NAME_LENGTH:
            raise ValueError(f"a NAMED_VALUE_FLOAT's name has at most {NAME_LENGTH} characters; found {name!r}")
        boot_ms = int(1000 * (time.monotonic() - self._started_s)) & 0xFFFFFFFF
        self._send("named_value_float", boot_ms, name.encode("ascii"), value)

    def send_text(self, text: str, *, warning: bool = False) -> None:
        """STATUSTEXT; what is longer than 50 characters is cut."""
        severity = mavlink.MAV_SEVERITY_WARNING if warning else mavlink.MAV_SEVERITY_INFO
        self._send("statustext", severity, text.encode("ascii", "replace")[:TEXT_LENGTH])

    def _send(self, message: str, *fields: Any) -> None:
        if self._connection is None:
            return
        try:
            with _quiet():
                getattr(self._connection.mav, f"{message}_send")(*fields)
        except OSError as error:
            self._broken(error)

    def _broken(self, error: OSError) -> None:
        self.close()
        self._reopen_at_s = time.monotonic() + REOPEN_S
        self._on_event("link-lost", f"{self._address}: {error}; opening it again every {REOPEN_S:g} s")

    def close(self) -> None:
        if self._connection is not None:
            if self._connection.port is not None:
                self._connection.close()
            self._connection = None


def _quiet() -> contextlib.redirect_stdout[Any]:
    """pymavlink prints what befalls a connection; stdout is for our own lines."""
    return contextlib.redirect_stdout(sys.stderr)
