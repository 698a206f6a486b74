"""GRPCInferenceService, the Open Inference Protocol v2: how inference is called. Messages in and out; no gRPC."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pcmedge._contract import inference_pb2
from pcmedge.errors import Error, InputError, ModelNotFoundError, UnimplementedError
from pcmedge.protocol import tensors
from pcmedge.protocol.dispatch import CallContext
from pcmedge.protocol.model_config import model_config
from pcmedge.protocol.status import to_stream_reply

from pcmedge_emulator.driver.interface import DeviceChip
from pcmedge_emulator.outcomes import InferOutcome, ModelInfo
from pcmedge_emulator.service.guard import typed
from pcmedge_emulator.service.scheduling import Caller, Scheduler, Submitted, samples_of
from pcmedge_emulator.service.statistics import InferenceStatistics
from pcmedge_emulator.service.streaming import one_by_one, read_ahead

EXTENSIONS = ("model_configuration", "model_repository", "statistics")
PLATFORM = "pcm_analog"
_SHARED_MEMORY = "shared_memory_region"
_CLASSIFICATION = "classification"


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request that was taken on: its samples, when it came, and how long reading its tensors took."""

    submitted: Submitted
    samples: int
    started_ns: int
    input_ns: int

    def leave(self) -> None:
        self.submitted.leave()


class InferenceHandlers:
    """One method per call of GRPCInferenceService; ``scheduler`` brings requests to the chip."""

    def __init__(self, chip: DeviceChip, scheduler: Scheduler, statistics: InferenceStatistics) -> None:
        self._chip = chip
        self._serial = chip.identity().serial
        self._scheduler = scheduler
        self._statistics = statistics

    # ------------------------------------------------------------------------------------------------ health, metadata

    def server_live(
        self, request: inference_pb2.ServerLiveRequest, context: CallContext
    ) -> inference_pb2.ServerLiveResponse:
        return inference_pb2.ServerLiveResponse(live=True)

    def server_ready(
        self, request: inference_pb2.ServerReadyRequest, context: CallContext
    ) -> inference_pb2.ServerReadyResponse:
        return inference_pb2.ServerReadyResponse(ready=any(model.active for model in self._chip.models()))

    def model_ready(
        self, request: inference_pb2.ModelReadyRequest, context: CallContext
    ) -> inference_pb2.ModelReadyResponse:
        ready = any(
            model.active and model.name == request.name and request.version in ("", str(model.program_generation))
            for model in self._chip.models()
        )
        return inference_pb2.ModelReadyResponse(ready=ready)

    def server_metadata(
        self, request: inference_pb2.ServerMetadataRequest, context: CallContext
    ) -> inference_pb2.ServerMetadataResponse:
        identity = self._chip.identity()
        return inference_pb2.ServerMetadataResponse(
            name=identity.product, version=identity.firmware_version, extensions=EXTENSIONS
        )

    def model_metadata(
        self, request: inference_pb2.ModelMetadataRequest, context: CallContext
    ) -> inference_pb2.ModelMetadataResponse:
        resident = self._model(request.name, request.version)
        model = self._chip.image(request.name).manifest.model
        reply = inference_pb2.ModelMetadataResponse(
            name=model.name,
            versions=[str(resident.program_generation)],
            platform=PLATFORM,
            properties={"pcm_model_version": str(model.version), "pcm_image_sha256": resident.image_sha256.hex()},
        )
        for spec in model.inputs:
            reply.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for spec in model.outputs:
            reply.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return reply

    def model_config(
        self, request: inference_pb2.ModelConfigRequest, context: CallContext
    ) -> inference_pb2.ModelConfigResponse:
        self._model(request.name, request.version)
        config = model_config(self._chip.image(request.name).manifest.model, PLATFORM)
        return inference_pb2.ModelConfigResponse(config=config)

    def _model(self, name: str, version: str) -> ModelInfo:
        """ModelNotFoundError for a name or a version (program generation, empty for any) that is not resident."""
        models = {model.name: model for model in self._chip.models()}
        if name not in models:
            known = ", ".join(sorted(models)) or "none"
            raise ModelNotFoundError(f"The device holds no model '{name}'; it holds {known}.", model=name)
        model = models[name]
        _check_version(name, version, model.program_generation)
        return model

    # ------------------------------------------------------------------------------------------------------- inference

    def model_infer(
        self, request: inference_pb2.ModelInferRequest, context: CallContext
    ) -> inference_pb2.ModelInferResponse:
        asked = self._ask(request, context)
        context.on_end(asked.leave)
        return self._answer(request, asked)

    def _ask(self, request: inference_pb2.ModelInferRequest, caller: Caller, *, patient: bool = False) -> _Asked:
        """Checks a request and submits it; ``patient``: a full queue is waited for."""
        started_ns = time.perf_counter_ns()
        with self._counting_failure(request, started_ns):
            _check_parameters(request)
            if request.model_version:
                self._model(request.model_name, request.model_version)
            if request.outputs:
                specs = self._chip.image(request.model_name).manifest.model.outputs
                _check_outputs(request, [spec.name for spec in specs])
            inputs = tensors.read_inputs(request)
            input_ns = time.perf_counter_ns() - started_ns
            submitted = self._scheduler.submit(request.model_name, inputs, caller, patient=patient)
        return _Asked(submitted, samples_of(inputs), started_ns, input_ns)

    def _answer(self, request: inference_pb2.ModelInferRequest, asked: _Asked) -> inference_pb2.ModelInferResponse:
        with self._counting_failure(request, asked.started_ns):
            answer = asked.submitted.result()
            computed_ns = time.perf_counter_ns()
            # Programmed again while the request waited, the model may be another one than was asked for.
            _check_version(request.model_name, request.model_version, answer.outcome.program_generation)
            reply = self._reply(request, answer.outcome)
        output_ns = time.perf_counter_ns() - computed_ns
        self._statistics.succeeded(
            request.model_name, asked.samples, asked.input_ns, answer.queue_ns, answer.infer_ns, output_ns
        )
        return reply

    @contextlib.contextmanager
    def _counting_failure(self, request: inference_pb2.ModelInferRequest, started_ns: int) -> Iterator[None]:
        try:
            yield
        except Error:
            # Counted for resident models only: names that clients make up must not grow a table.
            if any(model.name == request.model_name for model in self._chip.models()):
                self._statistics.failed(request.model_name, time.perf_counter_ns() - started_ns)
            raise

    def _reply(
        self, request: inference_pb2.ModelInferRequest, outcome: InferOutcome
    ) -> inference_pb2.ModelInferResponse:
        reply = inference_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=str(outcome.program_generation), id=request.id
        )
        reply.parameters["pcm_age_s"].double_param = outcome.age_s
        reply.parameters["pcm_program_generation"].int64_param = outcome.program_generation
        reply.parameters["pcm_statistics_generation"].int64_param = outcome.statistics_generation
        reply.parameters["pcm_noise"].bool_param = outcome.noise
        reply.parameters["pcm_device_serial"].string_param = self._serial
        outputs = dict(outcome.outputs)
        if request.outputs:
            _check_outputs(request, list(outputs))
            outputs = {tensor.name: outputs[tensor.name] for tensor in request.outputs}
        # Who sends typed contents may not read raw ones.
        tensors.add_outputs(reply, outputs, raw=bool(request.raw_input_contents))
        return reply

    def model_stream_infer(
        self, requests: Iterator[inference_pb2.ModelInferRequest], context: CallContext
    ) -> Iterator[inference_pb2.ModelStreamInferResponse]:
        def ask(request: inference_pb2.ModelInferRequest, caller: Caller) -> _Asked:
            # A stream that finds the queue full is read no further; gRPC's flow control then holds its sender.
            return self._ask(request, caller, patient=True)

        ahead = self._scheduler.ahead
        requests = iter(requests)
        for request, asked in (
            read_ahead(requests, context, ask, self._scheduler.wake, ahead)
            if ahead > 1
            else one_by_one(requests, context, ask)
        ):
            try:
                if isinstance(asked, Exception):
                    raise asked
                reply = self._answer(request, asked)
            except Exception as error:
                yield to_stream_reply(typed(error, "ModelStreamInfer"), request)
            else:
                yield inference_pb2.ModelStreamInferResponse(infer_response=reply)

    def model_statistics(
        self, request: inference_pb2.ModelStatisticsRequest, context: CallContext
    ) -> inference_pb2.ModelStatisticsResponse:
        models = [self._model(request.name, request.version)] if request.name else self._chip.models()
        return inference_pb2.ModelStatisticsResponse(
            model_stats=[self._statistics.message(model.name, str(model.program_generation)) for model in models]
        )

    # ------------------------------------------------------------------------------------------------------ repository

    def repository_index(
        self, request: inference_pb2.RepositoryIndexRequest, context: CallContext
    ) -> inference_pb2.RepositoryIndexResponse:
        reply = inference_pb2.RepositoryIndexResponse()
        for model in self._chip.models():
            if model.active or not request.ready:
                reply.models.add(
                    name=model.name,
                    version=str(model.program_generation),
                    state="READY" if model.active else "UNAVAILABLE",
                    reason="" if model.active else "deactivated",
                )
        return reply

    def repository_model_load(
        self, request: inference_pb2.RepositoryModelLoadRequest, context: CallContext
    ) -> inference_pb2.RepositoryModelLoadResponse:
        if request.parameters:
            raise InputError(
                "loading activates a resident image and takes no parameters; new images come through Program",
                parameters=",".join(sorted(request.parameters)),
            )
        self._chip.activate(request.model_name)
        return inference_pb2.RepositoryModelLoadResponse()

    def repository_model_unload(
        self, request: inference_pb2.RepositoryModelUnloadRequest, context: CallContext
    ) -> inference_pb2.RepositoryModelUnloadResponse:
        self._chip.deactivate(request.model_name)
        return inference_pb2.RepositoryModelUnloadResponse()


def _check_version(name: str, version: str, resident: int) -> None:
    if version not in ("", str(resident)):
        raise ModelNotFoundError(
            f"Model '{name}' is resident in version {resident} (its program generation), not {version!r}. Leave the "
            "version empty for the current one.",
            model=name,
            version=version,
            resident=resident,
        )


def _check_outputs(request: inference_pb2.ModelInferRequest, known: Sequence[str]) -> None:
    if unknown := [tensor.name for tensor in request.outputs if tensor.name not in known]:
        raise InputError(
            f"model {request.model_name!r} has outputs {', '.join(known)}; asked for {', '.join(unknown)}",
            model=request.model_name,
        )


def _check_parameters(request: inference_pb2.ModelInferRequest) -> None:
    """Extensions that change where tensors come from or go to must not be ignored silently."""
    tensors_with_parameters: tuple[Any, ...] = (*request.inputs, *request.outputs)
    for tensor in tensors_with_parameters:
        for extension in (_SHARED_MEMORY, _CLASSIFICATION):
            if extension in tensor.parameters:
                raise UnimplementedError(
                    f"tensor {tensor.name!r} asks for the extension '{extension}', which this device does not have; it "
                    f"offers {', '.join(EXTENSIONS)}",
                    tensor=tensor.name,
                    extension=extension,
                )
