"""TFLite models compiled to images compute what the TFLite runtime computes, when every analog effect is off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compiler_models import ideal_chip
from pcmedge.compiler import compile
from pcmedge.errors import InputValueError
from tflite_models import ARCHITECTURES, detector, inputs_of
from tflite_writer import Array, codes_of, runtime_outputs


def answers(model: bytes, inputs: list[Array], path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Outputs of the ideal chip and of the TFLite runtime."""
    file = path / "model.tflite"
    file.write_bytes(model)
    expected = runtime_outputs(model, inputs)
    names = [f"input_{index}" for index in range(len(inputs))]
    given = dict(zip(names, inputs, strict=True))
    image = compile(file, calibration=given, scaling="column", reference=2)
    found = ideal_chip(image, given)
    assert list(found) == list(expected)
    assert [value.dtype for value in found.values()] == [value.dtype for value in expected.values()]
    assert [value.shape for value in found.values()] == [value.shape for value in expected.values()]
    return found, expected


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_float_model_computes_what_the_runtime_computes(name: str, tmp_path: Path) -> None:
    net = ARCHITECTURES[name]()
    found, expected = answers(net.to_bytes(), inputs_of(net), tmp_path)
    for output, values in expected.items():
        assert np.abs(found[output] - values).max() <= 1e-4 * max(1.0, np.abs(values).max())


@pytest.mark.parametrize("codes", ["int8"])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "recurrent"])
def test_a_quantised_model_answers_in_the_codes_of_the_runtime(name: str, codes: str, tmp_path: Path) -> None:
    net = ARCHITECTURES[name]()
    model = net.quantised(inputs_of(net), codes)
    found, expected = answers(model, codes_of(model, inputs_of(net)), tmp_path)
    for output, values in expected.items():
        steps = np.abs(found[output].astype(int) - values.astype(int))
        assert np.mean(steps <= 2) >= 0.99
        assert np.mean(steps == 0) >= 0.7


def test_weights_in_codes_are_programmed_exactly(tmp_path: Path) -> None:
    net = ARCHITECTURES["residual"]()
    file = tmp_path / "model.tflite"
    file.write_bytes(net.quantised(inputs_of(net)))
    image = compile(file, calibration=codes_of(file.read_bytes(), inputs_of(net))[0], scaling="column")
    for tile in image.tiles():
        codes, rest = np.divmod(image.target(tile).astype(int), 258)
        assert np.abs(codes).max() <= 127
        # A column of one weight, or of its largest alone, is exact at full scale as well.
        assert np.mean(rest == 0) > 0.95


@pytest.mark.parametrize("regular", [False, True])
@pytest.mark.parametrize("per_detection", [1, 2])
def test_detections_are_those_of_the_runtime(regular: bool, per_detection: int, tmp_path: Path) -> None:
    net = detector(regular=regular, per_detection=per_detection)
    found, expected = answers(net.to_bytes(), inputs_of(net), tmp_path)
    names = list(expected)
    counts = expected[names[3]].astype(int)
    assert np.array_equal(found[names[3]], expected[names[3]])
    assert counts.max() > 1
    for sample, count in enumerate(counts):
        used = count * (1 if regular else per_detection)
        for output in names[:3]:
            assert found[output][sample, :used] == pytest.approx(expected[output][sample, :used], abs=1e-4)


def test_synthetic_samples_are_refused_where_channels_come_last(tmp_path: Path) -> None:
    net = ARCHITECTURES["convolutional"]()
    file = tmp_path / "net.tflite"
    file.write_bytes(net.to_bytes())
    with pytest.raises(InputValueError, match=r"channels first.*buffer='calibration'"):
        compile(file, calibration=inputs_of(net)[0], buffer="synthetic")
