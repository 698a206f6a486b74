"""Devices that break rules 21 to 26, 29 and 31: inference, its queue and its statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pcmedge.protocol import tensors
from pcmedge_emulator.outcomes import InferOutcome, ModelInfo

from wrong_devices.firmware import NO_MUTATION, Call, Firmware, Mutation

# ---------------------------------------------------------------------------------------------------------------- names


class AnyVersion(Firmware, rules=("R21",)):
    """There is one version of a model on a chip, so the one asked for is not looked at."""

    def wire(self, call: Call) -> Any:
        if call.name == "ModelInfer":
            call.request.model_version = ""
        return call.go_on()


class VersionOfTheManifest(Firmware, rules=("R21",)):
    """Calls the version in the image's manifest the version of the model."""

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "ModelInfer":
            reply.model_version = str(self.image(call.request.model_name).version)
        return reply


class LoadParametersIgnored(Firmware, rules=("R21",)):
    """Loads a model and ignores what its parameters asked for."""

    def wire(self, call: Call) -> Any:
        if call.name == "RepositoryModelLoad":
            call.request.parameters.clear()
        return call.go_on()


class DeactivatedAnswers(Firmware, rules=("R21", "R14")):
    """Deactivating takes a model off the lists; its tiles go on answering who knows the name."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._inactive: set[str] = set()

    def activate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        self._inactive.discard(name)
        return super().activate(name, mutation=mutation)

    def deactivate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        outcome = super().deactivate(name, mutation=mutation)
        self._inactive.add(name)
        return outcome

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        if name not in self._inactive or self._state.resident(name).record.active:
            return super().infer(name, inputs)
        resident = self._state.resident(name)
        outputs = resident.engine.run(inputs, resident.parameters, noise_seed=1)
        return InferOutcome(
            outputs=outputs,
            age_s=resident.engine_age_s,
            program_generation=resident.record.program_generation,
            statistics_generation=resident.record.statistics_generation,
            noise=True,
        )


class UnloadDoesNothing(Firmware, rules=("R21",)):
    """Answers unload with OK, as a server may that manages its memory itself."""

    def wire(self, call: Call) -> Any:
        return call.method.response() if call.name == "RepositoryModelUnload" else call.go_on()


# -------------------------------------------------------------------------------------------------------------- replies


class _Replying(Firmware):
    """Replies to ModelInfer, and in its stream, pass :meth:`replied`."""

    def replied(self, reply: Any, request: Any) -> None:
        pass

    def wire(self, call: Call) -> Any:
        reply = call.go_on()
        if call.name == "ModelInfer":
            self.replied(reply, call.request)
        return reply


class TypedAnsweredRaw(_Replying, rules=("R22",)):
    """Always answers raw: that is faster."""

    def replied(self, reply: Any, request: Any) -> None:
        if not reply.raw_output_contents:
            arrays = tensors.read_outputs(reply)
            del reply.outputs[:]
            tensors.add_outputs(reply, arrays, raw=True)


class RawAnsweredTyped(_Replying, rules=("R22",)):
    """Always answers with typed contents: those are easier to read."""

    def replied(self, reply: Any, request: Any) -> None:
        arrays = tensors.read_outputs(reply)
        del reply.outputs[:], reply.raw_output_contents[:]
        tensors.add_outputs(reply, arrays, raw=False)


class SerialMissing(_Replying, rules=("R23",)):
    """Does not say in its replies who answered."""

    def replied(self, reply: Any, request: Any) -> None:
        del reply.parameters["pcm_device_serial"]


class GenerationsAsText(_Replying, rules=("R23",)):
    """Sends generations as strings, as 64-bit numbers are sent in JSON."""

    def replied(self, reply: Any, request: Any) -> None:
        for name in ("pcm_program_generation", "pcm_statistics_generation"):
            reply.parameters[name].string_param = str(reply.parameters[name].int64_param)


class NoParametersInStreams(Firmware, rules=("R23", "R24")):
    """Adds the parameters in the handler of the unary call; replies in a stream go without."""

    def wire(self, call: Call) -> Any:
        return self._bare(call) if call.name == "ModelStreamInfer" else call.go_on()

    def _bare(self, call: Call) -> Iterator[Any]:
        for reply in call.go_on():
            if not reply.error_message:
                reply.infer_response.parameters.clear()
            yield reply


# --------------------------------------------------------------------------------------------------------------- inputs


class _Forgiving(Firmware):
    """Inputs pass :meth:`made_fit` before the good device checks them."""

    def made_fit(self, values: Any, shape: Sequence[int]) -> Any:
        return values

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        resident = self._state.residents.get(name)
        if resident is not None:
            shapes = {spec.name: spec.shape[1:] for spec in resident.programmed.image.manifest.model.inputs}
            inputs = {k: self.made_fit(v, shapes[k]) if k in shapes else v for k, v in inputs.items()}
        return super().infer(name, inputs)


class NanBecomesZero(_Forgiving, rules=("R25",)):
    """The DAC's driver writes 0 for a number that is none."""

    def made_fit(self, values: Any, shape: Sequence[int]) -> Any:
        return np.where(np.isnan(values), np.zeros_like(values), values) if values.dtype.kind == "f" else values


class InfinityClipped(_Forgiving, rules=("R25",)):
    """Asks isnan() and clips everything else to the DAC's range, infinity among it."""

    def made_fit(self, values: Any, shape: Sequence[int]) -> Any:
        return np.clip(values, -1e9, 1e9).astype(values.dtype) if values.dtype.kind == "f" else values


class DoublesNarrowed(_Forgiving, rules=("R25",)):
    """Converts FP64 to the FP32 its model wants."""

    def made_fit(self, values: Any, shape: Sequence[int]) -> Any:
        return values.astype(np.float32) if values.dtype == np.float64 else values


class ReshapesSilently(_Forgiving, rules=("R25",)):
    """Gives an input of as many elements the shape it ought to have."""

    def made_fit(self, values: Any, shape: Sequence[int]) -> Any:
        elements = int(np.prod(shape))
        return values.reshape(-1, *shape) if values.size and values.size % elements == 0 else values


class EmptyBatchAnswered(Firmware, rules=("R25",)):
    """Answers no samples with no results."""

    def infer(self, name: str, inputs: Any) -> InferOutcome:
        if any(values.shape[:1] != (0,) for values in inputs.values()):
            return super().infer(name, inputs)
        shapes = {spec.name: spec.shape[1:] for spec in self.image(name).manifest.model.inputs}
        if any(values.shape[1:] != tuple(shapes.get(key, ())) for key, values in inputs.items()):
            return super().infer(name, inputs)
        one = super().infer(name, {k: np.zeros((1, *v.shape[1:]), v.dtype) for k, v in inputs.items()})
        return InferOutcome(
            outputs={key: values[:0] for key, values in one.outputs.items()},
            age_s=one.age_s,
            program_generation=one.program_generation,
            statistics_generation=one.statistics_generation,
            noise=one.noise,
        )


class SurplusBytesIgnored(Firmware, rules=("R25",)):
    """Reads as many raw bytes as the shape needs and leaves the rest."""

    def wire(self, call: Call) -> Any:
        if call.name == "ModelInfer":
            raw = list(call.request.raw_input_contents)
            for number, (tensor, data) in enumerate(zip(call.request.inputs, raw, strict=False)):
                needed = 4 * int(np.prod(tensor.shape, dtype=np.int64))
                if tensor.datatype == "FP32" and 0 < needed < len(data):
                    call.request.raw_input_contents[number] = data[:needed]
        return call.go_on()


class MissingBytesAreZero(Firmware, rules=("R25",)):
    """Fills raw contents that are too short with zeros."""

    def wire(self, call: Call) -> Any:
        if call.name == "ModelInfer":
            raw = list(call.request.raw_input_contents)
            for number, (tensor, data) in enumerate(zip(call.request.inputs, raw, strict=False)):
                needed = 4 * int(np.prod(tensor.shape, dtype=np.int64))
                if tensor.datatype == "FP32" and len(data) < needed < 1 << 20:
                    call.request.raw_input_contents[number] = data.ljust(needed, b"\0")
        return call.go_on()


class SharedMemoryIgnored(Firmware, rules=("R26",)):
    """Ignores where a client wants its tensors to come from and computes what else it finds."""

    def wire(self, call: Call) -> Any:
        if call.name == "ModelInfer":
            for tensor in call.request.inputs:
                tensor.parameters.clear()
        return call.go_on()


class ClassificationIgnored(Firmware, rules=("R26",)):
    """Ignores the classification extension: sends scores to a client that asked for classes."""

    def wire(self, call: Call) -> Any:
        if call.name == "ModelInfer":
            for tensor in call.request.outputs:
                tensor.parameters.clear()
        return call.go_on()
