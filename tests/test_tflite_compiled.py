"""A .tflite file given to the Interpreter: compiled once, with the file's own codes and signatures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as Litert
from interpreter_models import codes_of, colours_tflite, normalised, pictures, pitches_tflite, tones
from pcmedge.errors import InputValueError
from pcmedge.image import ChipImage
from pcmedge.tflite import Interpreter
from pcmedge.tflite.images import KEPT_IN_MEMORY, Given, image_of

PICTURES = normalised(pictures()[0])
CODES = codes_of(tones()[0])


def run(interpreter: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(given["index"]))


@pytest.mark.parametrize("batch", [-1, 1])
@pytest.mark.parametrize(("make", "x"), [(colours_tflite, PICTURES), (pitches_tflite, CODES)])
def test_details_signatures_and_answers_are_the_files(make: Any, x: np.ndarray[Any, Any], batch: int) -> None:
    model = make(batch=batch, signature="classify")
    theirs = Litert(model_content=model)
    with Interpreter(model_content=model, calibration=x, physics="ideal") as ours:
        for side in ("get_input_details", "get_output_details"):
            (mine,), (other,) = getattr(ours, side)(), getattr(theirs, side)()
            assert [mine[key] for key in ("name", "dtype", "quantization")] == [
                other[key] for key in ("name", "dtype", "quantization")
            ]
            np.testing.assert_array_equal(mine["shape"], other["shape"])
        assert ours.get_signature_list() == theirs.get_signature_list()
        mine, other = run(ours, x), run(theirs, x)
        assert mine.dtype == other.dtype
        step = 1 / 256 if mine.dtype == np.float32 else 4
        assert np.abs(mine.astype(np.float64) - other).max() <= 4 * step


def test_one_image_for_one_file_calibration_and_options(tmp_path: Path) -> None:
    def batches() -> Iterator[np.ndarray[Any, Any]]:
        yield from (CODES[:12], CODES[12:])

    path = tmp_path / "pitches.tflite"
    path.write_bytes(pitches_tflite())
    first = image_of(Given(path=path, content=None, calibration=CODES))
    assert image_of(Given(path=None, content=pitches_tflite(), calibration=CODES.copy())) is first
    streamed = image_of(Given(path=path, content=None, calibration=batches()))
    assert image_of(Given(path=path, content=None, calibration=batches())) is streamed
    for other in (
        Given(path=path, content=None, calibration=CODES[:20]),
        Given(path=path, content=None, calibration=CODES, options={"scaling": "column"}),
        Given(path=None, content=pitches_tflite(batch=1), calibration=CODES),
    ):
        assert image_of(other) is not first


def test_a_cache_folder_outlives_the_memory_and_damage(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    given = Given(path=None, content=pitches_tflite(), calibration=CODES[:16], cache=folder)
    made = image_of(given)
    (kept,) = folder.iterdir()
    assert ChipImage.open(kept) == made

    def forget() -> None:
        for number in range(KEPT_IN_MEMORY):
            image_of(Given(path=None, content=pitches_tflite(), calibration=CODES, options={"name": f"m{number}"}))

    forget()
    found = image_of(given)
    assert found is not made
    assert found.path == kept
    forget()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert image_of(given) == made
    assert ChipImage.open(kept) == made
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputValueError, match="cache"):
        image_of(Given(path=None, content=pitches_tflite(), calibration=CODES[:8], cache=tmp_path / "file"))
