"""TFLite's ``Interpreter`` with a PCM device doing the work."""

from __future__ import annotations

import difflib
import enum
import inspect
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

from numpy.typing import NDArray

from pcmedge._contract.image_pb2 import Manifest
from pcmedge.device.device import Device
from pcmedge.device.results import InferResult
from pcmedge.errors import DeviceStateError, InputShapeError, InputTypeError, InputValueError, UnimplementedError
from pcmedge.tflite.devices import open_device
from pcmedge.tflite.errors import also, raising
from pcmedge.tflite.images import Given
from pcmedge.tflite.signatures import SignatureRunner
from pcmedge.tflite.tensors import InterpreterTensor, of_index

Array = NDArray[Any]


class OpResolverType(enum.Enum):
    """TFLite's choice of kernels; a chip has its own, so it is accepted and changes nothing."""

    AUTO = 0
    BUILTIN = 1
    BUILTIN_REF = 2
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


def load_delegate(library: str, options: dict[Any, Any] | None = None) -> NoReturn:
    """There are no delegates here: the chip is the accelerator. UnimplementedError, also a ValueError as TFLite's."""
    problem = UnimplementedError(
        f"delegate {library!r} cannot be loaded: a PCM device runs the model itself. Leave the delegate out."
    )
    raise also(problem, ValueError)


class Interpreter:
    """Runs a model on a PCM device with the calls of TFLite's Interpreter.

    ``model_path`` or ``model_content``: a ``.tflite`` model, which is compiled for a chip, or a compiled ``.pcmi``
    image. ``num_threads``: of the emulator in this process. ``experimental_delegates``: refused unless empty.
    ``experimental_preserve_all_tensors``: refused if True, a chip gives no intermediate tensors. Other
    ``experimental_...``: accepted, without effect.

    ``calibration``: typical inputs, needed to compile a ``.tflite``; as in :func:`pcmedge.compile`. ``device``: a URL
    or a :class:`pcmedge.Device`; without one the device at $PCMEDGE_DEVICE, else an emulator in this process with
    ``physics`` and ``seed``. The image is programmed unless exactly it is there and active; a device that cannot be
    programmed (:func:`pcmedge.DigitalDevice`) runs what it holds. ``cache``: a folder that keeps compiled images; the
    last four are kept in memory in any case. ``compile_options``: of :func:`pcmedge.compile`, such as ``profile``.

    Errors are typed (:mod:`pcmedge.errors`) and also what TFLite raises: ValueError for a wrong model, index, dtype or
    shape, RuntimeError from ``allocate_tensors`` and ``invoke``.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        model_content: bytes | None = None,
        experimental_delegates: Sequence[Any] | None = None,
        num_threads: int | None = None,
        experimental_op_resolver_type: Any = OpResolverType.AUTO,
        experimental_preserve_all_tensors: bool = False,
        experimental_disable_delegate_clustering: bool = False,
        experimental_default_delegate_latest_features: bool = False,
        experimental_compress_quantization_zero_points: bool = False,
        experimental_disable_delegate_node_fusion: bool = False,
        experimental_force_delegate_node_profiling: bool = False,
        *,
        calibration: Any = None,
        device: str | Device | None = None,
        physics: str | None = None,
        seed: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        **compile_options: Any,
    ) -> None:
        _check_options(compile_options)
        with raising(ValueError):
            _check_arguments(experimental_delegates, num_threads, experimental_preserve_all_tensors)
            self.num_threads = num_threads
            given = Given(
                path=model_path, content=model_content, calibration=calibration, options=compile_options, cache=cache
            )
            opened = open_device(given, device, {"physics": physics, "seed": seed, "threads": num_threads})
            self._device, self._model = opened.device, opened.model
            # TFLite's interpreter has no close(): what was opened here ends with the last reference.
            self._finalizer = weakref.finalize(self, self._device.close) if opened.owned else None
            manifest = self._device.manifest(self._model)
        self._inputs, self._outputs = _tensors(manifest)
        self._all = [*self._inputs, *self._outputs]
        self._signatures = {signature.key: signature for signature in manifest.application.signatures}
        self._ready = False
        self._result: InferResult | None = None

    # ---- ours ----

    @property
    def device(self) -> Device:
        """The device underneath: ``interpreter.device.telemetry()``, ``.recalibrate()``, ``.lab.advance("1d")``."""
        return self._device

    @property
    def result(self) -> InferResult | None:
        """The last answer with its age, generations and latency; None before the first ``invoke``."""
        return self._result

    def close(self) -> None:
        """Ends the emulator or connection this interpreter opened; one that was handed in stays open."""
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- TFLite's ----

    def allocate_tensors(self) -> None:
        """Make the tensors' memory; outputs take the batch of the inputs. Also RuntimeError if those differ."""
        batches = sorted({tensor.shape[0] for tensor in self._inputs})
        with raising(RuntimeError):
            if len(batches) > 1:
                raise InputShapeError(
                    f"the inputs have batches of {batches}; resize all of them to the same", found=batches
                )
        for tensor in self._inputs:
            tensor.allocate()
        for tensor in self._outputs:
            tensor.allocate((batches[0], *tensor.shape[1:]))
        self._ready = True

    def get_input_details(self) -> list[dict[str, Any]]:
        """name, index, shape, shape_signature, dtype, quantization, quantization_parameters, sparsity_parameters.

        Indices count inputs from 0 and outputs after them. The first axis is the batch, -1 in ``shape_signature``.
        """
        return [tensor.details() for tensor in self._inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """As :meth:`get_input_details`, of the outputs."""
        return [tensor.details() for tensor in self._outputs]

    def get_tensor_details(self, subgraph_index: int = 0) -> list[dict[str, Any]]:
        """Of all tensors there are: the inputs and outputs. A chip shows no intermediate ones."""
        with raising(ValueError):
            _check_subgraph(subgraph_index)
        return [tensor.details() for tensor in self._all]

    def num_subgraphs(self) -> int:
        return 1

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Copy a value into an input; its dtype and shape must be those of the details."""
        with raising(ValueError):
            tensor = of_index(self._all, tensor_index)
            if not tensor.is_input:
                raise InputValueError(f"tensor '{tensor.name}' is an output; only inputs can be set")
            tensor.set(value)

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int], strict: bool = False) -> None:
        """Choose the batch (and other sizes the model leaves open); ``allocate_tensors()`` has to follow."""
        with raising(ValueError):
            tensor = of_index(self._all, input_index)
            if not tensor.is_input:
                raise InputValueError(f"tensor '{tensor.name}' is an output; only inputs can be resized")
            before = tensor.shape
            tensor.resize(tensor_size)
        self._ready = self._ready and tensor.shape == before

    def invoke(self) -> None:
        """Run the inputs through the device. Its errors are also RuntimeError."""
        with raising(RuntimeError):
            if not self._ready:
                raise DeviceStateError("the interpreter is not ready; call allocate_tensors() first")
            inputs = {tensor.name: tensor.to_device() for tensor in self._inputs}
            self._result = self._device.infer_detailed(inputs, model=self._model)
        for tensor in self._outputs:
            tensor.from_device(self._result.outputs[tensor.name])

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> Array:
        """A copy of an output (or input)."""
        with raising(ValueError):
            _check_subgraph(subgraph_index)
            return of_index(self._all, tensor_index).values.copy()

    def tensor(self, tensor_index: int) -> Callable[[], Array]:
        """A function that gives the tensor's own memory, to write inputs and read outputs without a copy."""
        with raising(ValueError):
            tensor = of_index(self._all, tensor_index)

        def view() -> Array:
            with raising(ValueError):
                return tensor.values.view()

        return view

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """Names of inputs and outputs by signature key; empty for a model without signatures."""
        return {
            key: {
                "inputs": [entry.name for entry in signature.inputs],
                "outputs": [entry.name for entry in signature.outputs],
            }
            for key, signature in self._signatures.items()
        }

    def get_signature_runner(self, signature_key: str | None = None) -> SignatureRunner:
        """A callable that takes and gives arrays by a signature's names; the only one's if no key is given."""
        with raising(ValueError):
            if signature_key is None and len(self._signatures) != 1:
                raise InputValueError(
                    f"the model has {len(self._signatures)} signatures; a key can be left out if it has exactly one",
                    argument="signature_key",
                )
            key = next(iter(self._signatures)) if signature_key is None else signature_key
            if key not in self._signatures:
                known = ", ".join(self._signatures) or "none"
                raise InputValueError(f"no signature {key!r}; the model has {known}", argument="signature_key")
        return SignatureRunner(self, self._signatures[key], {tensor.name: tensor for tensor in self._all})

    def reset_all_variables(self) -> None:
        """Nothing to do: programs on a chip keep no state between calls."""


def _check_options(options: Mapping[str, Any]) -> None:
    """InputTypeError, also a TypeError as Python's own, for an option that nothing here has."""
    if not options:
        return
    from pcmedge.compiler import compile

    compiling = [
        name for name in inspect.signature(compile).parameters if name not in ("model", "example_input", "calibration")
    ]
    for name in options:
        if name not in compiling:
            own = [each for each in inspect.signature(Interpreter).parameters if each != "compile_options"]
            nearest = difflib.get_close_matches(name, [*own, *compiling], n=1)
            meant = f" Did you mean {nearest[0]}?" if nearest else ""
            raise also(
                InputTypeError(
                    f"Interpreter has no option {name!r}.{meant} It takes {', '.join(own)}; and to compile a model "
                    f"{', '.join(compiling)}",
                    argument=name,
                ),
                TypeError,
            )


def _check_arguments(delegates: Sequence[Any] | None, num_threads: Any, preserve: bool) -> None:
    if delegates:
        raise UnimplementedError(
            "a PCM device runs the model itself, without delegates; leave experimental_delegates out"
        )
    if preserve:
        raise UnimplementedError(
            "a chip gives no intermediate tensors; leave experimental_preserve_all_tensors out, or profile the image "
            "with pcmedge profile"
        )
    if num_threads is None:
        return
    if not isinstance(num_threads, int) or isinstance(num_threads, bool):
        raise InputTypeError(f"num_threads is a whole number; found {num_threads!r}", argument="num_threads")
    if num_threads < 1:
        raise InputValueError(f"num_threads is at least 1; found {num_threads}", argument="num_threads")


def _check_subgraph(index: Any) -> None:
    if index != 0:
        raise InputValueError(f"the model has one subgraph, 0; found {index!r}", argument="subgraph_index")


def _tensors(manifest: Manifest) -> tuple[list[InterpreterTensor], list[InterpreterTensor]]:
    model = manifest.model
    inputs = [InterpreterTensor(index, spec, is_input=True) for index, spec in enumerate(model.inputs)]
    outputs = [
        InterpreterTensor(index, spec, is_input=False) for index, spec in enumerate(model.outputs, start=len(inputs))
    ]
    return inputs, outputs
