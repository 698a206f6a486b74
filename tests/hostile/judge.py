"""What becomes of one hostile file: refused by a typed error, or a result that is right. Anything else is a defect."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pcmedge
from onnx import numpy_helper
from pcmedge.errors import Error, InternalError
from pcmedge.frontends import onnx as onnx_frontend
from pcmedge.frontends import tflite as tflite_frontend
from pcmedge.image import ChipImage
from pcmedge_emulator.engine.fast import FastEngine
from pcmedge_emulator.engine.program import ChipProgram
from pcmedge_emulator.engine.reference import ReferenceEngine
from pcmedge_emulator.engine.state import Parameters, Snapshot

Array = np.ndarray[Any, Any]
SAMPLES = 6
LARGEST_INPUT = 2**20
"""Numbers per sample; a model that asks for more is only read here, for lack of calibration samples of that size."""
# Targets are rounded to 1 in 32,767 and sums to float32; a network may amplify that.
_TOLERANCE = 0.05
# |target| (of 32,767) of which rounding is no longer a small part.
_FINEST = 50
_CHOOSING = ("NonMaxSuppression", "TopK")
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "Unable to allocate", "out of memory")


@dataclass(frozen=True)
class Verdict:
    """``outcome``: "refused" (typed error), "right", "read" (accepted, nothing to compare the result with), or one of
    the defects "wrong", "untyped" and "memory".
    """

    outcome: str
    detail: str = ""


def judge(format: str, path: Path) -> Verdict:
    """Do with a file what its format is for."""
    try:
        return _JUDGES[format](path)
    except Error as error:
        if _ran_out(error):
            return Verdict("memory", _describe(error))
        if isinstance(error, InternalError):
            return Verdict("untyped", _describe(error))
        return Verdict("refused", f"{type(error).__name__}: {error.message.splitlines()[0][:160]}")
    except MemoryError as error:
        return Verdict("memory", _describe(error))
    except Exception as error:
        return Verdict("memory" if _ran_out(error) else "untyped", _describe(error))


def _ran_out(error: BaseException | None) -> bool:
    """Whether the memory limit of the process is behind it, however it was wrapped."""
    while error is not None:
        if isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def _describe(error: BaseException) -> str:
    where = "".join(traceback.format_exception(error)[-6:])
    return where[-1500:]


def _tflite(path: Path) -> Verdict:
    return _compiled(tflite_frontend.load(path))


def _onnx(path: Path) -> Verdict:
    return _compiled(onnx_frontend.load(path))


def _compiled(model: onnx.ModelProto) -> Verdict:
    samples = _samples(model)
    if samples is None:
        return Verdict("read", "no calibration samples of that size or type")
    image = pcmedge.compile(model, calibration=samples, name="hostile", buffer=None, reference=2)
    image.verify()
    inputs, expected = image.reference_set()
    if not _resolved(image):
        _answers(image, inputs)
        return Verdict("read", "weights of which 16 bits hold only the largest")
    found = _answers(image, inputs)
    if any(node.op_type in _CHOOSING for node in onnx.load_from_string(image.program()).graph.node):
        found, expected = _in_order(found), _in_order(expected)
    return _compared(found, expected, "the ideal chip and the float model")


def _in_order(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The values of each sample sorted: among equal scores (mutants saturate them) any order is right."""
    return {name: np.sort(value.reshape(len(value), -1), axis=1) for name, value in outputs.items()}


def _resolved(image: ChipImage) -> bool:
    """Whether 16 bits hold the weights: one that was made huge leaves nothing of the others of its layer.

    Nor can float32 hold what huge digital constants make of the activations.
    """
    program = onnx.load_from_string(image.program())
    digital = [numpy_helper.to_array(tensor) for tensor in program.graph.initializer]
    if any(each.dtype.kind == "f" and np.abs(each).max(initial=0) > 1e4 for each in digital):
        return False
    shares = [np.mean(np.abs(image.target(tile).astype(np.int32)) < _FINEST) for tile in image.tiles()]
    return max(shares) < 0.5 and all(scale.max() < 1e4 for scale in image.weight_scales().values())


def _samples(model: onnx.ModelProto) -> dict[str, Array] | None:
    constants = {tensor.name for tensor in model.graph.initializer}
    rng = np.random.default_rng(3)
    found: dict[str, Array] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        dims = [dim.dim_value or 3 for dim in kind.shape.dim[1:]]
        if value.name in constants:
            continue
        if not kind.shape.dim or math.prod(dims) > LARGEST_INPUT or min(dims, default=1) < 0:
            return None
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        if dtype.kind not in "fiub":
            return None
        drawn = rng.normal(size=(SAMPLES, *dims))
        low = 0 if dtype.kind in "ub" else -100
        found[value.name] = (drawn if dtype.kind == "f" else np.clip(40 * drawn, low, 100)).astype(dtype)
    return found or None


def _answers(image: ChipImage, inputs: Mapping[str, Array], engine: Any = FastEngine) -> dict[str, Array]:
    """What the emulated chip answers without noise and quantisation."""
    program = ChipProgram.from_image(image)
    conductances = {tile.tile: (image.target(tile) / 32767).astype(np.float32) for tile in image.tiles()}
    snapshot = Snapshot(conductances=conductances, converters="ideal")
    return dict(engine(program, snapshot).run(inputs, Parameters()))


def _compared(found: Mapping[str, Array], expected: Mapping[str, Array], what: str) -> Verdict:
    """Right where both say the same up to rounding; where float32 overflows, nobody can say."""
    for name, value in expected.items():
        one, other = np.asarray(found[name], np.float64), np.asarray(value, np.float64)
        if one.shape != other.shape:
            return Verdict("wrong", f"output {name!r}: {what} give shapes {one.shape} and {other.shape}")
        sound = np.isfinite(one) & np.isfinite(other) & (np.abs(other) < 1e30)
        if not sound.all() or not one.size:
            continue
        error = float(np.abs(one - other).max())
        if error > _TOLERANCE * max(float(np.abs(other).max()), 1e-6):
            return Verdict("wrong", f"output {name!r}: {what} differ by {error:.3g} of {np.abs(other).max():.3g}")
    return Verdict("right")


def _image(path: Path) -> Verdict:
    """An image that is accepted is whole, and both engines say the same of it."""
    image = ChipImage.open(path)
    image.verify()
    if image.manifest.calibration_buffer.kind:
        image.calibration_buffer()
    inputs, _ = image.reference_set()
    # A chip computes what its image says, also where someone changed what it says and sealed it again: the measure
    # is the definition, not the outputs that the image was made with.
    found = _answers(image, inputs)
    if not _resolved(image):
        return Verdict("read", "weights of which 16 bits hold only the largest")
    if any(np.abs(each.astype(np.float64)).max(initial=0) > 1e6 for each in inputs.values()):
        return Verdict("read", "reference inputs beyond what onnx's evaluator quantises")
    try:
        definition = _answers(image, inputs, ReferenceEngine)
    except (Error, MemoryError):
        raise
    except Exception as error:  # onnx's own evaluator, which does not know every operator well
        return Verdict("read", f"no definition to compare with: {type(error).__name__}")
    return _compared(found, definition, "the fast and the reference engine")


def _digital(path: Path) -> Verdict:
    """The file handed to LiteRT or ONNX Runtime; making the device runs its self-test's inputs once."""
    with pcmedge.DigitalDevice(path) as device:
        found = device.self_test()
    if found.passed:
        return Verdict("right")
    if b"Random" in path.read_bytes() or b"Bernoulli" in path.read_bytes() or b"Multinomial" in path.read_bytes():
        return Verdict("read", "it draws random numbers")
    return Verdict("wrong", f"self-test: {found}")


_JUDGES: dict[str, Callable[[Path], Verdict]] = {
    "tflite": _tflite, "onnx": _onnx, "pcmi": _image, "litert": _digital, "onnxruntime": _digital,
}  # fmt: skip
