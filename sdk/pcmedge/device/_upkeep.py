"""Scripts of keeping a chip well: recalibration, its policy, self-test, telemetry, journal, diagnosis."""

from __future__ import annotations

from typing import Any

from pcmedge._contract import device_pb2
from pcmedge.device import _decode
from pcmedge.device._calls import Script, Session, Stream, build_message, mutation_message
from pcmedge.device._images import OnProgress, finished, operation
from pcmedge.device._inference import find_model
from pcmedge.device._versions import needs
from pcmedge.device.results import Policy, RecalibrationResult, Telemetry, TileReadout
from pcmedge.errors import InputTypeError, UnimplementedError
from pcmedge.protocol.limits import check_interval
from pcmedge.protocol.values import Diagnosis, Event, Mutation, SelfTest


def recalibrate(
    session: Session,
    method: str = "default",
    *,
    model: str | None = None,
    batches: int = 0,
    batch_size: int = 0,
    reads: int = 0,
    gdc_everywhere: bool = False,
    force: bool = False,
    progress: OnProgress | None = None,
    mutation: Mutation | None = None,
    timeout_s: float | None = None,
) -> Script[RecalibrationResult]:
    """Measure on the device what drift has changed and compensate it digitally; requests are served meanwhile.

    ``method``: "default", "gdc", "gdc-per-column", "adabs" or "adabs-paired". ``batches``, ``batch_size``: for plain
    adaptive statistics, 0 for all samples in as few batches of at most 200 as hold them, up to 13. ``reads``: reads
    of the chip that statistics are averaged over, 0 for the device's default. ``force``: commit without asking the
    guard. The result says whether the guard committed; ``result.raise_for_refusal()`` makes a
    refusal an error.
    """
    if reads:
        yield from needs(session, "recalibrate.reads", "recalibration over several reads (reads)")
    request = build_message(
        device_pb2.RecalibrateRequest,
        mutation=mutation_message(mutation),
        model_name=(yield from find_model(session, model)),
        method=_decode.number(_decode.METHODS, method, "a recalibration method"),
        batches=batches,
        batch_size=batch_size,
        reads=reads,
        gdc_everywhere=gdc_everywhere,
        force=force,
    )
    last = yield operation(session, "Recalibrate", request, progress, timeout_s)
    return _decode.recalibration(finished(last).recalibration)


def rollback(session: Session, *, model: str | None = None, mutation: Mutation | None = None) -> Script[int]:
    """Take the previous statistics back; returns the new statistics generation."""
    name = yield from find_model(session, model)
    request = build_message(device_pb2.RollbackStatisticsRequest, model_name=name, mutation=mutation_message(mutation))
    reply = yield session.change("RollbackStatistics", request)
    return int(reply.statistics_generation)


def policy(session: Session, *, model: str | None = None) -> Script[Policy]:
    """When the device recalibrates a model by itself."""
    name = yield from find_model(session, model)
    reply = yield session.read(
        "GetRecalibrationPolicy", build_message(device_pb2.GetRecalibrationPolicyRequest, model_name=name)
    )
    return _decode.policy(reply)


def set_policy(
    session: Session, policy: Policy | str, *, model: str | None = None, mutation: Mutation | None = None
) -> Script[Policy]:
    """Set when the device recalibrates a model by itself; returns the policy with ``next_in_s``.

    A kind alone ("manual", "log-time", ...) takes the device's defaults for the rest.
    """
    if isinstance(policy, str):
        policy = Policy(kind=policy)
    if not isinstance(policy, Policy):
        raise InputTypeError(
            f"expected a pcmedge.device.Policy or the name of its kind, found {type(policy).__name__}; "
            "for example Policy(kind='interval', interval_s=3600)"
        )
    if policy.self_test_interval_s or policy.self_test_ratio or policy.agreement_drop or policy.self_test_spacing_s:
        yield from needs(
            session, "policy.self-test-trigger", "self-tests of a policy's own (self_test_*, agreement_drop)"
        )
    request = device_pb2.SetRecalibrationPolicyRequest(
        mutation=mutation_message(mutation),
        model_name=(yield from find_model(session, model)),
        policy=_decode.policy_message(policy),
    )
    return _decode.policy((yield session.change("SetRecalibrationPolicy", request)))


def self_test(session: Session, *, model: str | None = None) -> Script[SelfTest]:
    """Run the image's reference inputs through the chip and compare with their digital outputs."""
    request = build_message(device_pb2.SelfTestRequest, model_name=(yield from find_model(session, model)))
    return _decode.self_test((yield session.read("SelfTest", request)))


def telemetry(session: Session, *, tiles: bool = False, self_tests: bool = False) -> Script[Telemetry]:
    """State, counters and compensation now; ``tiles`` adds figures per tile, ``self_tests`` past agreement."""
    request = build_message(device_pb2.GetTelemetryRequest, include_tiles=tiles, include_self_tests=self_tests)
    return _decode.telemetry((yield session.read("GetTelemetry", request)))


def watch_telemetry(
    session: Session, *, interval_s: float = 1.0, tiles: bool = False, self_tests: bool = False
) -> Stream[Telemetry]:
    """Telemetry every ``interval_s`` wall-clock seconds (0: 1 s), without end; the rest as of :func:`telemetry`."""
    request = build_message(
        device_pb2.WatchTelemetryRequest, interval_s=interval_s, include_tiles=tiles, include_self_tests=self_tests
    )
    check_interval(request.interval_s)
    return session.watch("WatchTelemetry", request, _decode.telemetry)


def events(session: Session, *, after: int = 0, limit: int = 1000) -> Script[tuple[Event, ...]]:
    """The journal: at most ``limit`` events with a sequence larger than ``after``, oldest first.

    The journal is bounded: the first event's ``lost_before`` says how many after ``after`` it no longer has.
    """
    reply = yield session.read(
        "ListEvents", build_message(device_pb2.ListEventsRequest, after_sequence=after, limit=limit)
    )
    return tuple(_decode.event(event) for event in reply.events)


def watch_events(session: Session, *, after: int = 0) -> Stream[Event]:
    """The journal from ``after`` on, then each event as it happens, without end."""
    return session.watch(
        "WatchEvents", build_message(device_pb2.WatchEventsRequest, after_sequence=after), _decode.event
    )


def diagnose(
    session: Session,
    *,
    model: str | None = None,
    false_alarm_rate: float = 0.0,
    tolerated_cells: float | None = None,
    progress: OnProgress | None = None,
    mutation: Mutation | None = None,
    timeout_s: float | None = None,
) -> Script[Diagnosis]:
    """Read known vectors through every tile of a model and name what no healthy tile would give at this age.

    Tiles that are unfit are retired: they serve on, and the next ``program`` takes others. ``false_alarm_rate``: chance
    that a healthy chip has any finding (0: the device's default, 0.001). ``tolerated_cells``: share of a tile's cells
    that may be faulty before it is retired (None: the device's default, 0.0005). ``progress``: called with every tile,
    where the device has the capability "diagnose.progress". Interrupted, nothing is retired. Capability "diagnose".
    """
    request = build_message(
        device_pb2.DiagnoseRequest,
        mutation=mutation_message(mutation),
        model_name=(yield from find_model(session, model)),
        false_alarm_rate=false_alarm_rate,
        tolerated_cells=tolerated_cells,
    )
    if progress is not None:
        try:
            last = yield operation(session, "DiagnoseWithProgress", request, progress, timeout_s)
        except UnimplementedError:
            pass  # a device of before this call, or one without diagnosis, which the next call says
        else:
            return _decode.diagnosis(finished(last).diagnosis)
    deadline_s = session.operation_timeout_s if timeout_s is None else timeout_s
    return _decode.diagnosis((yield session.change("Diagnose", request, timeout_s=deadline_s)))


def read_tile(session: Session, tile: int, *, model: str | None = None) -> Script[TileReadout]:
    """Conductances of a physical tile now, for diagnosis; telemetry(tiles=True) lists a model's tiles."""
    bands: list[Any] = []
    name = yield from find_model(session, model)
    request = build_message(device_pb2.ReadTileRequest, model_name=name, tile=tile)
    yield session.change("ReadTile", request, on_message=bands.append)
    return _decode.tile_readout(bands)
