"""``pcmedge self-test``: does the device still agree with the reference outputs in its image?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcmedge.cli.options import DeviceUrl, Json, Model, Timeout

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.device.results import SelfTest


def run(model: Model = None, device: DeviceUrl = None, timeout: Timeout = None, json: Json = False) -> int:
    """Run the reference inputs stored in the image and compare with their digital outputs.

    Exit codes: 0 passed, 1 agreement below the device's threshold.

    \b
    Example:
      pcmedge self-test --json | jq .agreement
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import open_device

    with open_device(device, timeout_s=timeout) as connected:
        result = connected.self_test(model=model)
    Output(json=json).result(result, lambda console: _draw(console, result))
    return 0 if result.passed else 1


def _draw(console: Screen, result: SelfTest) -> None:
    from pcmedge.durations import format_duration

    verdict = "passed" if result.passed else "failed"
    console.say(
        f"self-test {verdict}: {result.agreement:.1%} of {result.reference_inputs} reference inputs agree "
        f"(threshold {result.threshold:.1%}), relative error {result.relative_error:.3g}, "
        f"age {format_duration(result.age_s)}",
        style="green" if result.passed else "bold red",
    )
