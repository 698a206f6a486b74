"""``pcmedge policy``: when a device recalibrates by itself."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

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
      pcmedge policy manual
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    wanted = None if kind is None else _policy(kind, every=every, ratio=ratio, threshold=threshold, reads=reads or 0)
    with open_device(device, timeout_s=timeout) as connected:
        present = connected.policy(model=model) if wanted is None else connected.set_policy(wanted, model=model)
    Output(json=json).result(present, lambda console: _draw(console, present))


def _given(option: str, value: float) -> float:
    """A number as it was given; 0, which the contract takes for the device's default, is no such number."""
    if value == 0:
        raise InputValueError(f"{option} is larger than 0; leave it out for the default, where there is one")
    return value


def _policy(kind: Kind, *, every: str | None, ratio: float | None, threshold: float | None, reads: int) -> Policy:
    """The policy the options describe. Raises InputValueError if the one number the kind needs is missing."""
    from pcmedge.device.results import Policy
    from pcmedge.durations import parse_duration

    match kind:
        case Kind.manual:
            return Policy(kind=kind.value)
        case Kind.interval:
            if every is None:
                raise InputValueError("the policy 'interval' needs --every TIME, for example --every 1d")
            return Policy(kind=kind.value, interval_s=_given("--every", parse_duration(every)), reads=reads)
        case Kind.log_time:
            ratio = 2.0 if ratio is None else _given("--ratio", ratio)
            return Policy(kind=kind.value, log_time_ratio=ratio, reads=reads)
    if threshold is None:
        example = "0.02" if kind is Kind.drift else "0.95"
        raise InputValueError(f"the policy '{kind.value}' needs --threshold, for example --threshold {example}")
    threshold = _given("--threshold", threshold)
    if kind is Kind.drift:
        return Policy(kind=kind.value, drift_threshold=threshold, reads=reads)
    return Policy(kind=kind.value, agreement_threshold=threshold, reads=reads)


def _draw(console: Screen, policy: Policy) -> None:
    from pcmedge.durations import format_duration

    details = {
        "interval": f"every {format_duration(policy.interval_s)}",
        "log-time": f"whenever the age has grown {policy.log_time_ratio:g} times",
        "drift": f"when the median drift factor has moved by {policy.drift_threshold:.1%}",
        "self-test": f"when agreement falls below {policy.agreement_threshold:.1%}",
    }
    when = details.get(policy.kind, "only on request")
    coming = "" if policy.next_in_s is None else f"; next in {format_duration(policy.next_in_s)}"
    reads = f" on {policy.reads} reads" if policy.reads else ""
    console.say(f"{policy.kind}: {when}, method {policy.method}{reads}{coming}")
