"""Habits of clients that change a device: programming, recalibration, the lab. See :mod:`.habits`."""

from __future__ import annotations

import numpy as np
from pcmedge.conformance import probe
from pcmedge.device import Device, Fault, Policy, ProgramAndVerify

from .place import CHANGING, LARGE, RESNET, STEADY, Place, tiles_of


def reprogram(place: Place, device: Device, rng: np.random.Generator) -> None:
    """The changing model in all ways it can come and go."""
    dice = rng.random()
    if dice < 0.15:
        device.erase(CHANGING)
    elif dice < 0.3:
        device.deactivate(CHANGING)
        device.activate(CHANGING)
    else:
        number = int(rng.integers(1, 3))
        verify = ProgramAndVerify(max_iterations=5) if dice > 0.8 else None
        device.program(probe.shipped(number), program_and_verify=verify, replace=True, use_retired=True)
        device.set_policy("manual", model=CHANGING)


def reprogram_large(place: Place, device: Device, rng: np.random.Generator) -> None:
    if place.large:
        device.program(RESNET, replace=True, use_retired=True)
        device.set_policy("manual", model=LARGE)


def lease(place: Place, device: Device, rng: np.random.Generator) -> None:
    held = device.acquire_lease("soak", duration_s=1.0)
    device.renew_lease(held, duration_s=1.0)
    if rng.random() < 0.7:
        device.release_lease(held)


def recalibrate(place: Place, device: Device, rng: np.random.Generator) -> None:
    methods = ("default", "gdc", "gdc-per-column", "adabs", "adabs-paired")
    device.recalibrate(methods[int(rng.integers(len(methods)))], model=CHANGING)
    device.recalibrate(model=STEADY)
    if rng.random() < 0.2:
        device.rollback(model=STEADY)
        device.recalibrate(model=STEADY)


def recalibrate_large(place: Place, device: Device, rng: np.random.Generator) -> None:
    if place.large:
        device.recalibrate("gdc" if rng.random() < 0.7 else "default", model=LARGE)


def buffers(place: Place, device: Device, rng: np.random.Generator) -> None:
    device.replace_calibration_buffer(probe.samples(64), model=CHANGING)
    device.append_calibration_buffer(probe.samples(16), model=CHANGING)
    device.calibration_buffer(model=CHANGING)


def policies(place: Place, device: Device, rng: np.random.Generator) -> None:
    kinds = (Policy(kind="interval", interval_s=7200.0), Policy(kind="log-time", log_time_ratio=1.1),
             Policy(kind="drift", drift_threshold=0.01), Policy(kind="self-test", self_test_interval_s=3600.0),
             Policy(kind="manual"))  # fmt: skip
    device.set_policy(kinds[int(rng.integers(len(kinds)))], model=CHANGING)
    device.policy(model=CHANGING)


def age(place: Place, device: Device, rng: np.random.Generator) -> None:
    """Time goes on, also by itself for a moment."""
    device.lab.advance(float(rng.uniform(60.0, 14400.0)))
    if rng.random() < 0.2:
        device.lab.set_clock("accelerated", rate=3600.0)
        device.recalibrate(model=STEADY)
        device.lab.set_clock("manual")
    device.recalibrate(model=STEADY)


def noise(place: Place, device: Device, rng: np.random.Generator) -> None:
    for kind in ("off", "input-dependent", "additive"):
        device.lab.set_noise(kind)
        device.infer(place.inputs[:4], model=STEADY)


def faults(place: Place, device: Device, rng: np.random.Generator) -> None:
    """On tiles of the other models: broken, looked for, mended."""
    kinds = (("stuck-at-reset", 0.01), ("stuck-at-g-max", 0.01), ("stuck-at-random", 0.01), ("adc-offset", 2.0),
             ("adc-gain", 0.1), ("dead-row", 0.0), ("dead-column", 0.0), ("tile-lost", 0.0))  # fmt: skip
    steady = tiles_of(device, STEADY)
    tiles = [tile for tile in tiles_of(device, CHANGING) if tile not in steady] or [255]
    for _ in range(3):
        kind, amount = kinds[int(rng.integers(len(kinds)))]
        device.lab.inject_faults([Fault(kind=kind, tile=int(rng.choice(tiles)), amount=amount)])
    device.diagnose(model=CHANGING)
    device.lab.faults()
    device.lab.clear_faults()


def snapshots(place: Place, device: Device, rng: np.random.Generator) -> None:
    name = f"soak-{int(rng.integers(3))}"
    device.lab.snapshot(name)
    device.lab.snapshots()
    if rng.random() < 0.5:
        device.lab.restore(name)
    if rng.random() < 0.5:
        device.lab.delete_snapshot(name)
