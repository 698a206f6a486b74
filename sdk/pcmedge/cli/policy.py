"""``pcmedge policy``: when a device recalibrates by itself."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli.options import DeviceUrl, Json, Model, Reads, Timeout
from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import Policy


class Kind(enum.StrEnum):
    manual = "manual"
    interval = "interval"
    log_time = "log-time"
    drift = "drift"
    self_test = "self-test"


def run(
    kind: Annotated[
        Kind | None, typer.Argument(help="The policy to set; without it, show the present one.", show_default=False)
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="interval: device time between two.", show_default=False)
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="log-time: recalibrate when the age has grown by this.", show_default=False)
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="drift: change of the median factor; self-test: agreement.", show_default=False),
    ] = None,
    self_test_every: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Test itself every so often (device time), with any policy.", show_default=False
        ),
    ] = None,
    self_test_ratio: Annotated[
        float | None,
        typer.Option(help="Or whenever the age has grown by this (self-test: 1.25).", show_default=False),
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Recalibrate when a self-test agrees less than this.", show_default=False),
    ] = None,
    drop: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Or this much less than right after programming.", show_default=False),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Least time between recalibrations for self-tests (1h).", show_default=False),
    ] = None,
    reads: Reads = None,
    model: Model = None,
    device: DeviceUrl = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Show or set the recalibration policy of a model.

    \b
    Examples:
      pcmedge policy
      pcmedge policy interval --every 1d
      pcmedge policy log-time --ratio 2
      pcmedge policy drift --threshold 0.02
      pcmedge policy self-test --threshold 0.95
      pcmedge policy log-time --ratio 4 --self-test-every 1h --drop 0.05
      pcmedge policy manual
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    tests = {
        "self_test_interval_s": _time("--self-test-every", self_test_every),
        "self_test_ratio": _given("--self-test-ratio", self_test_ratio),
        "agreement_threshold": _given("--agreement", agreement),
        "agreement_drop": _given("--drop", drop),
        "self_test_spacing_s": _time("--spacing", spacing),
    }
    given = {name: value for name, value in tests.items() if value is not None}
    if kind is None:
        if given:
            raise InputValueError("say which policy tests itself, for example 'pcmedge policy log-time --drop 0.05'")
        wanted = None
    else:
        wanted = _policy(kind, every=every, ratio=ratio, threshold=threshold, reads=reads or 0, tests=given)
    with open_device(device, timeout_s=timeout) as connected:
        present = connected.policy(model=model) if wanted is None else connected.set_policy(wanted, model=model)
    Output(json=json).result(present, lambda console: _draw(console, present))


def _given(option: str, value: float | None) -> float | None:
    """A number as it was given; 0, which the contract takes for the device's default, is no such number."""
    if value == 0:
        raise InputValueError(f"{option} is larger than 0; leave it out for the default, where there is one")
    return value


def _time(option: str, text: str | None) -> float | None:
    from pcmedge.durations import parse_duration

    return None if text is None else _given(option, parse_duration(text))


def _policy(
    kind: Kind, *, every: str | None, ratio: float | None, threshold: float | None, reads: int, tests: dict[str, Any]
) -> Policy:
    """The policy the options describe. Raises InputValueError if the one number the kind needs is missing.

    ``tests``: fields of the policy about self-tests, which go with every kind.
    """
    from pcmedge.device.results import Policy

    figure: dict[str, Any] = {}
    match kind:
        case Kind.manual:
            return Policy(kind=kind.value, **tests)
        case Kind.interval:
            if every is None:
                raise InputValueError("the policy 'interval' needs --every TIME, for example --every 1d")
            figure["interval_s"] = _time("--every", every) or 0.0
        case Kind.log_time:
            figure["log_time_ratio"] = 2.0 if ratio is None else _given("--ratio", ratio) or 0.0
        case Kind.drift:
            figure["drift_threshold"] = _threshold(kind, threshold, "0.02")
        case Kind.self_test:
            if threshold is not None and "agreement_threshold" in tests:
                raise InputValueError("--threshold and --agreement mean the same for 'self-test'; give one of them")
            if threshold is not None or not tests.keys() & {"agreement_threshold", "agreement_drop"}:
                figure["agreement_threshold"] = _threshold(kind, threshold, "0.95")
    return Policy(kind=kind.value, reads=reads, **figure, **tests)


def _threshold(kind: Kind, threshold: float | None, example: str) -> float:
    if threshold is None:
        raise InputValueError(f"the policy '{kind.value}' needs --threshold, for example --threshold {example}")
    return _given("--threshold", threshold) or 0.0


def _draw(console: Screen, policy: Policy) -> None:
    from pcmedge.durations import format_duration

    details = {
        "interval": f"every {format_duration(policy.interval_s)}",
        "log-time": f"whenever the age has grown {policy.log_time_ratio:g} times",
        "drift": f"when the median drift factor has moved by {policy.drift_threshold:.1%}",
        "self-test": f"when agreement falls below {_floor(policy)}",
    }
    when = details.get(policy.kind, "only on request")
    coming = "" if policy.next_in_s is None else f"; next in {format_duration(policy.next_in_s)}"
    reads = f" on {policy.reads} reads" if policy.reads else ""
    console.say(f"{policy.kind}: {when}, method {policy.method}{reads}{coming}")
    if policy.self_test_interval_s:
        tests = f"every {format_duration(policy.self_test_interval_s)}"
    elif policy.self_test_ratio or policy.kind == "self-test":
        tests = f"whenever the age has grown {policy.self_test_ratio or 1.25:g} times"
    else:
        return
    spacing = format_duration(policy.self_test_spacing_s)
    below = "" if policy.kind == "manual" else f", recalibrates below {_floor(policy)}, at most every {spacing}"
    console.say(f"tests itself {tests}{below}")


def _floor(policy: Policy) -> str:
    """The agreement a policy asks for, in words."""
    parts = [f"{policy.agreement_threshold:.1%}"] if policy.agreement_threshold else []
    if policy.agreement_drop:
        parts.append(f"{policy.agreement_drop:.1%} less than as programmed")
    return " or ".join(parts)
