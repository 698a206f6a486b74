"""The entry point: ``pcmedge VERB``, and what becomes of an error.

Exit codes: 0 done; 1 the check a command makes failed; otherwise the ``exit_code`` of the error (see
:mod:`pcmedge.errors` and docs/cli.md); 130 interrupted; 141 the reader of the output went away.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pcmedge import __version__
from pcmedge.cli import (
    benchmark,
    buffer,
    check,
    compile,
    conformance,
    demo,
    devices,
    diagnose,
    doctor,
    drift,
    events,
    expect,
    health,
    images,
    infer,
    inspect,
    lab,
    policy,
    profile,
    program,
    recalibrate,
    selftest,
    serve,
    signing,
    telemetry,
    tile,
    token,
    verify,
    version,
)
from pcmedge.cli.interrupts import remembered
from pcmedge.cli.output import ReaderGone, write_document, write_problem
from pcmedge.cli.polling import wait_in_place
from pcmedge.cli.problems import as_error, usage
from pcmedge.cli.registry import add_command, get_command
from pcmedge.cli.session import TOKEN_FILE_VARIABLE, use_token_file
from pcmedge.errors import CancelledError

USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

BUILD, RUN, USE, STUDY = "Build an image", "Run a device", "Use a device", "Try and check"

app = typer.Typer(
    name="pcmedge",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(context: typer.Context, value: bool) -> None:
    if not value:
        return
    if context.obj:
        write_document({"version": __version__})
    else:
        print(f"pcmedge {__version__}")
    raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document. Works after a verb too.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Works after a verb too.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar=TOKEN_FILE_VARIABLE,
            help="File with the token for the device. Works after a verb too.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Deploy neural networks to an analog phase-change-memory (PCM) inference chip, or to its emulator.

    \b
    Start here:
      pcmedge demo                                       a year of drift, healed
      pcmedge compile model.onnx -c data.npy -o x.pcmi   make a chip image
      pcmedge serve x.pcmi                               emulate a device with it
      pcmedge infer --input batch.npy                    ask it

    Every command takes --json and documents its exit codes in docs/cli.md.
    """
    use_token_file(token_file)


def _register() -> None:
    commands: tuple[tuple[str, Callable[..., Any], str], ...] = (
        ("compile", compile.run, BUILD),
        ("inspect", inspect.run, BUILD),
        ("verify", verify.run, BUILD),
        ("keygen", signing.keygen, BUILD),
        ("sign", signing.sign, BUILD),
        ("rebuffer", buffer.rebuffer, BUILD),
        ("serve", serve.run, RUN),
        ("devices", devices.run, RUN),
        ("health", health.run, RUN),
        ("program", program.run, USE),
        ("images", images.list_images, USE),
        ("activate", images.activate, USE),
        ("deactivate", images.deactivate, USE),
        ("erase", images.erase, USE),
        ("infer", infer.run, USE),
        ("recalibrate", recalibrate.run, USE),
        ("rollback", recalibrate.rollback, USE),
        ("policy", policy.run, USE),
        ("buffer", buffer.run, USE),
        ("self-test", selftest.run, USE),
        ("diagnose", diagnose.run, USE),
        ("telemetry", telemetry.run, USE),
        ("events", events.run, USE),
        ("read-tile", tile.run, USE),
        ("demo", demo.run, STUDY),
        ("drift", drift.run, STUDY),
        ("benchmark", benchmark.run, STUDY),
        ("profile", profile.run, STUDY),
        ("check", check.run, STUDY),
        ("expect", expect.run, STUDY),
        ("doctor", doctor.run, STUDY),
        ("version", version.run, STUDY),
        ("conformance", conformance.run, STUDY),
    )
    for name, command, panel in commands:
        add_command(app, name, command, panel)
    app.add_typer(lab.app, name="lab", rich_help_panel=USE)
    app.add_typer(token.app, name="token", rich_help_panel=RUN)


_register()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    wait_in_place()
    # gRPC's library writes lines of its own to stderr (of a failed TLS handshake, say), where --json promises nothing
    # and a JSON log promises JSON. What a client has to know is in our errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    code = run(list(sys.argv[1:] if arguments is None else arguments))
    # A KeyboardInterrupt that left text being executed, as the making of a dataclass is, has `python -m` end by SIGINT
    # whatever the code, until another text was executed without one.
    eval("None")
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code. Prints every error the way ``--json`` and ``--debug`` ask for."""
    arguments, debug = _take(arguments, "--debug")
    arguments, token_file = _take_value(arguments, "--token-file")
    as_json = "--json" in _options(arguments)
    if arguments[:1] == ["--json"] and arguments[1:2] and not arguments[1].startswith("-"):
        arguments = _after_the_verb(arguments[1:])
    try:
        return _execute([*token_file, *arguments], as_json=as_json)
    except (BrokenPipeError, ReaderGone):
        return _reader_gone()
    except Exception as problem:
        if debug:
            traceback.print_exc()
        try:
            return _report(problem, as_json=as_json)
        except (BrokenPipeError, ReaderGone):
            return _reader_gone()


def _after_the_verb(arguments: list[str]) -> list[str]:
    """``arguments`` with --json as the last option."""
    options = _options(arguments)
    return [*options, "--json", *arguments[len(options) :]]


def _execute(arguments: list[str], *, as_json: bool) -> int:
    command = get_command(app)
    try:
        with remembered() as interrupts:
            try:
                outcome = command.main(args=arguments, prog_name="pcmedge", standalone_mode=False, obj=as_json)
            except Exception as problem:
                if interrupts.seen and not isinstance(problem, CancelledError):
                    raise CancelledError("interrupted") from problem
                raise
    except KeyboardInterrupt:
        outcome = INTERRUPTED
    if outcome == INTERRUPTED:
        raise CancelledError("interrupted")
    sys.stdout.flush()
    return outcome if isinstance(outcome, int) else 0


def _report(problem: Exception, *, as_json: bool) -> int:
    wrong = usage(problem)
    if wrong is None:
        error = as_error(problem)
        write_problem(error.reason, error.message, error.metadata, as_json=as_json)
        return error.exit_code
    if type(problem).__name__ == "NoArgsIsHelpError":
        print(getattr(problem, "message", problem))
    else:
        write_problem("USAGE", wrong, {}, as_json=as_json)
    return USAGE


def _reader_gone() -> int:
    """Nobody reads stdout any more (``| head``): leave without a word, also when the interpreter flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _options(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _take(arguments: list[str], flag: str) -> tuple[list[str], bool]:
    """``arguments`` without ``flag``, and whether it was there, wherever the user put it."""
    before = _options(arguments)
    rest = arguments[len(before) :]
    return [item for item in before if item != flag] + rest, flag in before


def _take_value(arguments: list[str], option: str) -> tuple[list[str], list[str]]:
    """``arguments`` without ``option`` and its value, and these two, wherever the user put them."""
    before = _options(arguments)
    for index, item in enumerate(before):
        if item == option:
            return arguments[:index] + arguments[index + 2 :], before[index : index + 2]
        if item.startswith(f"{option}="):
            return arguments[:index] + arguments[index + 1 :], [item]
    return arguments, []
