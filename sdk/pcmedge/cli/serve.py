"""``pcmedge serve``: an emulated device on a port or socket."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli import operating
from pcmedge.cli.logs import LogFormat, LogLevel, logging_to_stderr
from pcmedge.cli.options import PHYSICS_HELP, READ_NOISE_HELP, FaultsOption, Json, Precision, PrecisionOption
from pcmedge.cli.serve_options import (
    AllowRollback,
    Insecure,
    MaxConnectionAge,
    MaxConnections,
    MaxImageBytes,
    MaxMessageBytes,
    MaxUploads,
    Signatures,
    SignaturesOption,
    TlsCert,
    TlsClientCa,
    TlsKey,
    Tokens,
    TrustedKey,
)
from pcmedge.cli.serving import hold, serve_until, signals
from pcmedge.cli.session import DEFAULT_LISTEN
from pcmedge.durations import parse_duration
from pcmedge.errors import InputValueError, MissingExtraError

if TYPE_CHECKING:
    from pcmedge.image import ChipImage

ENVIRONMENT = "PCMEDGE_SERVE_"
"""Every option can be given as a variable of this prefix."""


class ReadNoise(enum.StrEnum):
    additive = "additive"
    off = "off"
    input_dependent = "input-dependent"


class Converters(enum.StrEnum):
    profile = "profile"
    ideal = "ideal"


def _configure(context: typer.Context, config: Path | None) -> Path | None:
    """The options that --config and the environment give, for those the command line does not."""
    from pcmedge.cli.settings import apply

    apply(context, run, ENVIRONMENT, config)
    return config


def run(
    context: typer.Context,
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="Program this chip image first.", show_default=False)
    ] = None,
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="HOST:PORT (0: any free port) or unix:///PATH.")] = (
        DEFAULT_LISTEN
    ),
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the device's state here. Without it: in memory.", show_default=False),
    ] = None,
    physics: Annotated[
        str | None, typer.Option(metavar="NAME", help=PHYSICS_HELP, show_default="the store's, or pcm-90nm")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="With the serial, decides every random draw.", show_default="the store's, or 0"),
    ] = None,
    serial: Annotated[
        str | None, typer.Option(help="Serial number.", show_default="the store's, or emulator-0")
    ] = None,
    clock: Annotated[
        str | None,
        typer.Option(
            metavar="real|manual|RATE",
            help="Device time; RATE in seconds per second.",
            show_default="the store's, or real",
        ),
    ] = None,
    lab: Annotated[bool, typer.Option("--lab", help="Serve LabService: time, snapshots, noise.")] = False,
    profile: Annotated[
        str | None, typer.Option(help="Chip profile. Default: that of the first image.", show_default=False)
    ] = None,
    converters: Annotated[Converters, typer.Option(help="ideal: no DAC and ADC rounding.")] = Converters.profile,
    read_noise: Annotated[ReadNoise, typer.Option(metavar="KIND", help=READ_NOISE_HELP)] = ReadNoise.additive,
    faults: FaultsOption = None,
    precision: PrecisionOption = Precision.exact,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of one inference.", show_default="half of the processors, at most 8"),
    ] = None,
    max_batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="SAMPLES",
            help="Compute requests of several clients together, up to so many samples; 1: alone.",
        ),
    ] = 1,
    max_queue_delay: Annotated[
        str, typer.Option(metavar="TIME", help="How long a request waits for company to share a batch with, e.g. 2ms.")
    ] = "0",
    max_queue_size: Annotated[
        int, typer.Option(min=1, metavar="REQUESTS", help="Requests that may wait; one more is answered BUSY.")
    ] = 128,
    max_batches_at_once: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="BATCHES", help="Batches computed at the same time.", show_default="2; 1 on one processor"
        ),
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    tokens: Tokens = None,
    insecure: Insecure = False,
    signatures: SignaturesOption = Signatures.off,
    trusted_key: TrustedKey = None,
    allow_rollback: AllowRollback = None,
    max_message_bytes: MaxMessageBytes = 64 << 20,
    max_image_bytes: MaxImageBytes = 4 << 30,
    max_connections: MaxConnections = 256,
    max_uploads: MaxUploads = 4,
    max_connection_age: MaxConnectionAge = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write address and process id here when ready.", show_default=False),
    ] = None,
    log_format: operating.LogFormatOption = LogFormat.text,
    log_level: operating.LogLevelOption = LogLevel.info,
    access_log: operating.AccessLog = False,
    metrics: operating.MetricsOption = None,
    drain_timeout: operating.DrainTimeout = "5s",
    journal_max_events: operating.JournalMaxEvents = 4096,
    journal_max_bytes: operating.JournalMaxBytes = 4 << 20,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar=f"{ENVIRONMENT}CONFIG",
            help=f"TOML file of these options. Variables ({ENVIRONMENT}NAME) win over it, the command line over both.",
            callback=_configure,
            is_eager=True,
            show_default=False,
        ),
    ] = None,
    print_config: operating.PrintConfig = False,
    json: Json = False,
) -> None:
    """Emulate a PCM device on a port or socket until SIGTERM or Ctrl-C.

    Prints the address when it answers. With --store the device survives restarts, kill -9 and power cuts; on a real
    clock it ages in between. An image already resident in the store is not programmed again.

    \b
    Examples:
      pcmedge serve model.pcmi
      pcmedge serve --listen unix:///run/pcm0.sock --store /var/lib/pcm0
      pcmedge serve model.pcmi --listen 127.0.0.1:0 --clock manual --lab --json
      pcmedge serve model.pcmi --faults dead-column=0.1
      pcmedge serve model.pcmi --max-batch-size 32 --max-queue-delay 2ms
      pcmedge serve --listen 0.0.0.0:7390 --tls-cert c.pem --tls-key k.pem
      pcmedge serve --config serve.toml --metrics 127.0.0.1:9090
      pcmedge serve --config serve.toml --print-config

    Exit codes: 0 stopped, 2 wrong argument, 3 not an image, 7 address in use, 8 store in use
    or unwritable, 10 the 'emulator' extra is missing.
    """
    from pcmedge.cli.output import Output

    out = Output(json=json)
    if print_config:
        from pcmedge.cli.settings import show

        show(context, run, out)
        return
    scheduling = _scheduling(max_batch_size, max_queue_delay, max_queue_size, max_batches_at_once)
    _bound_allocators()
    protection = {
        "tls": _tls(tls_cert, tls_key, tls_client_ca),
        "tokens": tokens,
        "insecure": insecure,
        "max_message_bytes": max_message_bytes,
        "limits": _limits(
            max_connection_age,
            max_image_bytes=max_image_bytes,
            max_connections=max_connections,
            max_uploads=max_uploads,
        ),
    }
    _check_served(listen, tls=protection["tls"], tokens=tokens, insecure=insecure)
    with signals() as stopping, logging_to_stderr(log_format, log_level) as log:
        operation = operating.Operation(
            log=log,
            access_log=access_log,
            metrics=metrics,
            insecure=insecure,
            grace_s=parse_duration(drain_timeout),
        )
        watching = operation.prepared()
        to_hold = None if image is None else _open(image)
        chip = _chip(
            profile=profile,
            technology=physics,
            serial=serial,
            seed=seed,
            clock=clock,
            store=store,
            converters=converters.value,
            read_noise=read_noise.value,
            precision=precision.value,
            threads=threads,
            faults=_faults(faults),
            journal=_journal(journal_max_events, journal_max_bytes),
            signatures=signatures.value,
            trusted_keys=trusted_key or (),
            refuse_rollback=None if allow_rollback is None else not allow_rollback,
        )
        with chip, _followed(chip, log):
            if precision is Precision.turbo and read_noise is not ReadNoise.off:
                log.warning(
                    "turbo",
                    note="turbo multiplies in int8 with --read-noise off only; with noise per product it is like exact",
                )
            if to_hold is not None:
                hold(chip, to_hold, out, log, stopping)
            serve_until(
                stopping,
                chip,
                listen,
                scheduling,
                operation,
                watching,
                protection,
                lab=lab,
                store=store,
                ready_file=ready_file,
                out=out,
            )


def _open(path: Path) -> ChipImage:
    from pcmedge.image import ChipImage

    return ChipImage.open(path)


def _scheduling(max_batch_size: int, max_queue_delay: str, max_queue_size: int, max_batches_at_once: int | None) -> Any:
    try:
        from pcmedge_emulator.service.scheduling import Scheduling
    except ModuleNotFoundError as problem:
        raise MissingExtraError.for_extra("emulator", "Emulating a device") from problem
    return Scheduling(
        max_batch_size=max_batch_size,
        max_queue_delay_s=parse_duration(max_queue_delay),
        max_queue_size=max_queue_size,
        max_batches_at_once=max_batches_at_once,
    )


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Any:
    from pcmedge_emulator.service.tls import ServerTls

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise InputValueError("TLS takes a certificate and its key: --tls-cert FILE --tls-key FILE")
    return ServerTls(cert_file=cert, key_file=key, client_ca_file=client_ca)


def _check_served(listen: str, **protection: Any) -> None:
    """Before the device is made and programmed: a wrong file or address must change nothing in its store."""
    from pcmedge_emulator.service.server import check_served

    check_served(listen, **protection)


def _limits(max_connection_age: str | None, **bounds: Any) -> Any:
    from pcmedge_emulator.service.limits import Limits

    age_s = None if max_connection_age is None else parse_duration(max_connection_age)
    return Limits(max_connection_age_s=age_s, **bounds)


def _bound_allocators() -> None:
    from pcmedge_emulator.service.allocator import bound_allocators

    bound_allocators()


def _chip(*, clock: str | None, **settings: Any) -> Any:
    try:
        from pcmedge_emulator.chip import Chip
        from pcmedge_emulator.clock import Clock
    except ModuleNotFoundError as problem:
        raise MissingExtraError.for_extra("emulator", "Emulating a device") from problem
    return Chip(clock=None if clock is None else Clock.parse(clock), **settings)


def _faults(given: str | None) -> Any:
    from pcmedge.device.given_faults import given_faults

    return None if given is None else given_faults(given)


def _journal(max_events: int, max_bytes: int) -> Any:
    from pcmedge_emulator.journal import JournalBounds

    return JournalBounds(max_events=max_events, max_bytes=max_bytes)


def _followed(chip: Any, log: Any) -> Any:
    from pcmedge_emulator.service.lifecycle import followed

    return followed(chip, log)
