"""A chip made of a vendor's few verbs: whole programmings, guarded recalibration, restarts, and no physics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance_devices import digital_chip
from pcmedge.conformance import probe
from pcmedge.errors import (
    CapacityError,
    ImageFeatureError,
    ImageProfileError,
    InputShapeError,
    InternalError,
    UnimplementedError,
)
from pcmedge.image import ChipImage
from pcmedge.image.profiles import get_profile
from pcmedge_emulator.calibration.policy import Policy, PolicyKind
from pcmedge_emulator.driver import Answer, Description, DrivenChip, Hardware, Measurement
from pcmedge_emulator.outcomes import Method, Mutation, TileProgramming
from pcmedge_emulator.service import serve
from service_models import classifier

TILES = 6


class Table(Hardware):
    """Answers a table of scores; does what the test tells it."""

    def __init__(self) -> None:
        self.programmed: dict[int, bytes] = {}
        self.fails_at: int | None = None
        self.measurement = Measurement(compensation={"factor": np.float32([2.0])})

    def describe(self) -> Description:
        profile = get_profile("pcm-512x512")
        profile.tiles = TILES
        return Description(
            vendor="tests",
            product="table",
            serial="t-1",
            firmware_version="1",
            technology="none",
            profile=profile,
            methods=(Method.GDC,),
        )

    def check(self, image: ChipImage) -> None:
        pass

    def program(self, image: ChipImage, tiles: tuple[int, ...], step: Any) -> tuple[TileProgramming, ...]:
        reports = []
        for number, (tile, physical) in enumerate(zip(image.tiles(), tiles, strict=True), 1):
            if number == self.fails_at:
                raise InternalError("the write pulse did not arrive")
            self.programmed[physical] = image.target(tile).tobytes()
            reports.append(
                TileProgramming(tile=physical, layer=tile.layer, converged_fraction=1.0, rms_error_microsiemens=0.1)
            )
            step(number, len(tiles))
        return tuple(reports)

    def load(self, image: ChipImage, tiles: tuple[int, ...]) -> int:
        return image.version

    def infer(self, loaded: int, inputs: Any, compensation: Any) -> Answer:
        won = np.arange(len(inputs[probe.INPUT])) % probe.CLASSES
        scores = np.eye(probe.CLASSES, dtype=np.float32)[won] * loaded
        return Answer(outputs={probe.OUTPUT: scores * compensation.get("factor", np.float32([1.0]))})

    def measure(self, loaded: int, method: Method, compensation: Any, buffer: Any, step: Any) -> Measurement:
        step(1, 1)
        return self.measurement

    def release(self, tiles: tuple[int, ...]) -> None:
        for tile in tiles:
            self.programmed.pop(tile, None)


def image(number: int = 1, name: str = probe.NAME) -> ChipImage:
    return ChipImage.from_bytes(probe.image_for(None, number, name))


def largest(chip: DrivenChip, name: str = probe.NAME) -> float:
    return float(chip.infer(name, {probe.INPUT: probe.samples(4)}).outputs[probe.OUTPUT].max())


def test_a_programming_that_fails_leaves_the_image_before_and_its_tiles() -> None:
    hardware = Table()
    with DrivenChip(hardware) as chip:
        chip.program(image(1))
        before, tiles = chip.models(), dict(hardware.programmed)
        hardware.fails_at = 2
        with pytest.raises(InternalError, match="pulse"):
            chip.program(image(2), mutation=Mutation(request_id="twice"))
        assert [info.program_generation for info in chip.models()] == [info.program_generation for info in before]
        assert hardware.programmed == tiles
        assert largest(chip) == 1.0
        assert chip.identity().geometry.free_tiles == TILES - 2
        hardware.fails_at = None
        assert chip.program(image(2), mutation=Mutation(request_id="twice")).model.program_generation == 2
        assert largest(chip) == 2.0
        assert [event.kind for event in chip.events()] == ["started", "programmed", "failed", "programmed"]


def test_the_journal_names_the_holder_of_the_lease_a_change_was_made_under() -> None:
    with DrivenChip(Table()) as chip:
        lease = chip.acquire_lease("line 3")
        chip.program(image(), mutation=Mutation(lease_id=lease.lease_id))
        chip.release_lease(lease.lease_id)
        chip.erase(probe.NAME)
        holders = {event.kind: event.details.get("holder") for event in chip.events()}
        assert holders == {"started": None, "programmed": "line 3", "erased": None}


def test_images_go_on_free_tiles_or_over_others_if_that_is_allowed() -> None:
    hardware = Table()
    with DrivenChip(hardware) as chip:
        for name in ("a", "b", "c"):
            chip.program(image(1, name))
        assert sorted(hardware.programmed) == list(range(TILES))
        with pytest.raises(CapacityError):
            chip.program(image(2, "a"))
        done = chip.program(image(2, "a"), replace=True)
        assert done.replaced_models == ("a",)
        assert (largest(chip, "a"), largest(chip, "b")) == (2.0, 1.0)
        assert chip.erase("b").freed_tiles == 2
        assert len(hardware.programmed) == 4


def test_images_that_do_not_fit_are_refused_before_a_tile_is_touched() -> None:
    hardware = Table()
    with DrivenChip(hardware) as chip:
        wider = probe.profiled(image().to_bytes(), lambda profile: setattr(profile, "adc_bits", 9))
        with pytest.raises(ImageProfileError, match="adc_bits"):
            chip.program(ChipImage.from_bytes(wider))
        synthetic = probe.requiring(image().to_bytes(), "synthetic-buffer-1")
        with pytest.raises(ImageFeatureError, match="synthetic-buffer-1"):
            chip.program(ChipImage.from_bytes(synthetic))
        assert hardware.programmed == {}


def test_the_guard_keeps_a_measurement_that_harms() -> None:
    hardware = Table()
    with DrivenChip(hardware) as chip:
        chip.program(image())
        good = chip.recalibrate(probe.NAME)
        assert (good.committed, good.method, good.statistics_generation) == (True, Method.GDC, 1)
        assert largest(chip) == 2.0
        hardware.measurement = Measurement(compensation={"factor": np.float32([-1.0])})
        bad = chip.recalibrate(probe.NAME)
        assert not bad.committed
        assert "agreement" in bad.refusal
        assert largest(chip) == 2.0
        hardware.measurement = Measurement(compensation={"factor": np.float32([np.nan])})
        assert "finite" in chip.recalibrate(probe.NAME, force=True).refusal
        assert chip.rollback(probe.NAME).statistics_generation == 2
        assert largest(chip) == 1.0
        told = chip.telemetry().models[0]
        assert (told.recalibrations, told.recalibrations_refused) == (1, 2)


def test_a_restart_finds_everything(tmp_path: Path) -> None:
    with DrivenChip(Table(), store=tmp_path) as chip:
        chip.program(image(2))
        chip.recalibrate(probe.NAME, mutation=Mutation(request_id="once"))
        chip.replace_buffer(probe.NAME, {probe.INPUT: probe.samples(5)})
        before = chip.models()[0]
    with DrivenChip(Table(), store=tmp_path) as chip:
        now = chip.models()[0]
        assert (now.image_sha256, now.program_generation, now.statistics_generation) == (before.image_sha256, 1, 1)
        assert now.age_s >= before.age_s
        assert largest(chip) == 4.0
        assert chip.describe_buffer(probe.NAME).samples == 5
        assert chip.recalibrate(probe.NAME, mutation=Mutation(request_id="once")).statistics_generation == 1
        chip.rollback(probe.NAME)
        assert largest(chip) == 2.0


def test_what_a_chip_lacks_is_unimplemented() -> None:
    with DrivenChip(Table()) as chip:
        chip.program(image())
        assert "tile.read" not in chip.capabilities
        with pytest.raises(UnimplementedError):
            chip.read_tile(probe.NAME, 0)
        with pytest.raises(UnimplementedError, match="on request only"):
            chip.set_policy(probe.NAME, Policy(kind=PolicyKind.INTERVAL))
        with pytest.raises(UnimplementedError, match="adabs"):
            chip.recalibrate(probe.NAME, Method.ADABS)
        with pytest.raises(InputShapeError):
            chip.infer(probe.NAME, {probe.INPUT: np.zeros((1, 3), np.float32)})
        with pytest.raises(UnimplementedError, match="LabService"):
            serve(chip, lab=True)


def test_the_digital_chip_computes_what_the_compiler_had_in_mind() -> None:
    network = classifier()
    inputs, outputs = network.reference_set()
    with DrivenChip(digital_chip()) as chip:
        chip.program(network)
        found = chip.infer(network.name, inputs)
        assert not found.noise
        for name, wanted in outputs.items():
            error = np.abs(found.outputs[name] - wanted).max() / np.abs(wanted).max()
            assert error < 2e-3  # targets have 16 bits, and these weights were clipped nowhere
        assert chip.self_test(network.name).agreement == 1.0


def test_serving_a_chip_imports_no_physics() -> None:
    code = (
        "import sys, pcmedge_emulator.driver\n"
        "from pcmedge_emulator.service import serve\n"
        "heavy = ('pcmedge_emulator.physics', 'pcmedge_emulator.crossbar', 'pcmedge_emulator.engine', 'onnx',"
        " 'onnxruntime', 'torch')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
