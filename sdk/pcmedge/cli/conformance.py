"""``pcmedge conformance``: does a device keep the device contract?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcmedge.cli.options import DeviceUrl, Json, Timeout
from pcmedge.errors import InputValueError

if TYPE_CHECKING:
    from pcmedge.cli.output import Screen
    from pcmedge.conformance import Report, Result

_STYLE = {"passed": "green", "failed": "bold red", "not applicable": "dim", "skipped": "yellow"}
_MARK = {"passed": "✓", "failed": "✗", "not applicable": "–", "skipped": "?"}


def run(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="The device to test; without it --device.", show_default=False),
    ] = None,
    device: DeviceUrl = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule", "-r", metavar="NUMBER", help="Only this rule (R12) or check (R12.2); repeat.", show_default=False
        ),
    ] = None,
    allow_destructive: Annotated[
        bool,
        typer.Option(
            "--allow-destructive", help="Also on a device that holds images of others, which may be erased for room."
        ),
    ] = False,
    restart_cmd: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Restarts the device and ends; for the rules on what survives a power cut.",
            show_default=False,
        ),
    ] = None,
    infer_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A second token, of the role infer; for the rule on roles.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report, with its digest, as JSON.", show_default=False),
    ] = None,
    list_rules: Annotated[bool, typer.Option("--list", help="List the checks; asks no device.")] = False,
    timeout: Timeout = None,
    json: Json = False,
) -> int:
    """Test any device, emulated or silicon, against the rules of docs/device-contract.md, and report on each.

    Programs a small probe network of its own and erases it at the end. Where images of others are resident, checks that
    change the device are skipped unless --allow-destructive is given.

    Exit codes: 0 no check failed, 1 a check failed.

    \b
    Examples:
      pcmedge conformance grpc://127.0.0.1:7390
      pcmedge conformance unix:///run/pcm0.sock --restart-cmd 'systemctl restart pcm0' --report report.json
      pcmedge conformance grpc://chip.local:7390 --rule R12 --rule R13.2 --json
    """
    from pcmedge.cli.output import Output
    from pcmedge.cli.session import TokenFile, security_from_environment
    from pcmedge.conformance import all_rules, run_conformance
    from pcmedge.device.connecting import OPERATION_TIMEOUT_S, TIMEOUT_S

    out = Output(json=json)
    if list_rules:
        rows = [{"number": each.number, "text": each.text, "needs": each.needs} for each in all_rules()]
        lines = "\n".join(f"{row['number']:<7}{row['text']}" for row in rows)
        out.result({"rules": rows}, lambda console: console.say(lines))
        return 0
    address = url or device
    if address is None:
        raise InputValueError("no device named. Give its URL, such as grpc://127.0.0.1:7390, or set PCMEDGE_DEVICE")
    if report is not None:
        _check_writable(report)
    with out.progress("testing") as bar:
        found = run_conformance(
            address,
            rules=tuple(rule or ()),
            allow_destructive=allow_destructive,
            restart=restart_cmd,
            security=security_from_environment(),
            infer_token=None if infer_token_file is None else TokenFile(infer_token_file).read(),
            timeout_s=timeout or TIMEOUT_S,
            operation_timeout_s=timeout or OPERATION_TIMEOUT_S,
            progress=bar.update,
        )
    if report is not None:
        _write(report, found)
    out.result(found.document(), lambda console: _draw(console, found, report))
    return 0 if found.passed else 1


def _check_writable(path: Path) -> None:
    """Before any work: InputValueError if the report has no folder to go to."""
    if not path.parent.is_dir() or path.is_dir():
        raise InputValueError(f"{path}: expected a file in a folder that exists", path=path)


def _write(path: Path, report: Report) -> None:
    import json as encoder

    from pcmedge.image.files import write_atomically

    write_atomically(path, (encoder.dumps(report.document(), indent=2) + "\n").encode())


def _draw(console: Screen, report: Report, path: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    device = report.device
    maker = f" by {device.vendor}" if device.vendor not in device.product.split() else ""
    console.say(
        f"{device.product}{maker}, serial {device.serial}, firmware {device.firmware_version}, contract "
        f"{device.contract_version}, {device.technology or 'technology not told'}, at {device.address}"
    )
    table = Table(box=None, show_header=False, padding=(0, 1))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    area = ""
    for result in sorted(report.results, key=lambda each: _place(each.number)):
        if result.area != area:
            area = result.area
            table.add_row("", "", Text(area, style="bold"))
        style = _STYLE[result.outcome.value]
        table.add_row(Text(_MARK[result.outcome.value], style=style), result.number, Text(result.text))
        if said := _said(result):
            table.add_row("", "", Text(said, style=style))
    console.print(table)
    for note in report.notes:
        console.say(note, style="yellow")
    counts = ", ".join(f"{number} {outcome}" for outcome, number in report.counts.items() if number)
    verdict = "conforms, as far as tested" if not report.complete else "conforms"
    console.say(
        f"{counts}: the device {verdict if report.passed else 'does not conform'}",
        style="green" if report.passed else "bold red",
    )
    console.say(f"sha256 {report.sha256}" + (f", written to {path}" if path else ""))


def _place(number: str) -> tuple[int, int]:
    rule, _, check = number.removeprefix("R").partition(".")
    return int(rule), int(check)


def _said(result: Result) -> str:
    if result.expected:
        return f"expected {result.expected}; found {result.found}"
    return f"{result.outcome.value}: {result.why}" if result.why else ""
