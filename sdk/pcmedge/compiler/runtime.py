"""ONNX Runtime as the compiler uses it: one thread and deterministic, so that equal inputs give equal images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnxruntime as ort

from pcmedge.errors import CompileError
from pcmedge.image import bounds

from .graph import Array, Graph, TensorType

# Bytes of intermediate tensors one run may return; the number of samples per run follows from it.
_RUN_BYTES = 96 * 2**20
_MAX_SAMPLES = 64


def session(model: onnx.ModelProto, weights: Mapping[str, Array] | None = None) -> Any:
    """An inference session; quantise/dequantise pairs are executed as written, never fused into integer kernels.

    ``weights``: the constants that the model only declares. They are not copied: keep them as long as the session.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if weights:
        values = [ort.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
    return ort.InferenceSession(
        model.SerializeToString(deterministic=True), options, providers=["CPUExecutionProvider"]
    )


def can_run(model: onnx.ModelProto, weights: Mapping[str, Array] | None = None) -> str | None:
    """None if ONNX Runtime accepts the model, else the first line of what it says; ``weights`` as for ``session``."""
    try:
        session(model, weights)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0] if lines else type(error).__name__
    return None


class FloatModel:
    """The digital float graph with chosen inner tensors made visible, run in bounded micro-batches."""

    def __init__(self, graph: Graph, tensors: Sequence[str]) -> None:
        self._inputs = set(graph.input_names)
        self.tensors = tuple(name for name in dict.fromkeys(tensors))
        self._fetched = tuple(name for name in self.tensors if name not in self._inputs)
        # Copies of the weights in every session cost more time than what most of the sessions compute.
        self._weights = graph.weights()
        model = graph.to_model(extra_outputs=self._fetched, declared=self._weights)
        self._loops = bounds.has_loop(model.graph)
        self._session = session(model, self._weights)
        self._micro_batch: int | None = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All chosen tensors for one batch."""
        try:
            values = bounds.run(self._session, self._fetched, inputs, loops=self._loops) if self._fetched else []
        except Exception as error:
            line = str(error).splitlines()[0]
            raise CompileError(
                f"The float model failed on {len(next(iter(inputs.values())))} samples of the calibration set: {line} "
                "Check that the batch axis is the first axis of every input (for an LSTM: batch_first=True) and that "
                "the model runs in ONNX Runtime with any batch size."
            ) from error
        found = dict(zip(self._fetched, values, strict=True))
        found.update({name: inputs[name] for name in self.tensors if name in self._inputs})
        return found

    def batches(self, inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        """The chosen tensors over a whole set, a micro-batch at a time."""
        samples = len(next(iter(inputs.values())))
        if self._micro_batch is None:
            one = self.run({name: value[:1] for name, value in inputs.items()})
            per_sample = sum(value.nbytes for value in one.values()) or 1
            self._micro_batch = max(1, min(_MAX_SAMPLES, _RUN_BYTES // per_sample))
        for start in range(0, samples, self._micro_batch):
            yield self.run({name: value[start : start + self._micro_batch] for name, value in inputs.items()})


def complete_types(graph: Graph, samples: Mapping[str, Array]) -> None:
    """Element type and rank of tensors that shape inference gave up on, from running one sample."""
    produced = [name for node in graph.nodes for name in node.output if name]
    unknown = [name for name in produced if not graph.type_of(name).element or graph.type_of(name).shape is None]
    if not unknown:
        return
    one = FloatModel(graph, unknown).run({name: value[:1] for name, value in samples.items()})
    for name, value in one.items():
        if hasattr(value, "dtype"):
            element = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            graph.types[name] = TensorType(element, (None,) * value.ndim)
    for output in graph.outputs:
        if output.name in one:
            kind = graph.types[output.name]
            output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind.element, kind.shape))
