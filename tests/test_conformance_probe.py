"""The probe and what is derived from it; and that the suite needs nothing but the base install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pcmedge._contract.device_pb2 import ChipGeometry
from pcmedge.conformance import probe
from pcmedge.errors import ImageCorruptError, ImageFeatureError
from pcmedge.image import ChipImage
from service_devices import served
from test_service_base_install import run

SCRIPT = Path(__file__).parent.parent / "scripts" / "make_conformance_probe.py"


def test_the_committed_images_are_what_the_script_makes() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_images_fit_a_chip_of_other_geometry() -> None:
    geometry = ChipGeometry(
        profile="other", tile_rows=128, tile_columns=64, tiles=9, dac_bits=6, adc_bits=10, g_max_microsiemens=20.0
    )
    image = ChipImage.from_bytes(probe.image_for(geometry, 2, "renamed", 7))
    image.verify()
    assert (image.name, image.version, image.manifest.profile.tile_rows) == ("renamed", 7, 128)
    step = image.manifest.layers[0].blocks[0].dac_step
    assert step == pytest.approx(probe.shipped(2).manifest.layers[0].blocks[0].dac_step * 255 / 63)


def test_wrong_images_are_wrong_in_the_way_they_say() -> None:
    data = probe.image_for(None)
    for part, position in probe.places(data).items():
        with pytest.raises(ImageCorruptError):
            ChipImage.from_bytes(probe.flipped(data, position))
        assert part
    for needed in (probe.requiring(data, "unheard-of"), probe.of_container(data, 99)):
        with pytest.raises(ImageFeatureError):
            ChipImage.from_bytes(needed)
    ChipImage.from_bytes(probe.mentioning(data, "unheard-of")).verify()


def test_the_base_install_runs_the_suite() -> None:
    code = (
        "from pcmedge.conformance import run_conformance\n"
        "report = run_conformance(sys.argv[1], rules=['R1', 'R3', 'R8.1', 'R11.5', 'R17.2', 'R24', 'R27.1', 'R39.1'])\n"
        "print(report.passed, report.counts['passed'])\n"
        "assert not {'onnx', 'onnxruntime', 'pyarrow', 'pcmedge_emulator'} & set(sys.modules)\n"
    )
    with served() as server:
        done = run(code, server.address)
    assert done.stdout.strip() == "True 16", done.stderr + done.stdout
