"""Digital statistics of a user's own buffer: measured from the image alone, and what recalibration makes of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pcmedge
import pytest
from chip_models import INPUT, digits, digits_image, digits_model
from compiler_models import chain, exported, samples, torch_inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from pcmedge._contract import device_pb2
from pcmedge.compiler import compile as compile_image
from pcmedge.compiler import digital_statistics, with_buffer
from pcmedge.errors import (
    CalibrationError,
    DeviceStateError,
    Error,
    InputError,
    InputShapeError,
    InputTypeError,
    InputValueError,
    UnimplementedError,
)
from pcmedge.image import ChipImage
from pcmedge_emulator.buffers import combined
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.outcomes import Method, Mutation
from pcmedge_emulator.store import Store
from service_devices import served

YEAR_S = 365 * 86400.0
OWN = digits()[0][600:700]
Statistics = dict[str, tuple[np.ndarray, np.ndarray]]


def largest_difference(found: Any, wanted: Any) -> float:
    """Of means and of standard deviations, in the wanted standard deviations."""
    worst = 0.0
    assert set(found) == set(wanted)
    for node, (mean, variance) in wanted.items():
        spread = np.sqrt(variance + 1e-12)
        worst = max(worst, float(np.abs((found[node][0] - mean) / spread).max()))
        worst = max(worst, float(np.abs(np.sqrt(found[node][1] + 1e-12) / spread - 1).max()))
    return worst


# ------------------------------------------------------------------------------------------- from the image alone


def model_and_samples(name: str) -> tuple[onnx.ModelProto, np.ndarray]:
    if name == "digits":
        return digits_model(), digits()[0][:300]
    if name == "chain":
        return chain(12, 9, 7, 4), samples(200, 12)
    return exported(name), torch_inputs(name)[0]


def own_and_compiled(name: str, **options: Any) -> tuple[Statistics, Statistics, Statistics]:
    """Of the last samples: measured on an image with another buffer, on one without any, and by the compiler."""
    model, x = model_and_samples(name)
    own, rest = x[-len(x) // 3 :], x[: -len(x) // 3]
    from_image = digital_statistics(compile_image(model, calibration=rest, **options), own)
    without = digital_statistics(compile_image(model, calibration=rest, buffer=None, **options), own)
    return from_image, without, compile_image(model, calibration=rest, buffer=own, **options).reference_statistics()


@pytest.mark.parametrize("scaling", ["layer", "column"])
@pytest.mark.parametrize("name", ["digits", "chain", "residual"])
def test_they_are_the_compilers_on_the_same_samples(name: str, scaling: str) -> None:
    """Up to the rounding of weights to 16 bits, 1/65534 of the largest one: below 0.1 % of a standard deviation."""
    found, without, wanted = own_and_compiled(name, scaling=scaling)
    assert found
    assert 0 < largest_difference(found, wanted) < 1e-4
    assert 0 < largest_difference(without, wanted) < 1e-3
    for mean, variance in found.values():
        assert mean.dtype == variance.dtype == np.float32


def test_of_the_images_own_buffer_they_are_the_images() -> None:
    for options in ({}, {"clip_sigma": 2.0}, {"buffer": "synthetic"}):
        image = compile_image(digits_model(), calibration=digits()[0][:300], buffer_samples=30, **options)
        found = digital_statistics(image, image.calibration_buffer())
        assert largest_difference(found, image.reference_statistics()) < 1e-6


@pytest.mark.parametrize("name", ["digits", "residual"])
def test_a_bias_on_a_crossbar_row_counts(name: str) -> None:
    model, x = model_and_samples(name)
    if name == "digits":
        model = onnx.ModelProto.FromString(model.SerializeToString())
        for tensor in model.graph.initializer:
            if tensor.name in ("b0", "b1"):
                values = np.linspace(-0.5, 0.5, tensor.dims[0]).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    measured = digital_statistics(compile_image(model, calibration=x, buffer=None, bias="row"), x[:40])
    wanted = compile_image(model, calibration=x, buffer=x[:40], bias="row").reference_statistics()
    assert largest_difference(measured, wanted) < 1e-3


def test_clipping_is_taken_back() -> None:
    """Paired recalibration repairs what clipping did to a float network; statistics of clipped weights would not."""
    found, without, wanted = own_and_compiled("digits", clip_sigma=2.0)

    def error(measured: Statistics) -> float:
        shifts = [np.square((measured[node][0] - mean) / np.sqrt(var)) for node, (mean, var) in wanted.items()]
        return float(np.sqrt(np.concatenate(shifts).mean()))

    assert error(without) > 0.1
    assert error(found) < 0.3 * error(without)


def test_channels_dead_on_the_images_buffer_are_carried_over_without_a_scale() -> None:
    image = compile_image(digits_model(), calibration=digits()[0][:300], buffer=digits()[0][:1], clip_sigma=1.5)
    for mean, variance in digital_statistics(image, OWN).values():
        assert np.isfinite(mean).all()
        assert np.isfinite(variance).all()


def test_the_image_and_its_program_are_left_alone() -> None:
    image = digits_image()
    before, first = image.to_bytes(), digital_statistics(image, OWN)
    second = digital_statistics(image, {INPUT: OWN})
    assert image.to_bytes() == before
    for node, (mean, variance) in first.items():
        np.testing.assert_array_equal(mean, second[node][0])
        np.testing.assert_array_equal(variance, second[node][1])


def test_progress_counts_samples_and_wrong_samples_are_told() -> None:
    seen: list[tuple[int, int]] = []
    digital_statistics(digits_image(), OWN, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (100, 100)
    for wrong in (np.zeros((3, 63), np.float32), np.full((3, 64), np.nan, np.float32), np.zeros((0, 64), np.float32)):
        with pytest.raises(CalibrationError):
            digital_statistics(digits_image(), wrong)


# ---------------------------------------------------------------------------------------------- an image of an image


@pytest.mark.parametrize("kind", ["calibration", "synthetic", None])
def test_an_image_with_another_buffer_is_the_same_otherwise(kind: str | None) -> None:
    image = compile_image(digits_model(), calibration=digits()[0][:300], buffer=kind, name="digits", version=4)
    made = with_buffer(image, OWN)
    assert made.verify().complete
    assert (made.name, made.version) == ("digits", 5)
    assert made.manifest.provenance.rebuffered_from_sha256 == image.sha256
    assert made.manifest.provenance.source_sha256 == image.manifest.provenance.source_sha256
    assert made.manifest.required_features == ["pcm-analog-1"]
    np.testing.assert_array_equal(made.calibration_buffer()[INPUT], OWN)
    assert largest_difference(made.reference_statistics(), digital_statistics(image, OWN)) == 0
    assert (made.program(), made.tiles()) == (image.program(), image.tiles())
    assert all(np.array_equal(made.target(tile), image.target(tile)) for tile in image.tiles())
    assert all(
        np.array_equal(a, b) for a, b in zip(*(i.reference_set()[1].values() for i in (made, image)), strict=True)
    )
    compiled = compile_image(digits_model(), calibration=digits()[0][:300], buffer=OWN, name="digits", version=5)
    assert largest_difference(made.reference_statistics(), compiled.reference_statistics()) < 1e-3
    assert with_buffer(image, OWN) == made


def test_versions_only_grow() -> None:
    image = digits_image(version=3)
    assert with_buffer(image, OWN, version=17).version == 17
    for version in (3, 1, 0, -1, 2**64, "4", True):
        with pytest.raises(InputValueError, match="version"):
            with_buffer(image, OWN, version=version)


# ------------------------------------------------------------------------------------------------------ on the chip


def new_chip(image: ChipImage, **options: Any) -> Chip:
    chip = Chip(clock=Clock.manual(), seed=5, default_policy=MANUAL, **options)
    chip.program(image)
    return chip


def committed(chip: Chip) -> Any:
    """Recalibrated after a year by the default method: the statistics in force."""
    chip.advance(YEAR_S)
    outcome = chip.recalibrate("digits", force=True)
    assert (outcome.method, outcome.committed) == (Method.ADABS_PAIRED, True)
    return chip._state.resident("digits").parameters.statistics


def test_paired_recalibration_is_that_of_an_image_compiled_with_the_buffer() -> None:
    """Same chip, same reads: what is committed differs by the rounding of the weights alone."""
    image = digits_image()
    with new_chip(compile_image(digits_model(), calibration=digits()[0][:512], buffer=OWN, name="digits")) as chip:
        wanted = committed(chip)
    with new_chip(image) as chip:
        described = chip.replace_buffer("digits", {INPUT: OWN}, statistics=digital_statistics(image, OWN))
        assert (described.source, described.samples, described.has_reference_statistics) == ("application", 100, True)
        replaced = committed(chip)
    with new_chip(with_buffer(image, OWN)) as chip:
        rebuffered = committed(chip)
    assert largest_difference(replaced, wanted) < 1e-3
    assert largest_difference(rebuffered, replaced) == 0
    with new_chip(image) as chip:
        original = committed(chip)
    assert largest_difference(original, wanted) > 1e-2


def test_without_statistics_it_is_as_before() -> None:
    image = digits_image()
    with new_chip(image) as chip:
        chip.replace_buffer("digits", {INPUT: OWN}, statistics=digital_statistics(image, OWN))
        assert not chip.replace_buffer("digits", {INPUT: OWN}).has_reference_statistics
        assert chip.recalibrate("digits", force=True).method is Method.ADABS
        assert not chip.recalibrate("digits", "adabs-paired").committed
        chip.program(with_buffer(image, OWN))
        assert chip.describe_buffer("digits").has_reference_statistics


def test_what_is_appended_is_combined() -> None:
    image = digits_image()
    parts = OWN[:30], OWN[30:]
    with new_chip(image) as chip:
        chip.replace_buffer("digits", {INPUT: parts[0]}, statistics=digital_statistics(image, parts[0]))
        described = chip.append_buffer("digits", {INPUT: parts[1]}, statistics=digital_statistics(image, parts[1]))
        assert (described.samples, described.has_reference_statistics) == (100, True)
        held = chip._state.resident("digits").buffer
        assert held is not None
        assert largest_difference(held.statistics, digital_statistics(image, OWN)) < 1e-5
        assert not chip.append_buffer("digits", {INPUT: parts[1]}).has_reference_statistics
        with pytest.raises(DeviceStateError, match="Replace the whole buffer"):
            chip.append_buffer("digits", {INPUT: parts[1]}, statistics=digital_statistics(image, parts[1]))
        assert chip.describe_buffer("digits").samples == 170


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(-1e3, 1e3), st.integers(0, 2**31))
def test_two_sets_together_are_one_set(first: int, second: int, shift: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(first, 3)), random.normal(shift, 2.0, (second, 3))

    def of(values: np.ndarray) -> Statistics:
        return {"n": (values.mean(0).astype(np.float32), values.var(0).astype(np.float32))}

    mean, variance = combined(of(a), first, of(b), second)["n"]
    wanted = of(np.concatenate([a, b]))["n"]
    np.testing.assert_allclose(mean, wanted[0], rtol=1e-5, atol=1e-5 * (1 + abs(shift)))
    np.testing.assert_allclose(variance, wanted[1], rtol=1e-4, atol=1e-5 * (1 + abs(shift)))


def spoiled(change: Callable[[Statistics], None]) -> Statistics:
    found = {
        node: (mean.copy(), variance.copy())
        for node, (mean, variance) in digital_statistics(digits_image(), OWN).items()
    }
    change(found)
    return found


HOSTILE: dict[str, tuple[type[Error], Callable[[Statistics], Any]]] = {
    "a node missing": (InputValueError, lambda s: s.pop("norm1")),
    "none at all": (InputValueError, lambda s: s.clear()),
    "an unknown node": (InputValueError, lambda s: s.update(other=s["norm1"])),
    "another node's channels": (InputShapeError, lambda s: s.update(norm0=s["norm1"])),
    "fewer variances than means": (InputShapeError, lambda s: s.update(norm0=(s["norm0"][0], s["norm0"][1][:-1]))),
    "no channels": (InputShapeError, lambda s: s.update(norm0=(np.zeros(0), np.zeros(0)))),
    "a mean that is no number": (InputValueError, lambda s: s["norm0"][0].__setitem__(3, np.nan)),
    "an infinite variance": (InputValueError, lambda s: s["norm0"][1].__setitem__(3, np.inf)),
    "a negative variance": (InputValueError, lambda s: s["norm0"][1].__setitem__(3, -1e-6)),
    "beyond single precision": (InputValueError, lambda s: s.update(norm0=(np.full(96, 1e39), s["norm0"][1]))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_statistics_change_nothing(name: str) -> None:
    kind, change = HOSTILE[name]
    with new_chip(digits_image()) as chip:
        chip.replace_buffer("digits", {INPUT: OWN[:9]}, statistics=digital_statistics(digits_image(), OWN[:9]))
        before, events = chip.describe_buffer("digits"), len(chip.events())
        for verb in (chip.replace_buffer, chip.append_buffer):
            with pytest.raises(kind):
                verb("digits", {INPUT: OWN}, statistics=spoiled(change))
        assert chip.describe_buffer("digits") == before
        assert len(chip.events()) == events


@pytest.mark.parametrize(("scale", "shift"), [(1e30, 0.0), (0.0, 0.0), (1.0, 50.0), (1e-4, 0.0)])
def test_absurd_statistics_do_no_harm(scale: float, shift: float) -> None:
    """Numbers that could be somebody's, not this buffer's: dead channels keep theirs, the guard sees the rest."""
    image = digits_image()
    with new_chip(image) as chip:
        wrong = {n: (m + shift, v * scale) for n, (m, v) in digital_statistics(image, OWN).items()}
        chip.replace_buffer("digits", {INPUT: OWN}, statistics=wrong)
        outcome = chip.recalibrate("digits")
        assert not outcome.committed or outcome.mean_shift < 0.1
        assert chip.self_test("digits").agreement > 0.8


def test_statistics_of_another_image_are_refused_on_the_device() -> None:
    image = digits_image()
    with new_chip(image) as chip:
        found = digital_statistics(image, OWN)
        with pytest.raises(InputValueError, match="Measure them on the image that is on the device"):
            chip.replace_buffer("digits", {INPUT: OWN}, statistics=found, image_sha256=bytes(32))
        assert chip.describe_buffer("digits").source == "image"
        chip.replace_buffer("digits", {INPUT: OWN}, statistics=found, image_sha256=image.sha256)


# -------------------------------------------------------------------------------------------------- what survives


def test_statistics_survive_a_restart_a_repeat_and_a_snapshot(tmp_path: Path) -> None:
    image = digits_image()
    once = Mutation(request_id="once")
    with new_chip(image, store=tmp_path) as chip:
        found = digital_statistics(image, OWN)
        first = chip.replace_buffer("digits", {INPUT: OWN}, statistics=found, mutation=once)
        chip.snapshot("before")
    with Chip(store=tmp_path) as chip:
        assert chip.describe_buffer("digits") == first
        assert chip.replace_buffer("digits", {INPUT: OWN[:5]}, mutation=once) == first
        held = chip._state.resident("digits").buffer
        assert held is not None
        assert held.statistics is not None
        assert largest_difference(held.statistics, found) == 0
        chip.replace_buffer("digits", {INPUT: OWN[:5]})
        chip.restore("before")
        assert chip.describe_buffer("digits") == first
        assert chip.recalibrate("digits", "adabs-paired", force=True).committed


def test_a_buffer_stored_without_statistics_is_still_read(tmp_path: Path) -> None:
    """As every store of before holds them: the inputs by name, nothing else."""
    with new_chip(digits_image(), store=tmp_path) as chip:
        wanted = chip.replace_buffer("digits", {INPUT: OWN})
    opened = Store(tmp_path)
    try:
        from pcmedge_emulator import codec

        assert list(codec.unpack(opened.items("buffers")["digits"])) == [INPUT]
    finally:
        opened.close()
    with Chip(store=tmp_path) as chip:
        assert chip.describe_buffer("digits") == wanted


_VICTIM = """
import sys, time
import numpy as np
from pcmedge.compiler import digital_statistics
from pcmedge.image import ChipImage
from pcmedge_emulator.calibration.policy import MANUAL
from pcmedge_emulator.chip import Chip
image = ChipImage.open(sys.argv[1])
samples = np.load(sys.argv[3])
chip = Chip(store=sys.argv[2])
chip.program(image)
chip.replace_buffer("digits", {"pixels": samples}, statistics=digital_statistics(image, samples))
print("done", flush=True)
time.sleep(600)
"""


def test_statistics_survive_kill_9(tmp_path: Path) -> None:
    digits_image().save(tmp_path / "digits.pcmi")
    np.save(tmp_path / "own.npy", OWN)
    command = [sys.executable, "-c", _VICTIM, *(str(tmp_path / name) for name in ("digits.pcmi", "store", "own.npy"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        os.kill(process.pid, signal.SIGKILL)
    with Chip(store=tmp_path / "store") as chip:
        described = chip.describe_buffer("digits")
        assert (described.samples, described.has_reference_statistics) == (100, True)
        held = chip._state.resident("digits").buffer
        assert held is not None
        assert largest_difference(held.statistics, digital_statistics(digits_image(), OWN)) == 0


# -------------------------------------------------------------------------------------------------- over the contract


def header(**fields: Any) -> device_pb2.CalibrationBufferRequest:
    return device_pb2.CalibrationBufferRequest(header=device_pb2.CalibrationBufferHeader(model_name="digits", **fields))


def sent(values: np.ndarray) -> device_pb2.CalibrationBufferRequest:
    part = device_pb2.CalibrationSamples(count=len(values), inputs=[values.tobytes()])
    return device_pb2.CalibrationBufferRequest(samples=part)


def told(statistics: Statistics, image_sha256: bytes) -> device_pb2.CalibrationBufferRequest:
    message = device_pb2.CalibrationStatistics(image_sha256=image_sha256)
    for node, (mean, variance) in statistics.items():
        message.nodes.add(node=node, mean=mean.tolist(), variance=variance.tolist())
    return device_pb2.CalibrationBufferRequest(statistics=message)


def test_statistics_come_in_pieces_in_any_order_and_wrong_streams_are_refused() -> None:
    image = digits_image()
    found = digital_statistics(image, OWN)
    one, two = ({node: found[node]} for node in ("norm0", "norm1"))
    own = image.sha256
    with served(image) as server, pcmedge.connect(server.address) as device:
        before = device.calibration_buffer()

        def replace(*requests: device_pb2.CalibrationBufferRequest) -> Any:
            call = device._session.change("ReplaceCalibrationBuffer", iter(requests))
            return device._transport.unary(call)

        refused = {
            "no image": (told(found, b""), InputValueError),
            "a short digest": (told(found, own[:31]), InputValueError),
            "another image": (told(found, bytes(32)), InputValueError),
            "a node missing": (told(one, own), InputValueError),
            "no node": (told({}, own), InputValueError),
        }
        for statistics, kind in refused.values():
            with pytest.raises(kind):
                replace(header(), statistics, sent(OWN))
        with pytest.raises(InputValueError, match="twice"):
            replace(header(), told(found, own), sent(OWN), told(one, own))
        with pytest.raises(InputValueError, match="the same in every message"):
            replace(header(), told(one, own), sent(OWN), told(two, bytes(32)))
        with pytest.raises(InputShapeError):
            replace(header(), told(found, own))
        many = {f"n{index}": (np.zeros(1), np.zeros(1)) for index in range((1 << 16) + 1)}
        with pytest.raises(InputValueError, match="at most"):
            replace(header(), told(many, own), sent(OWN))
        assert device.calibration_buffer() == before
        reply = replace(header(), told(two, own), sent(OWN[:40]), told(one, own), sent(OWN[40:]))
        assert (reply.source, reply.samples, reply.has_reference_statistics) == ("application", 100, True)


def test_the_client_measures_on_the_image_it_is_given(tmp_path: Path) -> None:
    image = digits_image()
    image.save(tmp_path / "digits.pcmi")
    with served(image) as server, pcmedge.connect(server.address) as device:
        assert not device.replace_calibration_buffer(OWN).has_reference_statistics
        with pytest.raises(InputError, match="pass it: image="):
            device.replace_calibration_buffer(OWN, statistics=True)
        for given in (tmp_path / "digits.pcmi", str(tmp_path / "digits.pcmi"), image, image.to_bytes()):
            assert device.replace_calibration_buffer(OWN, image=given).has_reference_statistics
        described = device.append_calibration_buffer(OWN, image=image)
        assert (described.samples, described.has_reference_statistics) == (200, True)
        with pytest.raises(InputValueError, match="statistics of another network"):
            device.replace_calibration_buffer(OWN, image=digits_image(version=2))
        given_by_hand = device.replace_calibration_buffer(OWN, statistics=digital_statistics(image, OWN))
        assert given_by_hand.has_reference_statistics
        assert device.recalibrate(force=True).method == "adabs-paired"
        wrong: tuple[tuple[type[Error], Any], ...] = (
            (InputTypeError, "yes"),
            (InputTypeError, {"norm0": 3}),
            (InputShapeError, {"norm0": (np.zeros((2, 2)), np.zeros((2, 2)))}),
            (InputValueError, {"norm0": (np.zeros(96), np.zeros(96))}),
        )
        for kind, statistics in wrong:
            with pytest.raises(kind):
                device.replace_calibration_buffer(OWN, statistics=statistics)
        with pytest.raises(InputError, match="leave image= out"):
            device.replace_calibration_buffer(OWN, image=image, statistics=False)


def test_in_process_the_chips_own_image_is_at_hand(tmp_path: Path) -> None:
    image = digits_image()
    with pcmedge.Emulator(image, clock="manual", store=tmp_path) as device:
        assert device.replace_calibration_buffer(OWN).has_reference_statistics
        assert device.append_calibration_buffer(OWN).has_reference_statistics
        assert not device.replace_calibration_buffer(OWN, statistics=False).has_reference_statistics
        assert not device.append_calibration_buffer(OWN).has_reference_statistics
        with pytest.raises(DeviceStateError):
            device.append_calibration_buffer(OWN, statistics=True)
    with pcmedge.Emulator(clock="manual", store=tmp_path) as device:
        assert device.replace_calibration_buffer(OWN).has_reference_statistics


def test_an_event_loop_goes_on_while_statistics_are_measured() -> None:
    async def main() -> tuple[bool, int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        async with await pcmedge.AsyncEmulator(digits_image(), clock="manual") as device:
            turning = asyncio.ensure_future(turn())
            most = 0
            # Once is enough, and nobody promised this thread the processor each time.
            for _ in range(20):
                before = turns
                described = await device.replace_calibration_buffer(np.tile(OWN, (40, 1)))
                most = max(most, turns - before)
                if most > 3:
                    break
            turning.cancel()
            return described.has_reference_statistics, most

    paired, turns = asyncio.run(main())
    assert paired
    assert turns > 3


def test_a_device_that_takes_no_statistics_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of before the capability existed."""
    from pcmedge_emulator import chip

    older = tuple(name for name in chip.CAPABILITIES if name != "buffer.statistics")
    monkeypatch.setattr(chip, "CAPABILITIES", older)
    image = digits_image()
    with served(image) as server, pcmedge.connect(server.address) as device:
        with pytest.raises(UnimplementedError, match=r"buffer\.statistics"):
            device.replace_calibration_buffer(OWN, image=image)
        assert device.calibration_buffer().source == "image"
        assert device.replace_calibration_buffer(OWN).source == "application"
