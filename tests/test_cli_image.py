"""``pcmedge compile``, ``inspect``, ``verify``: images as files."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pcmedge
import pytest
from cli_models import LABELS, Sources, write_sources
from cli_process import Result, run, run_process, start, without_extras
from onnx import TensorProto, helper


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def compiled(sources: Sources) -> bytes:
    picture = json.loads(sources.preprocessing.read_text())
    image = pcmedge.compile(sources.model, calibration=np.load(sources.data), labels=LABELS, preprocessing=picture)
    return image.to_bytes()


@pytest.fixture
def image(compiled: bytes, tmp_path: Path) -> Path:
    target = tmp_path / "small.pcmi"
    target.write_bytes(compiled)
    return target


@pytest.fixture(scope="module")
def base_install(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return without_extras(tmp_path_factory.mktemp("base"))


def compile_small(sources: Sources, target: Path, capsys: pytest.CaptureFixture[str], *more: str | Path) -> Result:
    options = ("--calibration", sources.data, "--labels", sources.labels, "--preprocessing", sources.preprocessing)
    return run(capsys, "compile", sources.model, *options, "--output", target, *more)


def test_compile_writes_the_image_it_describes(
    sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pcmedge import ChipImage

    target = tmp_path / "small.pcmi"
    more = ("--require-analog", "95%", "--image-version", "7", "--scaling", "column", "--buffer-samples", "8", "--json")
    document = compile_small(sources, target, capsys, *more).document
    image = ChipImage.open(target)
    assert (document["name"], document["version"], document["path"]) == ("small-net", 7, str(target))
    assert document["sha256"] == image.sha256.hex()
    assert document["analog_share"] > 0.95
    assert image.manifest.calibration_buffer.samples == 8
    assert tuple(image.manifest.application.labels) == LABELS
    assert image.manifest.application.preprocessing.width == 6


def test_compile_takes_the_self_test_from_where_it_is_told(
    sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pcmedge import ChipImage

    data = np.load(sources.data)
    found = {}
    for source in ("5", "synthetic", str(sources.data)):
        target = tmp_path / "small.pcmi"
        assert compile_small(sources, target, capsys, "--reference", source).code == 0
        (found[source],) = ChipImage.open(target).reference_set()[0].values()
    assert {source: len(inputs) for source, inputs in found.items()} == {
        "5": 5, "synthetic": 16, str(sources.data): len(data),
    }  # fmt: skip
    known = {sample.tobytes() for sample in data}
    assert known.isdisjoint(sample.tobytes() for sample in found["synthetic"])
    assert known.issuperset(sample.tobytes() for sample in found["5"])
    refused = compile_small(sources, tmp_path / "none.pcmi", capsys, "--reference", "nowhere.npy")
    assert refused.code == 2
    assert "nowhere.npy" in refused.err


def test_compile_puts_biases_on_a_row_and_says_how_many_devices_that_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(6, 4)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")],
        "biased",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", rng.normal(size=(32, 6)).astype(np.float32))
    given = (tmp_path / "m.onnx", "-c", tmp_path / "x.npy", "-o", tmp_path / "m.pcmi", "--bias")
    document = run(capsys, "compile", *given, "row", "--json").document
    assert document["manifest"]["required_features"] == ["bias-row-1", "pcm-analog-1"]
    assert int(document["manifest"]["placement"]["devices"]) == 2 * 7 * 4
    drawn = run(capsys, "inspect", tmp_path / "m.pcmi").out
    assert "28 on 56 devices" in drawn
    assert "6 + 1 x 4" in drawn
    assert run(capsys, "compile", *given, "analog").code == 2


def test_compile_names_the_file_after_the_model(
    sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(capsys, "compile", sources.model, "-c", sources.data, "--name", "my.net", "--buffer", "none")
    assert result.code == 0
    assert (tmp_path / "my.net.pcmi").is_file()
    assert "written to my.net.pcmi" in result.out


def test_compile_a_torch_factory(
    tmp_path: Path, sources: Sources, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets_of_a_test.py").write_text(
        "import torch\ndef perceptron():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 8), torch.nn.ReLU(), "
        "torch.nn.Linear(8, 4))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    document = run(capsys, "compile", "nets_of_a_test:perceptron", "-c", sources.data, "--json").document
    assert document["name"] == "perceptron"
    assert (tmp_path / "perceptron.pcmi").is_file()
    assert len(document["manifest"]["layers"]) == 2


def test_an_unsupported_operator_is_exit_code_4_and_lists_every_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("NotAnOperator", ["x"], ["a"], name="first", domain="example.custom"),
        helper.make_node("NorThis", ["a"], ["y"], name="second", domain="example.custom"),
    ]
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("example.custom", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", sides[:1], sides[1:]), opset_imports=imports, ir_version=10)
    onnx.save(model, tmp_path / "custom.onnx")
    np.save(tmp_path / "x.npy", np.ones((4, 4), np.float32))
    result = run(capsys, "compile", tmp_path / "custom.onnx", "-c", tmp_path / "x.npy", "--json")
    assert result.code == 4
    assert result.error["reason"] == "UNSUPPORTED_OPERATOR"
    assert "NotAnOperator" in result.error["message"]
    assert "NorThis" in result.error["message"]


def test_wrong_calibration_is_exit_code_4(sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "wrong.npy", np.ones((4, 7), np.float32))
    result = run(capsys, "compile", sources.model, "-c", tmp_path / "wrong.npy", "--json")
    assert (result.code, result.error["reason"]) == (4, "CALIBRATION_INVALID")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--profile", "no-such-chip"), ("--require-analog", "lots"), ("--name", "a b"), ("--preprocessing", __file__)],
)
def test_wrong_options_are_exit_code_2(
    option: str, value: str, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, "compile", sources.model, "-c", sources.data, option, value, "-o", tmp_path / "x", "--json")
    assert result.code == 2
    assert "Traceback" not in result.err
    assert not (tmp_path / "x").exists()


def test_an_output_that_is_read_is_refused(sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(sources.data).read_bytes()
    result = run(capsys, "compile", sources.model, "-c", sources.data, "-o", sources.data, "--json")
    assert (result.code, result.error["reason"]) == (2, "INPUT_VALUE")
    assert Path(sources.data).read_bytes() == before


def test_an_unwritable_output_is_exit_code_8(
    sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = compile_small(sources, blocked / "x.pcmi", capsys, "--json")
    assert (result.code, result.error["reason"]) == (8, "FILE_UNWRITABLE")


def test_verify_lists_its_checks(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = run(capsys, "verify", image, "--json").document
    assert document["ok"] is True
    assert document["complete"] is True
    assert {"header", "manifest", "padding", "tables", "program"} <= {check["name"] for check in document["checks"]}
    text = run(capsys, "verify", image)
    assert text.code == 0
    assert all(check["name"] in text.out for check in document["checks"])


@pytest.mark.parametrize("verb", ["verify", "inspect", "serve"])
def test_a_flipped_bit_is_exit_code_3(verb: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 4
    image.write_bytes(data)
    result = run(capsys, verb, image, "--json")
    assert (result.code, result.error["reason"]) == (3, "IMAGE_CORRUPT")
    assert result.error["metadata"]["check"]


def test_inspect_draws_layers_tiles_and_costs(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "inspect", image).out
    for expected in ("small-net", "conv", "classifier", "pcm-512x512", "MACs", "J", "tiles"):
        assert expected in text
    nodes = run(capsys, "inspect", image, "--layers").out
    assert "relu" in nodes
    assert "digital" in nodes


def test_inspect_json_is_the_whole_manifest(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pcmedge import ChipImage

    manifest = run(capsys, "inspect", image, "--json").document["manifest"]
    opened = ChipImage.open(image).manifest
    assert set(manifest) >= {field.name for field, _ in opened.ListFields()}
    assert [layer["name"] for layer in manifest["layers"]] == [layer.name for layer in opened.layers]
    assert manifest["layers"][0]["blocks"][0]["dac_step"] == opened.layers[0].blocks[0].dac_step
    assert manifest["application"]["labels"] == list(LABELS)


def test_the_base_install_inspects_and_verifies(image: Path, base_install: tuple[str, ...]) -> None:
    drawn = run_process("inspect", image, entry=base_install)
    assert (drawn.code, drawn.err) == (0, "")
    assert "classifier" in drawn.out
    checked = run_process("verify", image, "--json", entry=base_install)
    assert checked.code == 0
    assert checked.document["complete"] is False
    assert {c["name"] for c in checked.document["checks"] if c["outcome"] == "skipped"} == {"tables", "program"}


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("compile", "{model}", "-c", "{data}"), "emulator"),
        (("serve", "{image}", "--listen", "127.0.0.1:0"), "emulator"),
        (("demo",), "emulator"),
        (("drift", "{image}", "--data", "{labelled}"), "emulator"),
        (("infer", "--input", "{picture}", "--device", "grpc://127.0.0.1:1"), "data"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_missing_extra_names_the_pip_line(
    arguments: tuple[str, ...], extra: str, image: Path, sources: Sources, base_install: tuple[str, ...]
) -> None:
    picture = image.with_name("picture.png")
    picture.write_bytes(b"\x89PNG")
    names = {
        "model": sources.model,
        "data": sources.data,
        "labelled": sources.labelled,
        "image": image,
        "picture": picture,
    }
    filled = [argument.format(**names) for argument in arguments]
    result = run_process(*filled, "--json", entry=base_install)
    assert (result.code, result.error["reason"]) == (10, "MISSING_EXTRA")
    assert f"pip install 'pcmedge[{extra}]'" in result.error["message"]
    assert result.err == ""


def test_progress_is_shown_on_a_terminal_and_nowhere_else(sources: Sources, tmp_path: Path) -> None:
    arguments = ("compile", sources.model, "-c", sources.data, "-o", tmp_path / "x.pcmi", "--json")
    piped = run_process(*arguments)
    assert (piped.code, piped.err) == (0, "")
    terminal, child = os.openpty()
    with start(*arguments, stderr=child, TERM="xterm") as process:
        os.close(child)
        assert process.stdout is not None
        shown = b""
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 65536):
                shown += part
        document = json.loads(process.stdout.read())
    os.close(terminal)
    assert document["name"] == "small-net"
    assert b"compiling: write" in shown
