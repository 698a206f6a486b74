"""Drift studies: rows, their independence from the workers, files, refusals."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pcmedge.demo import compile_digits
from pcmedge.demo.digits import Digits, Pictures, load_digits
from pcmedge.drift import DriftPlan, DriftStudy, Row, difference, run_study, summarise
from pcmedge.errors import FileUnwritableError, InputError, InputShapeError, InputTypeError, InputValueError
from pcmedge.image import ChipImage
from pcmedge_emulator.physics.curves import ZERO
from pcmedge_emulator.physics.technology import get_technology

PLAN = DriftPlan(ages_s=("1y", "1h"), chips=2, modes=("none", "gdc", "adabs-paired"), realisations=2)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits()


@pytest.fixture(scope="module")
def some(digits: Digits) -> Pictures:
    return Pictures(digits.test.pictures[:80], digits.test.labels[:80])


@pytest.fixture(scope="module")
def image(digits: Digits) -> ChipImage:
    return compile_digits(digits)


@pytest.fixture(scope="module")
def study(image: ChipImage, some: Pictures) -> DriftStudy:
    return run_study(image, some.tensors, some.labels, plan=PLAN, workers=1)


def test_one_row_per_chip_age_mode_and_realisation(study: DriftStudy) -> None:
    assert study.plan.ages == (3600.0, 31536000.0)
    expected = [
        (chip, age_s, mode, realisation)
        for chip in range(2)
        for age_s in study.plan.ages
        for mode in PLAN.modes
        for realisation in range(2)
    ]
    assert [(row.chip, row.age_s, row.mode, row.realisation) for row in study.rows] == expected
    assert len(study.rows) == PLAN.rows
    assert {row.samples for row in study.rows} == {80}
    assert all(0.0 <= row.accuracy <= 1.0 for row in study.rows)


def test_compensation_keeps_what_drift_takes(study: DriftStudy) -> None:
    year = {one.mode: one for one in study.summary() if one.age_s == 31536000.0}
    assert study.digital_accuracy >= 0.96
    assert year["none"].accuracy_mean <= 0.6
    assert year["gdc"].accuracy_mean >= year["none"].accuracy_mean + 0.2
    assert year["adabs-paired"].accuracy_mean >= study.digital_accuracy - 0.05
    # Drift exponents lie around 0.05 to 0.06: a year divides conductances by about (31536020 / 20)^0.05 = 2.
    factors = [row.median_drift_factor for row in study.rows if row.age_s == 31536000.0 and row.mode == "gdc"]
    assert all(1.7 < factor < 2.6 for factor in factors)


def test_realisations_differ_and_chips_differ(study: DriftStudy) -> None:
    at_an_hour = [row for row in study.rows if row.mode == "none" and row.age_s == 3600.0]
    assert len({row.accuracy for row in at_an_hour}) > 1
    assert len({row.seed for row in study.rows}) == 2


def test_the_result_does_not_depend_on_the_workers(image: ChipImage, some: Pictures, study: DriftStudy) -> None:
    seen: list[tuple[int, int]] = []
    parallel = run_study(
        image,
        some.tensors,
        some.labels,
        plan=PLAN,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert parallel == study
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)
    with futures.ThreadPoolExecutor(2) as executor:
        assert run_study(image, some.tensors, some.labels, plan=PLAN, executor=executor) == study


def test_pictures_go_through_the_images_preprocessing(image: ChipImage, some: Pictures) -> None:
    plan = DriftPlan(ages_s=(25.0,), chips=1, modes=("none",))
    by_picture = run_study(image, some.pictures, some.labels, plan=plan, workers=1)
    by_tensor = run_study(image, some.tensors, some.labels, plan=plan, workers=1)
    assert by_picture.rows == by_tensor.rows


def test_parquet_holds_the_rows_and_how_they_came_about(study: DriftStudy, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "study.parquet"
    study.to_parquet(path)
    table = pq.read_table(path)
    assert [Row(**values) for values in table.to_pylist()] == list(study.rows)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert json.loads(metadata["pcmedge.plan"])["ages_s"] == [3600.0, 31536000.0]
    assert metadata["pcmedge.image_sha256"] == study.image_sha256
    assert len(metadata["pcmedge.data_sha256"]) == 64
    before = path.read_bytes()
    study.to_parquet(path)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == ["study.parquet"]


def test_plot_is_a_png_with_something_on_it(study: DriftStudy, tmp_path: Path) -> None:
    from matplotlib.image import imread

    path = tmp_path / "study.png"
    study.plot(path)
    pixels = imread(path)
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 800
    blue, orange = np.array([0x00, 0x72, 0xB2]) / 255, np.array([0xE6, 0x9F, 0x00]) / 255
    for colour in (blue, orange):
        assert int((np.abs(pixels[..., :3] - colour).max(axis=-1) < 0.02).sum()) > 100


def test_files_appear_whole_or_not_at_all(study: DriftStudy, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for write in (study.to_parquet, study.plot):
        with pytest.raises(FileUnwritableError, match="Cannot write"):
            write(blocked / "out")
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    from pcmedge.drift.files import write_whole

    path = tmp_path / "study.png"
    path.write_text("old")

    def interrupted(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupted)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["study.png"]


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_the_study_and_its_workers(image: ChipImage, some: Pictures, workers: int) -> None:
    import multiprocessing

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(image, some.tensors, some.labels, plan=PLAN, workers=workers, progress=interrupt)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_study_goes_on_after_the_last_whole_chip(
    image: ChipImage, some: Pictures, study: DriftStudy, tmp_path: Path, workers: int
) -> None:
    keep = tmp_path / "kept"

    def interrupt(done: int, total: int) -> None:
        if list(keep.glob("*.json")):
            raise KeyboardInterrupt

    seen: list[int] = []
    with contextlib.suppress(KeyboardInterrupt):  # two workers may be done both at once
        run_study(image, some.tensors, some.labels, plan=PLAN, workers=workers, progress=interrupt, keep=keep)
    kept = len(list(keep.glob("*.json")))
    assert kept >= 1
    again = run_study(
        image, some.tensors, some.labels, plan=PLAN, workers=1, progress=lambda done, _: seen.append(done), keep=keep
    )
    assert again.rows == study.rows
    assert seen[0] == kept * len(PLAN.ages) * len(PLAN.modes)
    assert len(list(keep.glob("*.json"))) == PLAN.chips


def test_kept_chips_serve_a_study_of_more_chips_and_no_other(
    image: ChipImage, some: Pictures, study: DriftStudy, tmp_path: Path
) -> None:
    def measured(plan: DriftPlan, pictures: np.ndarray, labels: np.ndarray) -> tuple[int, DriftStudy]:
        seen: list[int] = []
        found = run_study(
            image, pictures, labels, plan=plan, workers=1, progress=lambda done, _: seen.append(done), keep=tmp_path
        )
        return seen[-1] - seen[0], found

    one, all_modes = replace(PLAN, chips=1, keep_correct=True), len(PLAN.ages) * len(PLAN.modes)
    assert measured(one, some.tensors, some.labels)[0] == all_modes
    count, two = measured(replace(one, chips=2), some.tensors, some.labels)
    assert count == all_modes
    assert [replace(row, correct=b"") for row in two.rows] == list(study.rows)
    assert all(len(row.correct) == 10 for row in two.rows)
    # The second chip of seed 0 is the first one of seed 1.
    count, last = measured(replace(one, first_seed=1), some.tensors, some.labels)
    assert count == 0
    assert [row.chip for row in last.rows] == [0] * len(last.rows)
    assert [row.accuracy for row in last.rows] == [row.accuracy for row in two.rows if row.chip == 1]

    assert measured(replace(one, batches=1), some.tensors, some.labels)[0] == all_modes
    assert measured(one, some.tensors, np.roll(some.labels, 1))[0] == all_modes
    for path in tmp_path.iterdir():
        path.write_text(path.read_text()[:-9])
    assert measured(one, some.tensors, some.labels)[0] == all_modes


def test_without_noise_and_drift_the_chip_is_the_digital_network(image: ChipImage, some: Pictures) -> None:
    plan = DriftPlan(ages_s=("1y",), chips=1, modes=("none",), physics="ideal", read_noise="off", converters="ideal")
    study = run_study(image, some.tensors, some.labels, plan=plan, workers=1)
    assert [row.accuracy for row in study.rows] == [study.digital_accuracy]


def row(chip: int, mode: str, accuracy: float, realisation: int = 0, age_s: float = 60.0) -> Row:
    return Row(
        age_s=age_s,
        chip=chip,
        seed=chip,
        mode=mode,
        realisation=realisation,
        accuracy=accuracy,
        digital_accuracy=0.99,
        samples=100,
        median_drift_factor=1.0,
        mean_shift=0.0,
    )


def test_summary_is_over_chips_not_over_realisations() -> None:
    rows = [row(0, "gdc", 0.8), row(0, "gdc", 0.9, 1), row(1, "gdc", 0.95), row(1, "gdc", 0.95, 1)]
    (one,) = summarise(rows)
    assert one.accuracy_mean == pytest.approx(0.9)
    assert one.accuracy_stderr == pytest.approx(math.sqrt(((0.85 - 0.9) ** 2 + (0.95 - 0.9) ** 2) / 1 / 2))
    assert (one.accuracy_low, one.accuracy_high) == pytest.approx((0.85, 0.95))
    assert (one.chips, one.realisations) == (2, 2)
    assert summarise([row(0, "gdc", 0.8)])[0].accuracy_stderr is None


def test_difference_is_paired_chip_by_chip() -> None:
    rows = [
        row(chip, mode, 0.5 + 0.1 * chip + gain) for chip in range(3) for mode, gain in (("gdc", 0), ("adabs", 0.02))
    ]
    found = difference(rows, "adabs", "gdc", 60.0)
    assert found.mean == pytest.approx(0.02)
    assert found.stderr == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(InputValueError, match="not measured"):
        difference(rows, "none", "gdc", 60.0)


@pytest.mark.parametrize(
    "wrong",
    [{"modes": ("magic",)}, {"modes": ()}, {"chips": 0}, {"ages_s": ()}, {"ages_s": ("soon",)}, {"realisations": 0}],
)
def test_plans_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputValueError):
        DriftPlan(**wrong)  # type: ignore[arg-type]


def test_data_that_does_not_fit_is_refused_before_any_work(image: ChipImage, some: Pictures) -> None:
    x, y = some.tensors, some.labels
    with pytest.raises(InputShapeError, match="as many samples"):
        run_study(image, x[:3], y)
    with pytest.raises(InputTypeError, match="integers"):
        run_study(image, x, y.astype(np.float32))
    with pytest.raises(InputValueError, match="from 0 to 9"):
        run_study(image, x, y + 5)
    with pytest.raises(InputError, match="takes the inputs"):
        run_study(image, {"picture": x}, y)
    with pytest.raises(InputShapeError):
        run_study(image, x[:, 0], y)


def test_a_script_without_a_main_guard_is_told_what_to_do(image: ChipImage, tmp_path: Path) -> None:
    image.save(tmp_path / "digits.pcmi")
    script = tmp_path / "study.py"
    script.write_text(
        "from pcmedge.demo import load_digits\n"
        "from pcmedge.drift import DriftPlan, run_study\n"
        "test = load_digits().test\n"
        "plan = DriftPlan(ages_s=('1h',), chips=2, modes=('none',))\n"
        f"run_study({str(tmp_path / 'digits.pcmi')!r}, test.tensors[:4], test.labels[:4], plan=plan, workers=2)\n",
        encoding="utf-8",
    )
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1
    assert "UnavailableError: A worker process of the study ended" in found.stderr.splitlines()[-1]
    assert "if __name__ == '__main__':" in found.stderr.splitlines()[-1]


def test_which_samples_were_right_is_kept_when_asked(image: ChipImage, some: Pictures, tmp_path: Path) -> None:
    plan = DriftPlan(ages_s=("1y",), chips=1, modes=("gdc",), keep_correct=True)
    study = run_study(image, some.tensors, some.labels, plan=plan, workers=1, digital_accuracy=0.25)
    (row,) = study.rows
    bits = np.unpackbits(np.frombuffer(row.correct, np.uint8), count=row.samples)
    assert bits.mean() == pytest.approx(row.accuracy)
    assert study.digital_accuracy == row.digital_accuracy == 0.25
    study.to_parquet(tmp_path / "kept.parquet")
    assert pq.read_table(tmp_path / "kept.parquet")["correct"].to_pylist() == [row.correct]


def test_a_technology_of_ones_own(image: ChipImage, some: Pictures) -> None:
    quiet = replace(
        get_technology("pcm-90nm"),
        name="quiet",
        programming_sigma=ZERO,
        drift_exponent_mean=ZERO,
        drift_exponent_std=ZERO,
        read_noise_q=ZERO,
    )
    plan = DriftPlan(ages_s=("1y",), chips=1, modes=("none",), physics=quiet, read_noise="off", converters="ideal")
    study = run_study(image, some.tensors, some.labels, plan=plan, workers=1)
    assert study.rows[0].accuracy == study.digital_accuracy
    assert json.loads(plan.to_json())["physics"]["name"] == "quiet"
    with pytest.raises(InputValueError, match="built-in technology with other coefficients"):
        run_study(image, some.tensors, some.labels, plan=replace(plan, physics=replace(quiet, name="pcm-90nm")))


def test_drift_factors_everywhere_change_what_adaptive_statistics_measure(image: ChipImage, some: Pictures) -> None:
    plan = DriftPlan(ages_s=("1y",), chips=1, modes=("adabs",))
    alone, everywhere = (
        run_study(image, some.tensors, some.labels, plan=each, workers=1, digital_accuracy=1.0).rows[0]
        for each in (plan, replace(plan, gdc_everywhere=True))
    )
    # A factor restores the mean that drift took, so that the statistics have less to move.
    assert everywhere.mean_shift < 0.5 * alone.mean_shift
