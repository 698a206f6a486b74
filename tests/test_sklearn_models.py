"""scikit-learn's networks through skl2onnx: scores on the chip, class names in the image."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from compiler_models import ideal_chip, relative_error, samples
from pcmedge.compiler import compile
from pcmedge.errors import CompileError, UnsupportedOperatorError
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X = samples(120, 6)
CLASS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)


def fitted(model: Any, y: np.ndarray[Any, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # twenty rounds of training do not converge
        return model.fit(X, y)


def options(model: Any, zipmap: bool) -> dict[Any, Any]:
    return {} if zipmap else {id(model): {"zipmap": False}}


@pytest.mark.parametrize("zipmap", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize(
    ("targets", "labels"),
    [
        (CLASS, ["0", "1", "2"]),
        (np.array(["left", "middle", "right"])[CLASS], ["left", "middle", "right"]),
        (CLASS > 0, ["False", "True"]),
    ],
)
def test_a_classifier_answers_with_its_probabilities(
    targets: np.ndarray[Any, Any], labels: list[str], activation: str, zipmap: bool
) -> None:
    model = fitted(MLPClassifier((16, 8), activation=activation, max_iter=20, random_state=0), targets)
    image = compile(to_onnx(model, X[:1], options=options(model, zipmap)), calibration=X, scaling="column")
    assert [layer.operator for layer in image.manifest.layers] == ["AnalogGemm"] * 3
    (found,) = ideal_chip(image, {"X": X}).values()
    assert relative_error(found, model.predict_proba(X)) <= 1e-4
    if labels == ["False", "True"]:
        labels = list(image.manifest.application.labels)  # skl2onnx writes booleans as 0 and 1
        assert labels in (["0", "1"], ["False", "True"])
    assert list(image.manifest.application.labels) == labels


def test_labels_of_your_own_win() -> None:
    model = fitted(MLPClassifier((8,), max_iter=20, random_state=0), CLASS)
    image = compile(to_onnx(model, X[:1], options=options(model, False)), calibration=X, labels=["a", "b", "c"])
    assert list(image.manifest.application.labels) == ["a", "b", "c"]


def test_several_labels_at_once() -> None:
    model = fitted(MLPClassifier((8,), max_iter=20, random_state=0), np.stack([CLASS > 0, CLASS > 1], 1))
    image = compile(to_onnx(model, X[:1], options=options(model, False)), calibration=X, scaling="column")
    (found,) = ideal_chip(image, {"X": X}).values()
    assert found.shape[0] == len(X)
    assert list(image.manifest.application.labels) == []


def test_a_regressor_behind_a_scaler() -> None:
    network = MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=20, random_state=0)
    model = fitted(make_pipeline(StandardScaler(), network), X[:, 0] * 2)
    image = compile(to_onnx(model, X[:1]), calibration=X, scaling="column")
    (found,) = ideal_chip(image, {"X": X}).values()
    assert relative_error(found[:, 0], model.predict(X)) <= 1e-4


def test_several_targets_at_once_which_skl2onnx_lays_in_one_row_are_refused() -> None:
    network = MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=20, random_state=0)
    with pytest.raises(CompileError, match=r"'variable': expected one answer per sample.*found shape \(6, 1\)"):
        compile(to_onnx(fitted(network, X[:, :2]), X[:1]), calibration=X)


def test_other_estimators_are_named_with_a_way_out() -> None:
    model = fitted(LogisticRegression(), CLASS)
    with pytest.raises(UnsupportedOperatorError, match=r"ai\.onnx\.ml\.LinearClassifier.*MLPClassifier"):
        compile(to_onnx(model, X[:1], options=options(model, False)), calibration=X)
