"""The calls of the device contract that a digital device answers; the rest are refused by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from pcmedge._contract import device_pb2, inference_pb2
from pcmedge._contract.image_pb2 import Manifest
from pcmedge.device._inference import ModelSpec, check_samples
from pcmedge.device.results import Tensor
from pcmedge.digital.runtime import Array, Runtime
from pcmedge.digital.selftest import Reference
from pcmedge.errors import Error, InputError, InputValueError, ModelNotFoundError, UnavailableError, UnimplementedError
from pcmedge.protocol import tensors
from pcmedge.protocol.dispatch import CallContext
from pcmedge.protocol.limits import check_interval
from pcmedge.protocol.model_config import model_config
from pcmedge.protocol.services import METHODS
from pcmedge.protocol.status import limited, to_stream_reply
from pcmedge.protocol.version import CONTRACT_MINOR, CONTRACT_VERSION

CAPABILITIES: Final = ("images", "infer", "infer.stream", "self-test", "telemetry", "telemetry.watch")
TECHNOLOGY: Final = "digital"
_GENERATION: Final = 1
_GLANCE_S: Final = 0.2


class DigitalHandlers:
    """One method per call, over one model that is always there. Thread-safe: the runtime has one call at a time."""

    def __init__(self, runtime: Runtime, manifest: Manifest, *, sha256: bytes, size: int, reference: Reference) -> None:
        self._runtime = runtime
        self._manifest = manifest
        self._sha256 = sha256
        self._size = size
        self._reference = reference
        self._serial = f"digital-{sha256.hex()[:12]}"
        self._started_unix_s = time.time()
        self._started_s = time.monotonic()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._inferences = self._served = self._failed = 0
        self._spec = ModelSpec(
            name=manifest.model.name,
            inputs=tuple(_tensor(spec) for spec in manifest.model.inputs),
            outputs=tuple(_tensor(spec) for spec in manifest.model.outputs),
        )

    def call(self, name: str, request: Any, context: CallContext) -> Any:
        """Answer one call. UnimplementedError for those that need a chip."""
        handler = getattr(self, METHODS[name].handler, None)
        if handler is None:
            raise UnimplementedError(
                f"{name} needs a chip: this device computes '{self._spec.name}' digitally ({self._runtime.software}); "
                "it has no tiles, no drift and nothing to recalibrate. Use pcmedge.Emulator or connect to a chip.",
                call=name,
                technology=TECHNOLOGY,
            )
        return handler(request, context)

    def close(self) -> None:
        self._closing.set()

    # ---- what it is ----

    def get_identity(self, request: device_pb2.GetIdentityRequest, context: CallContext) -> device_pb2.Identity:
        return device_pb2.Identity(
            vendor="pcmedge",
            product="digital device",
            serial=self._serial,
            firmware_version=self._runtime.software,
            contract_version=CONTRACT_VERSION,
            contract_minor=CONTRACT_MINOR,
            technology=TECHNOLOGY,
            geometry=device_pb2.ChipGeometry(),
            capabilities=CAPABILITIES,
        )

    def list_images(self, request: device_pb2.ListImagesRequest, context: CallContext) -> device_pb2.ListImagesResponse:
        image = device_pb2.ResidentImage(
            model_name=self._spec.name,
            model_version=self._manifest.model.version,
            image_sha256=self._sha256,
            active=True,
            program_generation=_GENERATION,
            statistics_generation=_GENERATION,
            programmed_at_unix_s=self._started_unix_s,
            size_bytes=self._size,
        )
        manifests = [self._manifest.SerializeToString()] if request.include_manifests else []
        return device_pb2.ListImagesResponse(images=[image], manifests=manifests)

    # ---- inference ----

    def server_live(
        self, request: inference_pb2.ServerLiveRequest, context: CallContext
    ) -> inference_pb2.ServerLiveResponse:
        return inference_pb2.ServerLiveResponse(live=True)

    def server_ready(
        self, request: inference_pb2.ServerReadyRequest, context: CallContext
    ) -> inference_pb2.ServerReadyResponse:
        return inference_pb2.ServerReadyResponse(ready=True)

    def model_ready(
        self, request: inference_pb2.ModelReadyRequest, context: CallContext
    ) -> inference_pb2.ModelReadyResponse:
        return inference_pb2.ModelReadyResponse(ready=request.name == self._spec.name)

    def server_metadata(
        self, request: inference_pb2.ServerMetadataRequest, context: CallContext
    ) -> inference_pb2.ServerMetadataResponse:
        return inference_pb2.ServerMetadataResponse(name="digital device", version=self._runtime.software)

    def repository_index(
        self, request: inference_pb2.RepositoryIndexRequest, context: CallContext
    ) -> inference_pb2.RepositoryIndexResponse:
        reply = inference_pb2.RepositoryIndexResponse()
        reply.models.add(name=self._spec.name, version=str(_GENERATION), state="READY")
        return reply

    def model_metadata(
        self, request: inference_pb2.ModelMetadataRequest, context: CallContext
    ) -> inference_pb2.ModelMetadataResponse:
        self._check_model(request.name)
        reply = inference_pb2.ModelMetadataResponse(
            name=self._spec.name, versions=[str(_GENERATION)], platform=self._runtime.software
        )
        for spec in self._manifest.model.inputs:
            reply.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for spec in self._manifest.model.outputs:
            reply.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return reply

    def model_config(
        self, request: inference_pb2.ModelConfigRequest, context: CallContext
    ) -> inference_pb2.ModelConfigResponse:
        self._check_model(request.name)
        config = model_config(self._manifest.model, self._runtime.software)
        return inference_pb2.ModelConfigResponse(config=config)

    def model_infer(
        self, request: inference_pb2.ModelInferRequest, context: CallContext
    ) -> inference_pb2.ModelInferResponse:
        try:
            self._check_model(request.model_name)
            outputs = self._compute(tensors.read_inputs(request))
            wanted = [tensor.name for tensor in request.outputs] or list(outputs)
            if unknown := sorted(set(wanted) - set(outputs)):
                raise InputError(f"the model has outputs {', '.join(outputs)}; asked for {', '.join(unknown)}")
        except Error:
            with self._lock:
                self._failed += 1
            raise
        reply = inference_pb2.ModelInferResponse(
            model_name=self._spec.name, model_version=str(_GENERATION), id=request.id
        )
        reply.parameters["pcm_age_s"].double_param = 0.0
        reply.parameters["pcm_program_generation"].int64_param = _GENERATION
        reply.parameters["pcm_statistics_generation"].int64_param = _GENERATION
        reply.parameters["pcm_noise"].bool_param = False
        reply.parameters["pcm_device_serial"].string_param = self._serial
        named = {name: outputs[name] for name in wanted}
        tensors.add_outputs(reply, named, raw=bool(request.raw_input_contents) or not request.inputs)
        return reply

    def model_stream_infer(
        self, requests: Iterator[inference_pb2.ModelInferRequest], context: CallContext
    ) -> Iterator[inference_pb2.ModelStreamInferResponse]:
        for request in requests:
            try:
                reply = self.model_infer(request, context)
            except Error as error:
                yield to_stream_reply(limited(error), request)
            else:
                yield inference_pb2.ModelStreamInferResponse(infer_response=reply)

    def _compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        checked = check_samples(self._spec, inputs)
        for name, values in checked.items():
            # A runtime would compute with them; a chip refuses them, and whoever answers a call must not decide.
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise InputValueError(f"input {name!r}: expected finite values, found NaN or infinite ones", input=name)
        with self._lock:
            outputs = self._runtime.run({name: np.ascontiguousarray(value) for name, value in checked.items()})
            self._served += 1
            self._inferences += len(next(iter(checked.values())))
        return outputs

    def _check_model(self, name: str) -> None:
        if name != self._spec.name:
            raise ModelNotFoundError(f"The device holds no model '{name}'; it holds {self._spec.name}.", model=name)

    # ---- how it is doing ----

    def self_test(self, request: device_pb2.SelfTestRequest, context: CallContext) -> device_pb2.SelfTestResult:
        self._check_model(request.model_name)
        with self._lock:
            agreement, relative_error = self._reference.compare(self._runtime)
        return device_pb2.SelfTestResult(
            agreement=agreement,
            relative_error=relative_error,
            reference_inputs=self._reference.count,
            passed=agreement >= 1.0,
            threshold=1.0,
            program_generation=_GENERATION,
            statistics_generation=_GENERATION,
        )

    def get_telemetry(self, request: device_pb2.GetTelemetryRequest, context: CallContext) -> device_pb2.Telemetry:
        return self._telemetry(0)

    def watch_telemetry(
        self, request: device_pb2.WatchTelemetryRequest, context: CallContext
    ) -> Iterator[device_pb2.Telemetry]:
        check_interval(request.interval_s)
        interval_s = request.interval_s or 1.0
        sequence = 0
        while context.active():
            sequence += 1
            yield self._telemetry(sequence)
            due_s = time.monotonic() + interval_s
            while (left_s := due_s - time.monotonic()) > 0 and context.active():
                if self._closing.wait(min(left_s, _GLANCE_S)):
                    raise UnavailableError("this device was closed; make a new one", closed=True)

    def _telemetry(self, sequence: int) -> device_pb2.Telemetry:
        uptime_s = time.monotonic() - self._started_s
        model = device_pb2.ModelTelemetry(
            model_name=self._spec.name,
            program_generation=_GENERATION,
            statistics_generation=_GENERATION,
            inferences=self._inferences,
            last_recalibration_age_s=-1.0,
            last_agreement=-1.0,
            median_drift_factor=1.0,
        )
        return device_pb2.Telemetry(
            time_unix_s=time.time(),
            device_time_s=uptime_s,
            uptime_s=uptime_s,
            state="serving" if self._served else "idle",
            models=[model],
            requests_served=self._served,
            requests_failed=self._failed,
            sequence=sequence,
            health=device_pb2.HEALTH_STATE_READY,
        )


def _tensor(spec: Any) -> Tensor:
    return Tensor(name=spec.name, datatype=spec.datatype, shape=tuple(spec.shape))
