"""Model files named by an address or a path, and references of a self-test: what is taken and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pcmedge
import pytest
from cli_process import run
from pcmedge.demo import compile_digits, load_digits
from pcmedge.errors import FileMissingError, InputTypeError, InputValueError

DIGITS = Path(pcmedge.__path__[0]) / "demo" / "digits.onnx"


def test_percent_escapes_and_relative_paths_name_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my models"
    folder.mkdir()
    (folder / "50%.onnx").write_bytes(DIGITS.read_bytes())
    monkeypatch.chdir(tmp_path)
    escaped = "my%20models/50%25.onnx"
    for url in (f"digital://{tmp_path}/{escaped}", f"digital://{escaped}", f"digital://./{escaped}"):
        with pcmedge.connect(url) as device:
            assert device.infer(load_digits().test.tensors[:2]).shape == (2, 10)
    with pytest.raises(FileMissingError, match=str(tmp_path / "nothing.onnx")):
        pcmedge.connect("digital://nothing.onnx")
    for url in ("digital://", "digital:///a%00b.onnx"):
        with pytest.raises(InputValueError, match="digital:///path"):
            pcmedge.connect(url)


@pytest.mark.parametrize("reference", [(1, 2), ({"x": [1]}, 2), "reference", ({"x": [1]},), 7])
def test_a_reference_of_another_kind_is_a_typed_error(reference: object) -> None:
    with pytest.raises(InputTypeError, match=r"reference is \(inputs, outputs\)") as caught:
        pcmedge.DigitalDevice(DIGITS, reference=reference)  # type: ignore[arg-type]
    assert caught.value.metadata["argument"] == "reference"


def test_a_reference_names_the_models_own_tensors() -> None:
    x = load_digits().test.tensors[:4]
    with pcmedge.DigitalDevice(DIGITS) as device:
        spec = device.model_spec()
        y = device.infer(x)
    names = spec.inputs[0].name, spec.outputs[0].name
    with pcmedge.DigitalDevice(DIGITS, reference=({names[0]: x}, {names[1]: y})) as device:
        assert device.self_test().reference_inputs == 4
    for wrong in (({"nothing": x}, {names[1]: y}), ({names[0]: x}, {}), ({names[0]: np.float32(1)}, {names[1]: y[:0]})):
        with pytest.raises(InputValueError, match="reference"):
            pcmedge.DigitalDevice(DIGITS, reference=wrong)


def test_the_second_device_of_a_pair_may_be_a_file(tmp_path: Path) -> None:
    x = load_digits().test.tensors[:2]
    image = tmp_path / "digits.pcmi"
    compile_digits().save(image)
    down = f"unix://{tmp_path}/nobody.sock"
    for fallback in (DIGITS, str(DIGITS), image):
        with pcmedge.FallbackDevice(down, fallback) as pair:
            assert pair.infer(x).shape == (2, 10)
            assert pair.in_force == "fallback"
    with pytest.raises(FileMissingError):
        pcmedge.FallbackDevice(down, tmp_path / "nothing.tflite")
    with pytest.raises(InputTypeError, match="path of a"):
        pcmedge.FallbackDevice(down, 7)  # type: ignore[arg-type]


def test_inputs_of_a_wrong_type_end_every_command_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, batch = tmp_path / "digits.pcmi", tmp_path / "batch.npy"
    compile_digits().save(image)
    np.save(batch, load_digits().test.tensors[:4].astype(np.complex64))
    codes = {verb: run(capsys, verb, image, "-i", batch, "--json").code for verb in ("check", "expect")} | {
        "infer": run(capsys, "infer", "-i", batch, "--device", f"digital://{DIGITS}", "--json").code
    }
    assert codes == {"check": 2, "expect": 2, "infer": 2}
