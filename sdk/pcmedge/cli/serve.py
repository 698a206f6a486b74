"""``pcmedge serve``: an emulated device on a port or socket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcmedge.cli import operating
from pcmedge.cli.batching import MaxBatchesAtOnce, MaxBatchSize, MaxQueueDelay, MaxQueueSize, scheduling
from pcmedge.cli.emulating import (
    ClockOption,
    Converters,
    ConvertersOption,
    FaultsOption,
    Lab,
    Physics,
    ProfileOption,
    ReadNoiseOption,
    Seed,
    Serial,
    StoreOption,
    Threads,
    emulated_chip,
)
from pcmedge.cli.logs import LogFormat, LogLevel, logging_to_stderr
from pcmedge.cli.options import Json, Precision, PrecisionOption, ReadNoise
from pcmedge.cli.protecting import (
    AllowRollback,
    Insecure,
    MaxConnectionAge,
    MaxConnections,
    MaxImageBytes,
    MaxMessageBytes,
    MaxSnapshotBytes,
    MaxSnapshots,
    MaxUploads,
    Signatures,
    SignaturesOption,
    TlsCert,
    TlsClientCa,
    TlsKey,
    Tokens,
    TrustedKey,
    protection,
    server_tls,
)
from pcmedge.cli.serving import hold, serve_until, signals
from pcmedge.cli.session import DEFAULT_LISTEN
from pcmedge.durations import parse_duration

if TYPE_CHECKING:
    from pcmedge.image import ChipImage

ENVIRONMENT = "PCMEDGE_SERVE_"
"""Every option can be given as a variable of this prefix."""


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
    listen: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            callback=operating.checked_address,
            help="HOST:PORT (0: any free port) or unix:///PATH.",
        ),
    ] = DEFAULT_LISTEN,
    store: StoreOption = None,
    physics: Physics = None,
    seed: Seed = None,
    serial: Serial = None,
    clock: ClockOption = None,
    lab: Lab = False,
    profile: ProfileOption = None,
    converters: ConvertersOption = Converters.profile,
    read_noise: ReadNoiseOption = ReadNoise.additive,
    faults: FaultsOption = None,
    precision: PrecisionOption = Precision.exact,
    threads: Threads = None,
    max_batch_size: MaxBatchSize = 1,
    max_queue_delay: MaxQueueDelay = "0",
    max_queue_size: MaxQueueSize = 128,
    max_batches_at_once: MaxBatchesAtOnce = None,
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
    max_snapshots: MaxSnapshots = 64,
    max_snapshot_bytes: MaxSnapshotBytes = 4 << 30,
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
    scheduled = scheduling(max_batch_size, max_queue_delay, max_queue_size, max_batches_at_once)
    _bound_allocators()
    protected = protection(
        listen,
        tls=server_tls(tls_cert, tls_key, tls_client_ca),
        tokens=tokens,
        insecure=insecure,
        max_message_bytes=max_message_bytes,
        max_connection_age=max_connection_age,
        max_image_bytes=max_image_bytes,
        max_connections=max_connections,
        max_uploads=max_uploads,
        max_snapshots=max_snapshots,
        max_snapshot_bytes=max_snapshot_bytes,
    )
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
        chip = emulated_chip(
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
            faults=faults,
            journal_max_events=journal_max_events,
            journal_max_bytes=journal_max_bytes,
            signatures=signatures.value,
            trusted_keys=trusted_key,
            allow_rollback=allow_rollback,
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
                scheduled,
                operation,
                watching,
                protected,
                lab=lab,
                store=store,
                ready_file=ready_file,
                out=out,
            )


def _open(path: Path) -> ChipImage:
    from pcmedge.image import ChipImage

    return ChipImage.open(path)


def _bound_allocators() -> None:
    from pcmedge_emulator.service.allocator import bound_allocators

    bound_allocators()


def _followed(chip: Any, log: Any) -> Any:
    from pcmedge_emulator.service.lifecycle import followed

    return followed(chip, log)
