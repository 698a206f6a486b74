"""Digital and device side by side, and what accuracy to expect."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from compiler_models import ARCHITECTURES, chain, exported, onnx_model, samples, torch_inputs
from onnx import helper
from pcmedge.checking import Check, Effect, LayerCheck, check, expect
from pcmedge.compiler import compile
from pcmedge.drift import DriftPlan, run_study
from pcmedge.errors import InputError, InputValueError
from pcmedge.image import ChipImage


@pytest.fixture(scope="module")
def classifier() -> ChipImage:
    return compile(chain(24, 32, 5), calibration=samples(64, 24), name="chain")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_effect_adds_error_and_none_is_left_without(name: str) -> None:
    model = exported(name)
    inputs = dict(zip((value.name for value in model.graph.input), torch_inputs(name), strict=True))
    image = compile(model, calibration=inputs)
    for given in (model, None):
        found = check(image, inputs, model=given)
        assert found.reference == ("image" if given is None else "model")
        assert [each.layer for each in found.layers] == [layer.name for layer in image.manifest.layers]
        assert found.suspect == ""
        for each in found.layers:
            assert each.effects_off.alone < 1e-4 < each.converters.alone < each.device.alone < 1
            assert each.effects_off.through < 1e-3
        outputs = found.outputs
        assert outputs["effects_off"] < outputs["converters"] < outputs["device"]
    assert found.samples == 24


def test_the_first_layer_has_accumulated_only_its_own_error(classifier: ChipImage) -> None:
    found = check(classifier, samples(40, 24), physics="ideal", read_noise="off")
    first, last = found.layers
    assert first.device == first.converters
    assert first.converters.alone == first.converters.through
    assert last.converters.through > last.converters.alone
    assert last.converters.snr_db == pytest.approx(-20 * math.log10(last.converters.alone))


def test_an_aged_chip_errs_more_and_compensation_helps(classifier: ChipImage) -> None:
    x = samples(40, 24)
    fresh, aged, healed = (
        check(classifier, x, age_s=age, mode=mode).layers[0].device.alone
        for age, mode in (("0s", "none"), ("30d", "none"), ("30d", "gdc"))
    )
    assert fresh < healed < aged


def test_inputs_unlike_the_calibration_set_saturate() -> None:
    image = compile(chain(24, 32, 5), calibration=samples(64, 24) / 20)
    loud, quiet = (check(image, samples(40, 24) / scale).layers[0] for scale in (1, 20))
    assert loud.converters.alone > 5 * quiet.converters.alone
    assert loud.adc_saturation > quiet.adc_saturation


def test_clipping_shows_against_the_model_and_is_no_fault() -> None:
    model, x = chain(24, 32, 5), samples(64, 24)
    image = compile(model, calibration=x, clip_sigma=1.5)
    found = check(image, x, model=model)
    assert (found.altered, found.suspect) == (True, "")
    assert found.layers[0].effects_off.alone > 1e-3 > check(image, x).layers[0].effects_off.alone


def test_a_comparison_with_another_model_is_refused(classifier: ChipImage) -> None:
    with pytest.raises(InputValueError, match="was compiled from"):
        check(classifier, samples(8, 24), model=chain(24, 32, 5, seed=1))
    with pytest.raises(InputError, match="expected shape"):
        check(classifier, samples(8, 23))
    with pytest.raises(InputValueError, match="most_samples"):
        check(classifier, samples(8, 24), most_samples=0)
    with pytest.raises(InputValueError, match="modes"):
        check(classifier, samples(8, 24), mode="magic")


def test_the_first_layer_that_stands_out_is_named() -> None:
    right = Effect(alone=1e-5, through=1e-5)
    usual = LayerCheck(
        layer="a",
        operator="AnalogConv",
        effects_off=right,
        converters=Effect(alone=0.01, through=0.01),
        device=Effect(alone=0.05, through=0.05),
        adc_saturation=0.0,
    )
    layers = (
        usual,
        replace(usual, layer="b", device=Effect(alone=0.3, through=0.3)),
        replace(usual, layer="c", effects_off=Effect(alone=1e-5, through=0.1)),
        replace(usual, layer="d"),
    )
    found = Check(
        model="m",
        image_sha256="",
        reference="model",
        altered=False,
        physics="pcm-90nm",
        seed=0,
        age_s=0.0,
        mode="none",
        samples=1,
        layers=layers,
        outputs={},
    )
    assert (found.first_outlier("device"), found.first_outlier("converters"), found.suspect) == ("b", "", "c")


def test_accuracy_is_that_of_a_drift_study_of_the_same_chips(classifier: ChipImage) -> None:
    x = samples(60, 24, seed=5)
    labels = np.arange(60) % 5
    found = expect(classifier, x, labels, chips=2, first_seed=3, ages_s=("1d",))
    plan = DriftPlan(ages_s=(0.0, "1d"), chips=2, first_seed=3, modes=("none", "adabs-paired"))
    study = run_study(classifier, x, labels, plan=plan, workers=1)
    summary = {(row.age_s, row.mode): row.accuracy_mean for row in study.summary()}
    assert found.measure == "accuracy"
    assert found.seeds == (3, 4)
    assert found.digital == study.digital_accuracy
    for each in found.moments:
        assert each.accuracy_mean == pytest.approx(summary[each.age_s, each.mode])
        assert each.accuracy_std is not None
    assert [(each.age_s, each.mode) for each in found.moments] == [(0.0, "none"), (86400.0, "adabs-paired")]
    assert found.drop == pytest.approx(found.digital - min(each.accuracy_mean or 0 for each in found.moments))


def test_without_labels_it_is_agreement_and_an_ideal_chip_agrees(classifier: ChipImage) -> None:
    x = samples(100, 24, seed=5)
    ideal, real = (expect(classifier, x, chips=1, ages_s=("30d",), physics=name) for name in ("ideal", "pcm-90nm"))
    assert (ideal.measure, ideal.digital) == ("agreement", 1.0)
    assert not ideal.recommends_training
    assert ideal.drop < real.drop
    assert real.moments[-1].output_error_mean > ideal.moments[-1].output_error_mean
    assert real.moments[0].accuracy_std is None
    errors = [each.error_mean for each in real.layers]
    assert errors == sorted(errors, reverse=True)
    assert {each.layer for each in real.layers} == {layer.name for layer in classifier.manifest.layers}


def test_a_network_without_scores_is_judged_by_its_output_error() -> None:
    weights = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    x = samples(32, 4, 12)
    image = compile(onnx_model(nodes, {"x": ["n", 4, 12]}, ["y"], {"w": weights}), calibration=x)
    found = expect(image, x, chips=1, ages_s=("1d",))
    assert (found.measure, found.moments[0].accuracy_mean) == ("output error", None)
    assert found.moments[1].mode == "gdc"
    assert found.drop == max(each.output_error_mean for each in found.moments) > 0


def test_progress_reaches_its_end(classifier: ChipImage) -> None:
    seen: dict[str, tuple[int, int]] = {}

    def tell(phase: str, done: int, total: int) -> None:
        seen[phase] = (done, total)

    check(classifier, samples(40, 24), progress=tell)
    expect(classifier, samples(16, 24), chips=1, ages_s=("1d",), progress=tell)
    assert set(seen) == {"effects_off", "converters", "device", "chips", "layers"}
    assert all(done == total for done, total in seen.values())
