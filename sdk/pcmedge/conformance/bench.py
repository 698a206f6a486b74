"""What checks work with: the device, the probe on it, and its answers as numbers."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pcmedge._contract import device_pb2, inference_pb2
from pcmedge.conformance import probe
from pcmedge.conformance.expecting import Broken, NotApplicable, expect, expect_equal
from pcmedge.conformance.wire import Refused, Wire
from pcmedge.protocol import tensors

SECOND = f"{probe.NAME}-2"
"""Name of a second model beside the probe."""

CHUNK_BYTES = 4096
"""Images go in several chunks, small as they are."""


@dataclass(frozen=True)
class Answer:
    """One reply to an inference. ``outputs``: float32 [samples, 4]."""

    outputs: probe.Floats
    age_s: float
    program_generation: int
    statistics_generation: int
    noise: bool
    serial: str
    version: str
    message: Any


class Bench:
    """One device under test. ``restart`` stops and starts it again and returns when it should be back.

    ``infer_token``: a token of the role infer, if the device asks for tokens.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        restart: Callable[[], None] | None,
        restart_wait_s: float,
        infer_token: str | None = None,
    ) -> None:
        self.wire = wire
        self.infer_token = infer_token
        self.identity = wire.call("GetIdentity", device_pb2.GetIdentityRequest())
        self.capabilities = frozenset(self.identity.capabilities)
        self._restart = restart
        self._restart_wait_s = restart_wait_s
        self._clean = False

    # ------------------------------------------------------------------------------------------------------- the probe

    def image(self, number: int = 1, name: str = probe.NAME, version: int | None = None) -> bytes:
        """A probe image for this chip."""
        geometry = self.wire.call("GetIdentity", device_pb2.GetIdentityRequest()).geometry
        return probe.image_for(geometry, number, name, version)

    def fresh(self) -> device_pb2.ResidentImage:
        """The first probe image, programmed just now, active, nothing recalibrated, alone of the suite's, no policy."""
        if self.resident(SECOND) is not None:
            self.erase(SECOND)
        result = self.program(self.image())
        self.manual()
        self._clean = True
        found: device_pb2.ResidentImage = result.image
        return found

    def ready(self) -> device_pb2.ResidentImage:
        """As :meth:`fresh`, for checks that change nothing: what an earlier one left is taken if nobody changed it."""
        found = self.resident(probe.NAME)
        return found if self._clean and found is not None and found.active else self.fresh()

    def used(self) -> None:
        """The probe is not as programming left it any more."""
        self._clean = False

    def manual(self) -> None:
        """No recalibration but those asked for."""
        if any(name.startswith(("policy.", "recalibrate.")) for name in self.capabilities):
            policy = device_pb2.RecalibrationPolicy(kind=device_pb2.POLICY_KIND_MANUAL)
            self.wire.call("SetRecalibrationPolicy", self.policy_request(policy))

    def clear(self) -> None:
        """Nothing of the suite's is left on the device."""
        for name in (SECOND, probe.NAME):
            if self.resident(name) is not None:
                self.erase(name)

    # --------------------------------------------------------------------------------------------- changes, in short

    def program(self, data: bytes, **header: Any) -> device_pb2.ProgramResult:
        """Programs an image; ``header``: fields of ProgramHeader. Refused, Broken if it does not end with a result."""
        self.used()
        updates = self.wire.stream("Program", program_requests(data, **header))
        if not updates or updates[-1].state != device_pb2.OPERATION_STATE_SUCCEEDED:
            raise Broken("the last update of Program to be SUCCEEDED", str(updates[-1:]) or "no update")
        result: device_pb2.ProgramResult = updates[-1].program
        return result

    def recalibrate(self, method: str = "DEFAULT", *, force: bool = False, **fields: Any) -> Any:
        """The RecalibrationResult."""
        self.used()
        request = self.recalibrate_request(method, force=force, **fields)
        return self.wire.stream("Recalibrate", request)[-1].recalibration

    @staticmethod
    def recalibrate_request(method: str = "DEFAULT", **fields: Any) -> device_pb2.RecalibrateRequest:
        fields.setdefault("mutation", mutation())
        fields.setdefault("model_name", probe.NAME)
        return device_pb2.RecalibrateRequest(method=f"RECALIBRATION_METHOD_{method}", **fields)

    @staticmethod
    def policy_request(policy: Any, **carried: Any) -> device_pb2.SetRecalibrationPolicyRequest:
        return device_pb2.SetRecalibrationPolicyRequest(
            mutation=mutation(**carried), model_name=probe.NAME, policy=policy
        )

    def rollback(self, **carried: Any) -> int:
        """The new statistics generation."""
        self.used()
        request = device_pb2.RollbackStatisticsRequest(mutation=mutation(**carried), model_name=probe.NAME)
        return int(self.wire.call("RollbackStatistics", request).statistics_generation)

    def set_active(self, active: bool, name: str = probe.NAME, **carried: Any) -> Any:
        self.used()
        kind = device_pb2.ActivateImageRequest if active else device_pb2.DeactivateImageRequest
        call = "ActivateImage" if active else "DeactivateImage"
        return self.wire.call(call, kind(mutation=mutation(**carried), model_name=name))

    def erase(self, name: str = probe.NAME, **carried: Any) -> int:
        """Tiles freed."""
        self.used()
        request = device_pb2.EraseImageRequest(mutation=mutation(**carried), model_name=name)
        return int(self.wire.call("EraseImage", request).freed_tiles)

    def buffer(self, samples: probe.Floats, *, append: bool = False, **carried: Any) -> Any:
        """Puts samples into the calibration buffer; its description."""
        self.used()
        call = "AppendCalibrationBuffer" if append else "ReplaceCalibrationBuffer"
        return self.wire.call(call, buffer_requests(samples, **carried))

    def described(self, name: str = probe.NAME) -> Any:
        request = device_pb2.DescribeCalibrationBufferRequest(model_name=name)
        return self.wire.call("DescribeCalibrationBuffer", request)

    def lease(self, duration_s: float = 0.0, **fields: Any) -> device_pb2.Lease:
        request = device_pb2.AcquireLeaseRequest(holder="conformance", duration_s=duration_s, **fields)
        found: device_pb2.Lease = self.wire.call("AcquireLease", request)
        return found

    def release(self, lease: device_pb2.Lease) -> None:
        self.wire.call("ReleaseLease", device_pb2.ReleaseLeaseRequest(lease_id=lease.lease_id))

    # ------------------------------------------------------------------------------------------------ what there is

    def residents(self) -> dict[str, device_pb2.ResidentImage]:
        reply = self.wire.call("ListImages", device_pb2.ListImagesRequest())
        return {image.model_name: image for image in reply.images}

    def resident(self, name: str = probe.NAME) -> device_pb2.ResidentImage | None:
        return self.residents().get(name)

    def must_be_resident(self, name: str = probe.NAME) -> device_pb2.ResidentImage:
        found = self.resident(name)
        expect(found is not None, f"the model {name!r} in ListImages", ", ".join(self.residents()) or "no image")
        assert found is not None
        return found

    def free_tiles(self) -> int:
        return int(self.wire.call("GetIdentity", device_pb2.GetIdentityRequest()).geometry.free_tiles)

    def infer(self, count: int = 4, name: str = probe.NAME, **fields: Any) -> Answer:
        """Answer to the first ``count`` samples."""
        return answer(self.wire.call("ModelInfer", infer_request(probe.samples(count), name, **fields)))

    def level(self, name: str = probe.NAME, number: int = 1) -> float:
        """How large the winning output is, over 16 samples of one brightness: the figure that statistics decide."""
        request = infer_request(np.tile(probe.samples(probe.CLASSES), (4, 1)), name)
        return level(answer(self.wire.call("ModelInfer", request)).outputs, number)

    def standing(self) -> tuple[Any, ...]:
        """What a call that was refused must leave as it was, answers included."""
        image = self.must_be_resident()
        found = self.infer(16)
        return (
            (image.image_sha256.hex(), image.active, image.program_generation, image.statistics_generation),
            (found.program_generation, found.statistics_generation, tuple(found.outputs.argmax(axis=1))),
            tuple(sorted(self.residents())),
            self.free_tiles(),
        )

    def unchanged(self, before: tuple[Any, ...], after_what: str) -> None:
        """Broken if :meth:`standing` is another now."""
        names = ("image, active and generations", "answer", "resident models", "free tiles")
        for name, was, now in zip(names, before, self.standing(), strict=True):
            expect_equal(f"{name} as before {after_what}:", was, now)

    # -------------------------------------------------------------------------------------------------- restarting

    @property
    def can_restart(self) -> bool:
        return self._restart is not None

    def restart(self) -> None:
        """The device stops and comes back. NotApplicable without a way to do so."""
        if self._restart is None:
            raise NotApplicable("no way to restart the device was given (--restart-cmd)")
        self._restart()
        self.wire.reconnect()
        ends_s = time.monotonic() + self._restart_wait_s
        while True:
            try:
                self.wire.call("GetIdentity", device_pb2.GetIdentityRequest(), timeout_s=5.0)
                return
            except Refused as refused:
                if refused.refusal.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or time.monotonic() > ends_s:
                    raise Broken(f"an answer within {self._restart_wait_s:g} s of the restart", str(refused)) from None
            time.sleep(0.1)


def mutation(request_id: str | None = None, **carried: Any) -> device_pb2.Mutation:
    """Fields of Mutation; None: an id of its own."""
    return device_pb2.Mutation(request_id=new_id() if request_id is None else request_id, **carried)


def new_id() -> str:
    return str(uuid.uuid4())


def program_requests(
    data: bytes,
    *,
    size: int | None = None,
    digest: bytes | None = None,
    end: bool = True,
    chunk_bytes: int = CHUNK_BYTES,
    carried: device_pb2.Mutation | None = None,
    **header: Any,
) -> Iterator[device_pb2.ProgramRequest]:
    """The stream of Program; ``size``, ``digest`` and ``end`` let it be wrong."""
    announced = len(data) if size is None else size
    first = device_pb2.ProgramHeader(mutation=carried or mutation(), image_size=announced, **header)
    yield device_pb2.ProgramRequest(header=first)
    for start in range(0, len(data), chunk_bytes):
        yield device_pb2.ProgramRequest(chunk=data[start : start + chunk_bytes])
    if end:
        found = hashlib.sha256(data).digest() if digest is None else digest
        yield device_pb2.ProgramRequest(end=device_pb2.ProgramEnd(image_sha256=found))


def buffer_requests(
    samples: probe.Floats | bytes, *statistics: Any, count: int | None = None, **carried: Any
) -> Iterable[device_pb2.CalibrationBufferRequest]:
    """The stream of a calibration buffer; ``statistics``: messages CalibrationStatistics."""
    header = device_pb2.CalibrationBufferHeader(mutation=mutation(**carried), model_name=probe.NAME)
    data = samples if isinstance(samples, bytes) else samples.tobytes()
    number = len(data) // (4 * probe.WIDTH) if count is None else count
    part = device_pb2.CalibrationSamples(count=number, inputs=[data])
    return iter(
        [
            device_pb2.CalibrationBufferRequest(header=header),
            device_pb2.CalibrationBufferRequest(samples=part),
            *(device_pb2.CalibrationBufferRequest(statistics=each) for each in statistics),
        ]
    )


def infer_request(
    inputs: np.ndarray[Any, Any], name: str = probe.NAME, *, version: str = "", request_id: str = "", raw: bool = True
) -> inference_pb2.ModelInferRequest:
    """A request for samples [n, 16]; typed contents unless ``raw``."""
    request = inference_pb2.ModelInferRequest(model_name=name, model_version=version, id=request_id)
    tensor = request.inputs.add(name=probe.INPUT, datatype="FP32", shape=inputs.shape)
    if raw:
        request.raw_input_contents.append(np.ascontiguousarray(inputs, "<f4").tobytes())
    else:
        tensor.contents.fp32_contents.extend(inputs.ravel().tolist())
    return request


def answer(reply: Any) -> Answer:
    """A reply as numbers. Broken if it is not one to a probe."""
    names = [output.name for output in reply.outputs]
    expect_equal("outputs", [probe.OUTPUT], names)
    values = tensors.read_outputs(reply)[probe.OUTPUT]
    parameters = reply.parameters
    return Answer(
        outputs=np.asarray(values, np.float32),
        age_s=parameters["pcm_age_s"].double_param if "pcm_age_s" in parameters else float("nan"),
        program_generation=_whole(parameters, "pcm_program_generation"),
        statistics_generation=_whole(parameters, "pcm_statistics_generation"),
        noise="pcm_noise" in parameters and parameters["pcm_noise"].bool_param,
        serial=parameters["pcm_device_serial"].string_param if "pcm_device_serial" in parameters else "",
        version=reply.model_version,
        message=reply,
    )


def _whole(parameters: Any, name: str) -> int:
    return parameters[name].int64_param if name in parameters else -1


def level(outputs: probe.Floats, number: int = 1) -> float:
    """Mean of the outputs that should win."""
    count = len(outputs)
    return float(outputs[np.arange(count), probe.classes(count, number)].mean())


def right(outputs: probe.Floats, number: int = 1) -> bool:
    """Whether at least 7 of 8 answers are those of image ``number``."""
    return bool((outputs.argmax(axis=1) == probe.classes(len(outputs), number)).mean() >= 0.875)
