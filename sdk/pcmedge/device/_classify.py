"""Pictures in, labels out, by what the image says about its application side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcmedge._contract import image_pb2
from pcmedge.device._calls import Script, Session
from pcmedge.device._images import manifest_of
from pcmedge.device._inference import infer_detailed, remembered_spec
from pcmedge.device.results import InferResult
from pcmedge.errors import GenerationMismatchError, InputError, ModelNotFoundError, NotProgrammedError


def classify(
    session: Session, picture: ArrayLike, *, top_k: int = 5, model: str | None = None
) -> Script[list[tuple[str, float]]]:
    """The most likely (label, probability) of one picture, best first.

    ``picture``: uint8 [height, width, channels] or [height, width], any size; resized and normalised as the image's
    manifest says. Raises InputError if the image carries no preprocessing.
    """
    for last in (False, True):
        remembered = bool(session.specs or session.manifests)
        try:
            generation, manifest, result = yield from _answered(session, picture, model)
        except (InputError, ModelNotFoundError, NotProgrammedError):
            if last or not remembered:
                raise
        else:
            if result.program_generation == generation:
                return ranked(class_scores(manifest, result), manifest.application, top_k)
        # What was remembered is of an image that somebody else has replaced: another model, other labels.
        session.forget_models()
    raise GenerationMismatchError("the device was programmed again while it looked at the picture; ask once more")


def _answered(
    session: Session, picture: ArrayLike, model: str | None
) -> Script[tuple[int, image_pb2.Manifest, InferResult]]:
    """The manifest as it is remembered, the program generation it is of, and the answer to one picture."""
    name = (yield from remembered_spec(session, model)).name
    known = session.manifests.get(name)
    if known is None:
        resident, manifest = yield from manifest_of(session, name)
        known = session.manifests[name] = resident.program_generation, manifest
    generation, manifest = known
    step = manifest.application.preprocessing
    if not manifest.application.HasField("preprocessing"):
        raise InputError(_about_pictures(name, manifest), model=name)
    from pcmedge.image.application import preprocess
    from pcmedge.image.interface import as_given

    tensor = preprocess(step, np.asarray(picture))
    spec = next(spec for spec in manifest.model.inputs if spec.name == step.input)
    result = yield from infer_detailed(session, {step.input: as_given(spec, tensor)}, model=name)
    return generation, manifest, result


def _about_pictures(name: str, manifest: image_pb2.Manifest) -> str:
    if manifest.HasField("profile"):
        return (
            f"the image of model {name!r} says nothing about pictures; compile it with preprocessing=, or use infer()"
        )
    return (
        f"nothing says how a picture becomes the input of model {name!r}, which is computed digitally; make the device "
        "with pcmedge.DigitalDevice(model, preprocessing=...), or use infer()"
    )


def class_scores(manifest: image_pb2.Manifest, result: InferResult) -> NDArray[Any]:
    """The scores of the classes, or their logits, as numbers: a quantised output's codes are turned into values."""
    from pcmedge.image.interface import as_values

    name = manifest.application.class_output or next(iter(result.outputs))
    spec = next((spec for spec in manifest.model.outputs if spec.name == name), None)
    return result.outputs[name] if spec is None else as_values(spec, result.outputs[name])


def ranked(scores: NDArray[Any], application: image_pb2.Application, top_k: int) -> list[tuple[str, float]]:
    """The ``top_k`` best (label, probability) of one row of class scores; labels missing are numbers."""
    row = scores.reshape(-1).astype(np.float64)
    if not application.class_output_is_probability:
        row = np.exp(row - row.max())
        row /= row.sum()
    labels = application.labels
    best = np.argsort(-row, kind="stable")[:top_k]
    return [(labels[index] if index < len(labels) else str(index), float(row[index])) for index in best]
