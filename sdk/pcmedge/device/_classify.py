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
        remembered = bool(session.specs or session.applications)
        try:
            generation, application, result = yield from _answered(session, picture, model)
        except (InputError, ModelNotFoundError, NotProgrammedError):
            if last or not remembered:
                raise
        else:
            if result.program_generation == generation:
                scores = result.outputs.get(application.class_output, result.output)
                return ranked(scores, application, top_k)
        # What was remembered is of an image that somebody else has replaced: another model, other labels.
        session.forget_models()
    raise GenerationMismatchError("the device was programmed again while it looked at the picture; ask once more")


def _answered(
    session: Session, picture: ArrayLike, model: str | None
) -> Script[tuple[int, image_pb2.Application, InferResult]]:
    """The application side as it is remembered, the program generation it is of, and the answer to one picture."""
    name = (yield from remembered_spec(session, model)).name
    known = session.applications.get(name)
    if known is None:
        resident, manifest = yield from manifest_of(session, name)
        known = session.applications[name] = resident.program_generation, manifest.application
    generation, application = known
    if not application.HasField("preprocessing"):
        raise InputError(
            f"the image of model {name!r} says nothing about pictures; compile it with preprocessing=, or use infer()",
            model=name,
        )
    from pcmedge.image.application import preprocess

    tensor = preprocess(application.preprocessing, np.asarray(picture))
    result = yield from infer_detailed(session, {application.preprocessing.input: tensor}, model=name)
    return generation, application, result


def ranked(scores: NDArray[Any], application: image_pb2.Application, top_k: int) -> list[tuple[str, float]]:
    """The ``top_k`` best (label, probability) of one row of class scores; labels missing are numbers."""
    row = scores.reshape(-1).astype(np.float64)
    if not application.class_output_is_probability:
        row = np.exp(row - row.max())
        row /= row.sum()
    labels = application.labels
    best = np.argsort(-row, kind="stable")[:top_k]
    return [(labels[index] if index < len(labels) else str(index), float(row[index])) for index in best]
