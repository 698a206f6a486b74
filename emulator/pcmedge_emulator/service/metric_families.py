"""Messages of the contract as families of Prometheus metrics. Pure translation; nothing is measured here.

Cardinality is bounded: models are those resident, layers at most ``MOST_LAYERS`` of each, and tiles are told apart only
on a device that uses at most ``MOST_TILES`` of them. Tiles of a layer are always there as minimum, median and maximum.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from pcmedge._contract import device_pb2, inference_pb2
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)

MOST_TILES = 64
MOST_LAYERS = 256
MOST_FINDINGS = 4
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_PHASES = ("queue", "compute_input", "compute_infer", "compute_output")


def device_families(identity: device_pb2.Identity, telemetry: device_pb2.Telemetry) -> Iterator[Metric]:
    """The device as a whole."""
    yield InfoMetricFamily(
        "pcmedge_device",
        "Which device this is.",
        value={
            "serial": identity.serial,
            "product": identity.product,
            "firmware": identity.firmware_version,
            "technology": identity.technology,
        },
    )
    now = device_pb2.HealthState.Name(telemetry.health)
    states = [name for name, number in device_pb2.HealthState.items() if number]
    yield StateSetMetricFamily(
        "pcmedge_health",
        "Whether to send requests here; one state is 1.",
        value={name.removeprefix("HEALTH_STATE_").lower(): name == now for name in states},
    )
    for name, text, value in (
        ("uptime_seconds", "Since the service started.", telemetry.uptime_s),
        ("device_time_seconds", "The device's own clock.", telemetry.device_time_s),
        ("tiles", "Crossbar tiles of the chip.", telemetry.tiles),
        ("tiles_free", "Tiles no model occupies.", telemetry.free_tiles),
        ("tiles_retired", "Tiles a diagnosis found unfit for another programming.", telemetry.retired_tiles),
        ("requests_queued", "Inference requests that wait for the chip.", telemetry.requests_queued),
        ("memory_bytes", "Resident memory of the process.", telemetry.memory_bytes),
        ("store_bytes", "Size of the store; 0 without one.", telemetry.store_bytes),
        ("degraded_reasons", "How many reasons there are to call it degraded.", len(telemetry.degraded_reasons)),
    ):
        yield GaugeMetricFamily(f"pcmedge_{name}", text, value=value)
    requests = CounterMetricFamily("pcmedge_requests", "Inference requests since start.", labels=("outcome",))
    requests.add_metric(("served",), telemetry.requests_served)
    requests.add_metric(("failed",), telemetry.requests_failed)
    requests.add_metric(("rejected",), telemetry.requests_rejected)
    yield requests


def model_families(telemetry: device_pb2.Telemetry) -> Iterator[Metric]:
    """Each resident model: age, drift, recalibrations, agreement, energy."""
    for name, text, field in (
        ("age_seconds", "Since programming, on the device's clock.", "age_s"),
        ("program_generation", "Which programming answers.", "program_generation"),
        ("statistics_generation", "Which committed recalibration answers.", "statistics_generation"),
        ("drift_factor_median", "Median drift compensation factor of all tiles; 1 is none.", "median_drift_factor"),
        ("adc_saturation_ratio", "Share of ADC conversions at full scale.", "adc_saturation"),
        ("agreement_floor_ratio", "Self-test agreement the policy asks for; 0 is none.", "agreement_floor"),
    ):
        family = GaugeMetricFamily(f"pcmedge_model_{name}", text, labels=("model",))
        for model in telemetry.models:
            family.add_metric((model.model_name,), getattr(model, field))
        yield family
    for name, text, field in (
        ("last_recalibration_age_seconds", "Age at the last committed recalibration.", "last_recalibration_age_s"),
        ("self_test_agreement_ratio", "Agreement of the last self-test.", "last_agreement"),
    ):
        family = GaugeMetricFamily(f"pcmedge_model_{name}", text, labels=("model",))
        for model in telemetry.models:
            # Negative is the contract's word for never; then there is no sample.
            if getattr(model, field) >= 0:
                family.add_metric((model.model_name,), getattr(model, field))
        yield family
    inferences = CounterMetricFamily("pcmedge_model_inferences", "Samples answered since start.", labels=("model",))
    energy = CounterMetricFamily("pcmedge_model_energy_joules", "Energy estimate since start.", labels=("model",))
    runs = CounterMetricFamily(
        "pcmedge_model_recalibrations", "Recalibrations since programming.", labels=("model", "outcome")
    )
    for model in telemetry.models:
        inferences.add_metric((model.model_name,), model.inferences)
        energy.add_metric((model.model_name,), model.energy_j)
        runs.add_metric((model.model_name, "committed"), model.recalibrations)
        runs.add_metric((model.model_name, "refused"), model.recalibrations_refused)
    yield from (inferences, energy, runs)
    yield _layers(telemetry)
    if sum(len(model.tiles) for model in telemetry.models) <= MOST_TILES:
        yield _tiles(telemetry)
    yield from _diagnosed(telemetry)


def _layers(telemetry: device_pb2.Telemetry) -> Metric:
    family = GaugeMetricFamily(
        "pcmedge_layer_drift_factor",
        "Drift compensation factor over the tiles of a layer.",
        labels=("model", "layer", "statistic"),
    )
    for model in telemetry.models:
        factors: dict[str, list[float]] = {}
        for tile in model.tiles:
            factors.setdefault(tile.layer, []).append(tile.drift_factor)
        for layer, values in list(factors.items())[:MOST_LAYERS]:
            for name, value in (("min", min(values)), ("median", statistics.median(values)), ("max", max(values))):
                family.add_metric((model.model_name, layer, name), value)
    return family


def _tiles(telemetry: device_pb2.Telemetry) -> Metric:
    family = GaugeMetricFamily(
        "pcmedge_tile_drift_factor",
        f"Drift compensation factor of a physical tile; only if at most {MOST_TILES} are in use.",
        labels=("model", "layer", "tile"),
    )
    for model in telemetry.models:
        for tile in model.tiles:
            family.add_metric((model.model_name, tile.layer, str(tile.tile)), tile.drift_factor)
    return family


def _diagnosed(telemetry: device_pb2.Telemetry) -> Iterator[Metric]:
    """Tiles with a finding of their last diagnosis, the first ``MOST_TILES``; the worst ``MOST_FINDINGS`` of each."""
    labels = ("model", "layer", "tile")
    retired = GaugeMetricFamily("pcmedge_tile_retired", "1 for a tile that is not programmed again.", labels=labels)
    cells = GaugeMetricFamily(
        "pcmedge_tile_faulty_cells", "Weights the last diagnosis found to be off one by one.", labels=labels
    )
    findings = GaugeMetricFamily(
        "pcmedge_tile_finding",
        "What the last diagnosis measured; row and column are empty where the kind has none.",
        labels=(*labels, "kind", "row", "column"),
    )
    bad = [(model, tile) for model in telemetry.models for tile in model.tiles if tile.retired or tile.findings]
    for model, tile in bad[:MOST_TILES]:
        place = (model.model_name, tile.layer, str(tile.tile))
        retired.add_metric(place, float(tile.retired))
        cells.add_metric(place, tile.faulty_cells)
        for finding in tile.findings[:MOST_FINDINGS]:
            row = str(finding.row) if finding.HasField("row") else ""
            column = str(finding.column) if finding.HasField("column") else ""
            findings.add_metric((*place, finding.kind, row, column), finding.measured)
    yield from (retired, cells, findings)


def statistics_families(reply: inference_pb2.ModelStatisticsResponse) -> Iterator[Metric]:
    """Inference by model as the Open Inference Protocol counts it: results, phases, and batch sizes as run."""
    results = CounterMetricFamily(
        "pcmedge_inference_requests", "Inference requests by result.", labels=("model", "result")
    )
    phases = SummaryMetricFamily(
        "pcmedge_inference_phase_seconds", "Time of a successful request by phase.", labels=("model", "phase")
    )
    sizes = HistogramMetricFamily("pcmedge_batch_size", "Samples of one run of the engine.", labels=("model",))
    for model in reply.model_stats:
        stats = model.inference_stats
        results.add_metric((model.name, "success"), stats.success.count)
        results.add_metric((model.name, "fail"), stats.fail.count)
        for phase in _PHASES:
            spent = getattr(stats, phase)
            phases.add_metric((model.name, phase), count_value=spent.count, sum_value=spent.ns / 1e9)
        sizes.add_metric((model.name,), *_buckets(model.batch_stats))
    yield from (results, phases, sizes)


def _buckets(batches: Any) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by bound, and the sum of all sizes."""
    counts = {batch.batch_size: batch.compute_infer.count for batch in batches}
    bounds = [
        (f"{bound:.1f}", float(sum(count for size, count in counts.items() if size <= bound))) for bound in BATCH_SIZES
    ]
    return [*bounds, ("+Inf", float(sum(counts.values())))], float(sum(size * n for size, n in counts.items()))
