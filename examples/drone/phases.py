"""When the chip may be recalibrated: never while the vehicle needs its answers. Pure functions of what is known.

The rule, in full:

1. A vehicle that is not heard (no HEARTBEAT for 3 s) may be doing anything: no.
2. A vehicle that declares CRITICAL, EMERGENCY or FLIGHT_TERMINATION: no, armed or not.
3. Disarmed: yes.
4. Armed, with ATTITUDE and GLOBAL_POSITION_INT younger than 1 s, moving at most 1 m/s over ground and 0.3 m/s up or
   down, turning at most 0.2 rad/s about each axis, and all of that for 2 s without a break: yes. It stands, or hovers.
5. Everything else (take-off, climb, cruise, turns, descent, landing): no.

Rule 4's two seconds keep a pause between two manoeuvres from looking like a hover; :class:`Gate` counts them. A
recalibration that is under way when the answer turns to no is cancelled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

HEARD_S = 3.0
FRESH_S = 1.0
SETTLED_S = 2.0
GROUND_SPEED_M_S = 1.0
CLIMB_M_S = 0.3
TURN_RAD_S = 0.2


class SystemStatus(IntEnum):
    """MAV_STATE; the names that matter here."""

    ACTIVE = 4
    CRITICAL = 5
    EMERGENCY = 6
    FLIGHT_TERMINATION = 8


@dataclass(frozen=True, kw_only=True)
class VehicleState:
    """What the vehicle last said, and how long ago in seconds (infinite: never).

    ``velocity_m_s``: north, east, down. ``turn_rad_s``: about roll, pitch and yaw axis.
    """

    heartbeat_age_s: float = math.inf
    attitude_age_s: float = math.inf
    position_age_s: float = math.inf
    armed: bool = False
    system_status: int = 0
    velocity_m_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn_rad_s: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``settle``: allowed only once it has been so for ``SETTLED_S``. ``reason``: for people, at most 40 characters."""

    allowed: bool
    reason: str
    settle: bool = False


def judge(state: VehicleState) -> Verdict:
    """Rules 1 to 5 for this moment."""
    if state.heartbeat_age_s > HEARD_S:
        return Verdict(allowed=False, reason="vehicle not heard")
    if state.system_status in (SystemStatus.CRITICAL, SystemStatus.EMERGENCY, SystemStatus.FLIGHT_TERMINATION):
        return Verdict(allowed=False, reason=f"vehicle in {SystemStatus(state.system_status).name}")
    if not state.armed:
        return Verdict(allowed=True, reason="disarmed")
    if state.attitude_age_s > FRESH_S or state.position_age_s > FRESH_S:
        return Verdict(allowed=False, reason="attitude or position too old")
    north, east, down = state.velocity_m_s
    # Comparisons that are false for NaN: a number nobody knows must not allow anything.
    if not math.hypot(north, east) <= GROUND_SPEED_M_S:
        return Verdict(allowed=False, reason="moving over ground")
    if not abs(down) <= CLIMB_M_S:
        return Verdict(allowed=False, reason="climbing or descending")
    if not all(abs(rate) <= TURN_RAD_S for rate in state.turn_rad_s):
        return Verdict(allowed=False, reason="turning")
    return Verdict(allowed=True, reason="standing or hovering", settle=True)


class Gate:
    """Rule 4's two seconds: what :func:`judge` said, made steady over time."""

    def __init__(self) -> None:
        self._calm_since_s: float | None = None

    def ask(self, state: VehicleState, now_s: float) -> Verdict:
        """``now_s``: any clock that only moves forward."""
        verdict = judge(state)
        if not verdict.allowed:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        if verdict.settle and self._calm_since_s is not None and now_s - self._calm_since_s < SETTLED_S:
            return Verdict(allowed=False, reason="not calm for long enough")
        return verdict


def recalibration_due(age_s: float, last_age_s: float, ratio: float = 2.0) -> bool:
    """Whether the chip has drifted enough to be worth it: age + 20 s has grown by ``ratio`` since ``last_age_s``, the
    age at the last recalibration or 0.

    Drift is linear in log(time), so equal ratios are equal drift; this is the device's own policy "log-time".
    """
    return age_s + 20.0 >= ratio * (last_age_s + 20.0)
