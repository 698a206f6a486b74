"""``torch.nn.Module`` → ONNX, with batch norm kept.

Both of torch's exporters fold batch norm into convolutions by default; the chip needs it apart (its statistics are
what is adapted after drift), so the export runs in evaluation mode with ``optimize=False``, and pcmedge folds constants
itself.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pcmedge.errors import CompileError, InputShapeError, InputTypeError, MissingExtraError

if TYPE_CHECKING:
    import onnx
    import torch

_OPSET = 21
_NOISY_LOGGERS = ("torch", "torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")


def load(model: torch.nn.Module, example_input: Any) -> onnx.ModelProto:
    """Export a module to a float ONNX model with a dynamic batch axis and batch norm intact.

    ``example_input``: a tensor or array for a module with one input, a tuple for several positional ones, a mapping
    for keyword arguments. The first axis of each is the batch axis; one sample is enough. The module is exported in
    evaluation mode; the training flag of every submodule is as before afterwards. Nothing else of it is touched.

    Outputs that come as a mapping of tensors keep its keys as names.

    Raises MissingExtraError without torch or onnxscript, InputShapeError or InputTypeError for an example that cannot
    be one, InputTypeError for float64 (the chip's digital side is float32), CompileError if torch cannot export the
    module.
    """
    torch = _import_torch()
    args, kwargs = _arguments(torch, model, example_input)
    _refuse_double(torch, model, (*args, *kwargs.values()))
    with _evaluation_mode(model), _quiet(), torch.no_grad():
        try:
            answers = model(*args, **kwargs)
        except Exception as error:
            shapes = ", ".join(f"{value.dtype} {list(value.shape)}" for value in (*args, *kwargs.values()))
            raise CompileError(
                f"the module itself fails on the example input ({shapes}): {_summary(error)}. Pass inputs of the shape "
                "and dtype it was made for.",
                model=type(model).__name__,
            ) from error
        try:
            program = torch.onnx.export(
                model,
                args,
                kwargs=kwargs or None,
                dynamo=True,
                optimize=False,
                dynamic_shapes=_dynamic_shapes(torch, model, args, kwargs),
                opset_version=_OPSET,
                output_names=_names(torch, answers, kwargs),
                verbose=False,
            )
        except Exception as error:
            raise CompileError(_explain(error), model=type(model).__name__) from error
    proto: onnx.ModelProto = program.model_proto
    return proto


def version() -> str:
    """Version of the torch that is installed, for the image's provenance."""
    return str(_import_torch().__version__)


def is_module(model: object) -> bool:
    """Whether an object is a torch module, found out without importing torch."""
    return any(kind.__module__.startswith("torch.nn.modules") for kind in type(model).__mro__)


def _import_torch() -> Any:
    try:
        importlib.import_module("onnxscript")
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("train", "Compiling a torch module") from error


def _arguments(torch: Any, model: Any, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if isinstance(example, Mapping):
        return (), {str(name): _tensor(torch, value, device) for name, value in example.items()}
    values = example if isinstance(example, (tuple, list)) else (example,)
    return tuple(_tensor(torch, value, device) for value in values), {}


def _refuse_double(torch: Any, model: Any, inputs: tuple[Any, ...]) -> None:
    doubles = [
        name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.dtype == torch.float64
    ]
    if doubles:
        raise InputTypeError(
            f"the module is float64 (first: '{doubles[0]}'); expected float32, the type of the chip's digital side. "
            "Pass model.float().",
            found="float64",
        )
    if any(value.dtype == torch.float64 for value in inputs):
        raise InputTypeError(
            "example_input is float64 (NumPy's default); expected float32. Pass x.float(), or x.astype(numpy.float32).",
            found="float64",
        )


def _names(torch: Any, answers: Any, inputs: Mapping[str, Any]) -> list[str] | None:
    """Names of the outputs, where the module gives them some that torch's exporter would lose."""
    plain = isinstance(answers, Mapping) and all(isinstance(value, torch.Tensor) for value in answers.values())
    names = list(answers) if plain else []
    usable = all(isinstance(name, str) and name.isidentifier() and name not in inputs for name in names)
    return names if names and usable else None


def _dynamic_shapes(torch: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A free batch axis for every input, nested as ``forward`` takes them: ``*inputs`` are one argument to torch."""
    free = {0: torch.export.Dim("batch", min=1)}
    signature = inspect.signature(model.forward)
    shapes: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        collected = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        shapes[name] = tuple(free for _ in value) if collected else free
    return shapes


def _tensor(torch: Any, value: Any, device: Any) -> Any:
    try:
        tensor = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputTypeError(
            f"example_input must be a tensor, an array, or a tuple or mapping of them; found {type(value).__name__}. "
            "Pass one example batch, for instance torch.zeros(1, 3, 32, 32).",
            found=type(value).__name__,
        ) from error
    if tensor.ndim == 0 or tensor.shape[0] == 0:
        raise InputShapeError(
            f"Every example input needs a batch axis with at least one sample as its first axis; found shape "
            f"{tuple(tensor.shape)}. Pass for instance x[:1].",
            found=tuple(tensor.shape),
        )
    # torch.export takes a dimension of size 1 for a constant; two equal samples keep the batch axis free.
    return torch.cat([tensor, tensor]) if tensor.shape[0] == 1 else tensor


@contextlib.contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    registration_level = registration.level
    try:
        for logger in (*loggers, registration):
            logger.setLevel(logging.CRITICAL)
        # Failed attempts print the whole traced graph; what matters of it is in the error.
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        registration.setLevel(registration_level)


def _summary(error: BaseException) -> str:
    """The first line of what went wrong in the first place."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__


def _explain(error: BaseException) -> str:
    return (
        f"torch could not export the module with a free batch axis: {_summary(error)} "
        "Check that torch.onnx.export(model, args, dynamo=True, dynamic_shapes=...) works on it: forward must not "
        "branch on values of tensors nor build shapes from a fixed batch size."
    )
