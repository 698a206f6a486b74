"""Running the checks against one device, and leaving it as it was found."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc

from pcmedge.conformance import probe
from pcmedge.conformance.bench import Bench
from pcmedge.conformance.expecting import Broken, NotApplicable
from pcmedge.conformance.report import DeviceUnderTest, Outcome, Report, Result
from pcmedge.conformance.rules import Rule, all_rules, chosen_rules
from pcmedge.conformance.wire import Refused, Wire
from pcmedge.device._grpc_common import Security
from pcmedge.errors import (
    AccessError,
    DeviceStateError,
    Error,
    InputValueError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)

SUITE_VERSION = 3
"""Counts changes of what the checks ask for."""

Progress = Callable[[str, int, int], None]
"""Called with (number of the check, checks done, checks chosen)."""


@dataclass(frozen=True, kw_only=True)
class Permission:
    """What the suite may do to images that are not its own."""

    destructive: bool
    others: tuple[str, ...]

    def forbids(self, rule: Rule) -> str:
        """Why a check may not be made; empty if it may."""
        if self.destructive or not self.others or not rule.changes:
            return ""
        return (
            f"the device holds {', '.join(self.others)}; --allow-destructive lets the suite program beside and over it"
        )


def run_conformance(
    url: str,
    *,
    rules: Sequence[str] = (),
    allow_destructive: bool = False,
    restart: Callable[[], None] | str | None = None,
    restart_wait_s: float = 60.0,
    security: Security | None = None,
    infer_token: str | None = None,
    timeout_s: float = 30.0,
    operation_timeout_s: float = 900.0,
    progress: Progress | None = None,
) -> Report:
    """Test a device at ``url`` (``grpc://``, ``grpcs://``, ``unix:///``) against the device contract.

    ``rules``: numbers such as "R12" or "R12.2"; all without. ``allow_destructive``: also where the device holds images
    of others, which may be erased to make room, and age, lease and noise of which the checks touch. ``restart``:
    a command line, or a function, that stops and starts the device and returns when it may be called again; it has to
    answer within ``restart_wait_s``. ``security``: how to be let in, with a token of the role lab (operate, if there
    is no lab) where the device asks for tokens; ``infer_token``: a second one, of the role infer. The probe images the
    suite programs are erased at the end. Needs nothing beyond the base install.

    Raises UnavailableError if no device answers, InputValueError for an unknown rule or a bad address, DeviceStateError
    if there are no tiles for the probe.
    """
    chosen = chosen_rules(tuple(rules))
    wire = Wire(url, security=security, timeout_s=timeout_s, operation_timeout_s=operation_timeout_s)
    try:
        bench = _bench(wire, restart, restart_wait_s, infer_token)
        before = bench.residents() if "images" in bench.capabilities else {}
        ours = {name for name in before if name == probe.NAME or name.startswith(f"{probe.NAME}-")}
        permission = Permission(destructive=allow_destructive, others=tuple(sorted(set(before) - ours)))
        notes = _make_room(bench, permission)
        results = []
        for done, each in enumerate(chosen):
            if progress is not None:
                progress(each.number, done, len(chosen))
            results.append(_checked(bench, each, permission))
        if progress is not None:
            progress("", len(chosen), len(chosen))
        _clean_up(bench, permission)
    finally:
        wire.close()
    skipped = any(result.outcome is Outcome.SKIPPED for result in results)
    return Report(
        device=_under_test(wire.url, bench),
        sdk_version=_sdk_version(),
        suite_version=SUITE_VERSION,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        results=tuple(results),
        complete=len(chosen) == len(all_rules()) and not skipped,
        notes=notes,
    )


_NOT_LET_IN: dict[str, type[AccessError]] = {
    error.status: error for error in (UnauthenticatedError, PermissionDeniedError)
}


def _bench(wire: Wire, restart: Callable[[], None] | str | None, wait_s: float, infer_token: str | None) -> Bench:
    if isinstance(restart, str):
        command = shlex.split(restart)
        if not command:
            raise InputValueError("expected a command that restarts the device, found an empty one")
        restart = lambda: _run(command)  # noqa: E731
    try:
        return Bench(wire, restart=restart, restart_wait_s=wait_s, infer_token=infer_token)
    except Refused as refused:
        if error := _NOT_LET_IN.get(refused.refusal.code):
            raise error(f"cannot test {wire.url}: {refused.refusal}", address=wire.url) from None
        raise UnavailableError(
            f"no device to test at {wire.url}: {refused.refusal}; is it running, and does it speak the contract?",
            address=wire.url,
        ) from None


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Broken("the restart command to end well within 300 s", str(error)) from None
    if done.returncode:
        raise Broken("the restart command to end with 0", f"{done.returncode}: {done.stderr.strip()[-300:]}")


def _make_room(bench: Bench, permission: Permission) -> tuple[str, ...]:
    """Tiles for the probe and a second image, beside others' or, if that is allowed, in their place."""
    geometry = bench.identity.geometry
    needed = 3 * probe.shipped(1).manifest.placement.tiles
    if "program" not in bench.capabilities or not geometry.tiles or geometry.free_tiles >= needed:
        return ()
    if not (permission.destructive and permission.others):
        if permission.others:
            return ()
        raise DeviceStateError(
            f"the suite needs {needed} free tiles, the chip has {geometry.free_tiles} of {geometry.tiles}"
        )
    for name in permission.others:
        bench.erase(name)
    return (f"erased {', '.join(permission.others)} for want of free tiles",)


def _checked(bench: Bench, rule: Rule, permission: Permission) -> Result:
    """The result of one check, whatever happens in it."""
    started_s = time.monotonic()
    absent = [name for name in rule.needs if name not in bench.capabilities]
    if rule.area not in ("identity", "errors") and rule.changes and "program" not in bench.capabilities:
        absent.append("program")
    outcome = Outcome.PASSED
    said: dict[str, str] = {}
    try:
        if absent:
            raise NotApplicable(f"capability {', '.join(dict.fromkeys(absent))} is absent")
        if forbidden := permission.forbids(rule):
            outcome, said = Outcome.SKIPPED, {"why": forbidden}
        elif rule.restarts and not bench.can_restart:
            outcome, said = Outcome.SKIPPED, {"why": "no way to restart the device was given (--restart-cmd)"}
        else:
            rule.check(bench)
    except NotApplicable as reason:
        outcome, said = Outcome.NOT_APPLICABLE, {"why": str(reason)}
    except Broken as broken:
        outcome, said = Outcome.FAILED, {"expected": broken.expected, "found": broken.found}
    except Refused as refused:
        outcome, said = Outcome.FAILED, {"expected": f"{refused.refusal.call} to succeed", "found": str(refused)}
    except (Error, grpc.RpcError, ValueError, LookupError, TypeError) as error:
        # Whatever a device answers must become a result; nothing it sends may end the run.
        outcome = Outcome.FAILED
        said = {"expected": "an answer as the contract describes it", "found": f"{type(error).__name__}: {error}"[:500]}
    if outcome is Outcome.FAILED:
        # Nothing of a failed check stands in the way of the next one.
        bench.used()
    return Result(
        number=rule.number,
        text=rule.text,
        area=rule.area,
        outcome=outcome,
        duration_s=round(time.monotonic() - started_s, 3),
        **said,
    )


def _clean_up(bench: Bench, permission: Permission) -> None:
    """The probe is erased; a device that cannot even do that has failed a check before."""
    if permission.others and not permission.destructive:
        return
    with contextlib.suppress(Refused, Broken):
        bench.clear()


def _under_test(url: str, bench: Bench) -> DeviceUnderTest:
    identity = bench.identity
    return DeviceUnderTest(
        address=url,
        vendor=identity.vendor,
        product=identity.product,
        serial=identity.serial,
        firmware_version=identity.firmware_version,
        contract_version=identity.contract_version,
        emulated=identity.emulated,
        technology=identity.technology,
        profile=identity.geometry.profile,
        capabilities=tuple(identity.capabilities),
    )


def _sdk_version() -> str:
    from pcmedge import __version__

    return __version__
