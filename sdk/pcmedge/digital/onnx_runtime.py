"""An ONNX file on ONNX Runtime, as the file is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pcmedge._contract.image_pb2 import CallSignature, TensorSpec
from pcmedge.digital.runtime import Array, common_batch, in_batches, open_batch_axis, refused
from pcmedge.errors import CompileError, InputValueError, InternalError, MissingExtraError
from pcmedge.forks import kept_in_children
from pcmedge.image import bounds

_DATATYPES = {
    "float": "FP32",
    "float16": "FP16",
    "double": "FP64",
    "bool": "BOOL",
    **{f"{kind}int{bits}": f"{kind}int{bits}".upper() for kind in ("", "u") for bits in (8, 16, 32, 64)},
}


# A large file is one somebody trained; a small one that asks for a lot is not.
_INFERRED_BYTES = 16 * 2**20


class OnnxRuntime:
    """A loaded model on one CPU. Raises InputValueError for what is no model, MissingExtraError without a runtime."""

    signatures: Sequence[CallSignature] = ()

    def __init__(self, data: bytes, name: str, *, threads: int) -> None:
        try:
            import onnx  # noqa: F401  the checks need it
            import onnxruntime
        except ModuleNotFoundError as error:
            raise MissingExtraError.for_extra("emulator", "Running an ONNX model digitally") from error
        self.software = f"onnxruntime {onnxruntime.__version__}"
        graph = _checked(data, name)
        self._loops = bounds.has_loop(graph)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own classes, all directly under Exception
            raise refused(name, self.software, error) from error
        self._session: Any = kept_in_children(session)
        found = [_spec(value, "input") for value in self._session.get_inputs()]
        self.inputs = [spec for spec, _ in found]
        self.outputs = [_spec(value, "output")[0] for value in self._session.get_outputs()]
        self.batch = common_batch([batch for _, batch in found])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return in_batches(self.batch, inputs, self._run)

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        names = [spec.name for spec in self.outputs]
        try:
            return dict(zip(names, bounds.run(self._session, names, inputs, loops=self._loops), strict=True))
        except Exception as error:
            raise InternalError(f"{self.software} failed while computing: {error}") from error


def _checked(data: bytes, name: str) -> Any:
    """The graph, after what can be known before ONNX Runtime reads the file."""
    import onnx

    from pcmedge.frontends.onnx.reading import refuse_external_data, require_sound

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise InputValueError(f"'{name}' is neither a TFLite nor an ONNX model", argument="model") from error
    if not model.graph.input or not model.graph.output:
        raise InputValueError(f"'{name}' is no ONNX model: it has no inputs or no outputs", argument="model")
    refuse_external_data(model)
    try:
        require_sound(model)
    except CompileError as error:
        raise InputValueError(f"'{name}': {error.message}", argument="model") from error
    found = bounds.excess_inferred(model) if len(data) <= _INFERRED_BYTES else None
    if found is not None:
        raise InputValueError(f"'{name}' asks for too much: {found}", argument="model")
    return model.graph


def _spec(value: Any, side: str) -> tuple[TensorSpec, int | None]:
    datatype = _DATATYPES.get(value.type.removeprefix("tensor(").removesuffix(")"))
    if datatype is None:
        raise InputValueError(f"{side} '{value.name}' of the model is {value.type}; expected numbers", argument="model")
    shape = [size if isinstance(size, int) else -1 for size in value.shape]
    shape, batch = open_batch_axis(value.name, shape, side)
    return TensorSpec(name=value.name, datatype=datatype, shape=shape), batch
