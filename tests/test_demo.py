"""The demo: its package data, one small run over gRPC, what it draws, and its refusals."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
from pcmedge import demo
from pcmedge.demo.digits import LABELS, MODEL_FILE, Digits, load_digits
from pcmedge.demo.view import LiveView, picture
from pcmedge.demo.year import Recalibration, Year
from pcmedge.drift import Row
from pcmedge.errors import FileUnwritableError, InputValueError, MissingExtraError, UnavailableError
from pcmedge.image import ChipImage
from rich.console import Console

YEAR_S = 31536000.0
AGES_S = (25.0, 3600.0, YEAR_S)


class Notes(demo.QuietView):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.served: list[int] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def year(self, year: Year) -> None:
        self.served.append(year.requests_served)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[demo.DemoResult, Notes]:
    notes = Notes()
    return demo.run(tmp_path_factory.mktemp("demo"), chips=2, seed=3, ages=AGES_S, view=notes), notes


def test_package_data_is_whole_and_split_without_overlap(digits: Digits) -> None:
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1097, 300, 400)
    parts = (digits.train, digits.validation, digits.test)
    assert all(set(part.labels.tolist()) == set(range(10)) for part in parts)
    assert max(int(part.pictures.max()) for part in parts) == 16
    assert digits.test.tensors.shape == (400, 1, 8, 8)
    from sklearn.datasets import load_digits as source

    ours = sorted(part.pictures[i].tobytes() for part in parts for i in range(len(part)))
    assert ours == sorted(image.astype(np.uint8).tobytes() for image in source().images)


def test_bundled_network_keeps_batch_norm_and_reads_digits(digits: Digits) -> None:
    model = onnx.load(MODEL_FILE)
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == 5
    assert not any(node.metadata_props for node in model.graph.node)
    assert MODEL_FILE.stat().st_size < 200_000
    session = onnxruntime.InferenceSession(MODEL_FILE.read_bytes(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: digits.test.tensors})
    assert np.mean(scores.argmax(axis=1) == digits.test.labels) >= 0.98


def test_a_year_over_grpc(ran: tuple[demo.DemoResult, Notes]) -> None:
    result, notes = ran
    none, gdc, adabs = (result.last(mode) for mode in ("none", "gdc", "adabs"))
    assert none.age_s == gdc.age_s == adabs.age_s == YEAR_S
    assert none.accuracy_mean <= 0.6
    assert gdc.accuracy_mean > none.accuracy_mean + 0.2
    assert adabs.accuracy_mean >= result.digital_accuracy - 0.03
    assert result.digital_accuracy >= 0.98
    assert result.requests_failed == 0
    # 8 requests read all test digits, 10 more go on while the device ages.
    assert result.requests_served == 18 * 2 * 3 * len(AGES_S)
    assert notes.served == sorted(notes.served)
    assert len(notes.stages) >= 4


def test_policies_recalibrate_on_the_way_and_only_where_they_should(ran: tuple[demo.DemoResult, Notes]) -> None:
    result, _ = ran
    by_mode = {mode: [one for one in result.recalibrations if one.mode == mode] for mode in ("none", "gdc", "adabs")}
    assert by_mode["none"] == []
    for mode in ("gdc", "adabs"):
        for chip in range(2):
            ages = [one.age_s + 20 for one in by_mode[mode] if one.chip == chip]
            assert len(ages) == 10
            assert np.allclose(np.divide(ages[1:], ages[:-1]), 4.0, rtol=0.01)


def test_the_document_and_the_files(ran: tuple[demo.DemoResult, Notes]) -> None:
    result, _ = ran
    document = json.loads(json.dumps(result.document()))
    assert len(document["rows"]) == 3 * len(AGES_S)
    for row in document["rows"]:
        assert {"age_s", "mode", "accuracy_mean", "accuracy_stderr", "chips"} <= set(row)
        assert row["chips"] == 2
    assert {row["mode"] for row in document["rows"]} == {"none", "gdc", "adabs"}
    gain = document["adabs_minus_gdc"]
    assert gain["age_s"] == YEAR_S
    assert gain["mean"] == pytest.approx(result.last("adabs").accuracy_mean - result.last("gdc").accuracy_mean)
    assert gain["stderr"] >= 0
    table = pq.read_table(document["files"]["parquet"])
    assert table.num_rows == 3 * 2 * len(AGES_S)
    assert Path(document["files"]["png"]).read_bytes().startswith(b"\x89PNG")
    image = ChipImage.open(document["files"]["image"])
    assert list(image.manifest.application.labels) == list(LABELS)
    assert sorted(path.name for path in result.files["png"].parent.iterdir()) == [
        "demo.parquet",
        "demo.png",
        "digits.pcmi",
    ]


def test_twins_start_alike(ran: tuple[demo.DemoResult, Notes]) -> None:
    result, _ = ran
    first = {(row.chip, row.mode): row.accuracy for row in result.measurements if row.age_s == AGES_S[0]}
    for chip in range(2):
        # Before the first recalibration the three differ in nothing, down to the noise of each product.
        assert first[chip, "none"] == first[chip, "gdc"] == first[chip, "adabs"]


def some_year() -> Year:
    year = Year(chips=1, samples=400, digital_accuracy=0.99, ages_s=(25.0, 3600.0), age_s=3600.0, requests_served=1234)
    for age_s in year.ages_s:
        for mode, accuracy in (("none", 0.2), ("gdc", 0.95), ("adabs", 0.98)):
            year.rows.append(
                Row(
                    age_s=age_s,
                    chip=0,
                    seed=0,
                    mode=mode,
                    realisation=0,
                    accuracy=accuracy,
                    digital_accuracy=0.99,
                    samples=400,
                    median_drift_factor=1.0,
                    mean_shift=0.0,
                )
            )
    year.recalibrations.append(Recalibration(age_s=40.0, chip=0, mode="adabs", committed=True))
    return year


def test_the_live_picture_says_what_happens() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    console.print(picture(some_year()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for said in ("99.0 %", "20.0 %", "95.0 %", "98.0 %", "1,234 requests served", "0 failed", "  1 times", "1h ago"):
        assert said in text
    with LiveView(console) as view:
        view.stage("compiling")
        view.progress(1, 2)
        view.year(some_year())


def test_a_pipe_gets_plain_lines() -> None:
    console = Console(file=io.StringIO(), width=60)
    view = demo.choose_view(console)
    assert isinstance(view, demo.PlainView)
    view.stage("compiling")
    view.year(some_year())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "compiling ..."
    assert lines[1].startswith("age 1h: digital 99.0 %, none 20.0 %, gdc 95.0 %, adabs 98.0 %; 1234 requests served")
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputValueError, match="at least one chip"):
        demo.run(tmp_path, chips=0)
    with pytest.raises(UnavailableError, match="unobtainium"):
        demo.run(tmp_path, chips=1, physics="unobtainium")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileUnwritableError, match="Cannot write"):
        demo.run(tmp_path / "file", chips=1)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"pcmedge\[train\]"):
        demo.run(tmp_path, train=True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pcmedge\[emulator\]"):
        demo.run(tmp_path)


def test_training_again_gives_a_network_that_compiles(digits: Digits, tmp_path: Path) -> None:
    from pcmedge.demo import train_digits

    seen: list[int] = []
    model = train_digits.train(digits, epochs=3, progress=lambda phase, done, total: seen.append(done))
    assert seen == [1, 2, 3]
    assert train_digits.accuracy(model, digits.validation.tensors, digits.validation.labels) > 0.8
    path = tmp_path / "again.onnx"
    train_digits.export(model, path)
    image = demo.compile_digits(digits, path)
    assert len(image.manifest.layers) == 6
