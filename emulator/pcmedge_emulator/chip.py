"""The emulated chip: what a PCM inference device is to whoever holds it in process.

:class:`Chip` is a face with one verb per line of the device contract. What changes lives in
:class:`pcmedge_emulator.state.State`; the verbs are functions on it in ``images.py``, ``inference.py``,
``recalibration.py``, ``buffers.py``, ``policies.py``, ``lab.py`` and ``observe.py``. The verbs of the lab contract are
inherited from :class:`~pcmedge_emulator.lab_verbs.LabVerbs`. docs/device.md tells what survives what.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any

from numpy.typing import NDArray
from pcmedge._contract.image_pb2 import ChipProfile
from pcmedge.image import ChipImage
from pcmedge.image.fault_rates import FaultRates
from pcmedge.image.signing import PublicKey

from pcmedge_emulator import buffers, diagnose, images, inference, observe, policies, recalibration, selftest
from pcmedge_emulator.arguments import folder, one_of, whole
from pcmedge_emulator.born import FaultLike, described
from pcmedge_emulator.calibration.adabs import MOST_READS
from pcmedge_emulator.calibration.policy import DEFAULT_POLICY, Policy
from pcmedge_emulator.capabilities import CAPABILITIES, TURBO_CAPABILITY
from pcmedge_emulator.circuits import circuits_of
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.engine import Precision
from pcmedge_emulator.engine.native import library as native
from pcmedge_emulator.identity import device_as_asked, own_technology
from pcmedge_emulator.journal import DEFAULT_BOUNDS, JournalBounds
from pcmedge_emulator.lab_verbs import LabVerbs
from pcmedge_emulator.maintenance import Maintenance
from pcmedge_emulator.operations import Cancelled, Operations, Progress, never, no_progress
from pcmedge_emulator.outcomes import (
    NO_MUTATION,
    BufferDescription,
    CheckedRequest,
    Diagnosis,
    EraseOutcome,
    Event,
    Identity,
    InferOutcome,
    Lease,
    Method,
    ModelInfo,
    Mutation,
    ProgramAndVerify,
    ProgramOutcome,
    RecalibrationOutcome,
    RollbackOutcome,
    SelfTestOutcome,
    SnapshotInfo,
    Telemetry,
    TileReadout,
)
from pcmedge_emulator.physics.technology import Technology, get_technology
from pcmedge_emulator.recalibration import Asked
from pcmedge_emulator.state import State
from pcmedge_emulator.store import Store
from pcmedge_emulator.trust import Trust


class Chip(LabVerbs):
    """An emulated PCM inference chip. Thread-safe; a context manager. Every verb raises only :mod:`pcmedge.errors`.

    A device is what its store holds: ``technology``, ``serial`` and ``seed`` left at None are those of the store, or
    ``pcm-90nm``, ``emulator-0`` and 0 for a new device; others than the stored ones are refused (StoreError). A
    ``technology`` of your own is a Technology, given again whenever its store is opened: a store keeps the name alone.

    * ``profile``: the chip's geometry and circuits (a name or ChipProfile); None adopts the first image's.
    * ``clock``: None goes on with the stored mode, or real. A clock that is given keeps its mode; its time is the
      stored one.
    * ``store``: a directory (raises StoreInUseError, StoreUnwritableError, StoreCorruptError), or None for memory.
    * ``converters``: "ideal" computes without DAC and ADC. ``read_noise``: noise of each matrix-vector product.
    * ``engine``: "fast", or "reference", the definition. ``precision``: arithmetic of the fast one's products, "exact"
      (float32) or "turbo" (int8 where read_noise is "off"; docs/engine.md). ``threads``: of one inference; None takes
      half of the processors, at most 8.
    * ``default_policy``: of a freshly programmed image. ``same_read``: recalibration sees inference's own read noise
      (for studies of what that would gain; never the default).
    * ``journal``: how many events are kept.
    * ``faults``: what a new chip comes with: a list of faults, or rates, from which serial and seed draw them. None:
      what its profile expects (nothing for the technology "ideal"). A store keeps what was said; something else is
      refused.
    * ``signatures``: of images, "off", "warn" or "require"; ``trusted_keys``: public keys, or their PEM files.
      ``refuse_rollback``: refuse versions lower than the highest held of a model; None: with "require" only. With
      "require" a resident model of no trusted signer is deactivated (docs/security.md).

    >>> with Chip(clock=Clock.manual(), seed=7) as chip:
    ...     chip.program(image)
    ...     chip.advance(86400.0)
    ...     chip.infer(image.name, {"input": pictures}).outputs
    """

    def __init__(
        self,
        *,
        profile: ChipProfile | str | None = None,
        technology: str | Technology | None = None,
        serial: str | None = None,
        seed: int | None = None,
        clock: Clock | None = None,
        store: str | PathLike[str] | None = None,
        engine: str = "fast",
        converters: str = "profile",
        read_noise: str = "additive",
        precision: str = "exact",
        threads: int | None = None,
        default_policy: Policy = DEFAULT_POLICY,
        same_read: bool = False,
        store_max_bytes: int | None = None,
        journal: JournalBounds = DEFAULT_BOUNDS,
        faults: FaultRates | Sequence[FaultLike] | None = None,
        signatures: str = "off",
        trusted_keys: Sequence[str | PathLike[str] | PublicKey] = (),
        refuse_rollback: bool | None = None,
    ) -> None:
        circuits = circuits_of(
            engine=engine, converters=converters, read_noise=read_noise, precision=precision, threads=threads
        )
        own = own_technology(technology)
        identity = device_as_asked(
            technology=technology, serial=serial, seed=seed, profile=profile, comes_with=described(faults)
        )
        self._trust = Trust.of(signatures, trusted_keys, refuse_rollback)
        self._process = os.getpid()
        self._default_policy = default_policy
        opened = Store(None if store is None else folder("store", store), max_bytes=store_max_bytes)
        try:
            native.state()  # what has to be compiled is there before the first model, as a rule
            state = State(
                store=opened,
                clock=Clock.real() if clock is None else clock,
                keep_clock_mode=clock is not None,
                identity=identity,
                circuits=lambda device: circuits(own or get_technology(device.technology)),
                same_read=same_read,
                journal=journal,
            )
            images.deactivate_untrusted(state, self._trust)
        except BaseException:
            opened.close()
            raise
        super().__init__(state)
        self._maintenance = Maintenance(state)
        self._maintenance.start()

    def __enter__(self) -> Chip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancels running operations and gives the store up. State that was committed is on disk already.

        In a forked child it does nothing: the chip is the parent's.
        """
        if os.getpid() != self._process:
            return
        self._maintenance.stop()
        self._state.close()

    @property
    def operations(self) -> Operations:
        return self._state.operations

    @property
    def default_policy(self) -> Policy:
        return self._default_policy

    @property
    def precision(self) -> Precision:
        """Arithmetic of the products."""
        return self._state.circuits.precision

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the chip offers, without the lab: names of docs/device-contract.md."""
        return CAPABILITIES + ((TURBO_CAPABILITY,) if self.precision == "turbo" else ())

    @property
    def retired_tiles(self) -> tuple[int, ...]:
        """Physical tiles that a diagnosis found unfit to be programmed again."""
        return self._state.device.retired

    def identity(self) -> Identity:
        return observe.identity(self._state)

    # ------------------------------------------------------------------------------------------------------------ lease

    def acquire_lease(self, holder: str, duration_s: float = 0.0, request_id: str = "") -> Lease:
        """The exclusive right to program, erase, activate and restore. LeaseHeldError while somebody has it."""
        return self._state.leases.acquire(holder, duration_s, request_id)

    def renew_lease(self, lease_id: str, duration_s: float = 0.0) -> Lease:
        return self._state.leases.renew(lease_id, duration_s)

    def release_lease(self, lease_id: str) -> None:
        self._state.leases.release(lease_id)

    # ----------------------------------------------------------------------------------------------------------- images

    def program(
        self,
        image: ChipImage,
        *,
        replace: bool = False,
        use_retired: bool = False,
        activate: bool = True,
        program_and_verify: ProgramAndVerify | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> ProgramOutcome:
        """Verifies an image and programs it; until it is done, what was active answers, and a failure changes nothing.

        A resident image of the same name is replaced. If there are not enough free tiles beside it, ``replace`` allows
        programming over it, or over all residents if that is not enough; they do not answer meanwhile
        (UnavailableError), and the outcome says for how long. Right after programming factors are 1 and statistics
        those of the image.

        Tiles that a diagnosis retired are left alone, unless ``use_retired``.

        Raises ImageCorruptError, ImageProfileError, ImageTooLargeError, CapacityError, LeaseHeldError,
        GenerationMismatchError, CancelledError, StoreUnwritableError, ImageTrustError. ``progress(phase, done,
        total)`` is called for "verify", each tile of "program", and "store".
        """
        return self._state.once(
            mutation,
            "program",
            ProgramOutcome,
            lambda: images.program(
                self._state,
                image,
                replace_residents=replace,
                use_retired=use_retired,
                activate=activate,
                program_and_verify=program_and_verify,
                policy=self._default_policy,
                trust=self._trust,
                progress=progress or no_progress,
                cancelled=cancelled or never,
                mutation=mutation,
            ),
        )

    def check_program(self, size: int, *, mutation: Mutation = NO_MUTATION) -> None:
        """Raises what :meth:`program` of an image of ``size`` bytes would, as far as that is known before its bytes.

        LeaseHeldError, GenerationMismatchError, StoreUnwritableError (larger than the store may grow), InputValueError
        (request id of another verb). Says nothing about a repeated request id, whose call gets the first answer.
        """
        images.check_program(self._state, size, mutation)

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(images.info(self._state, resident) for resident in self._state.residents.values())

    def image(self, name: str) -> ChipImage:
        """The image a resident model was programmed with."""
        return self._state.resident(name).programmed.image

    def activate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        return self._state.once(
            mutation, "activate", ModelInfo, lambda: images.set_active(self._state, name, True, self._trust, mutation)
        )

    def deactivate(self, name: str, *, mutation: Mutation = NO_MUTATION) -> ModelInfo:
        """The model stays on its tiles and ages, but answers no more."""
        return self._state.once(
            mutation,
            "deactivate",
            ModelInfo,
            lambda: images.set_active(self._state, name, False, self._trust, mutation),
        )

    def erase(self, name: str, *, mutation: Mutation = NO_MUTATION) -> EraseOutcome:
        return self._state.once(mutation, "erase", EraseOutcome, lambda: images.erase(self._state, name, mutation))

    def infer(self, name: str, inputs: Mapping[str, NDArray[Any]]) -> InferOutcome:
        """Runs a batch (axis 0) and says at which age and generations.

        Raises ModelNotFoundError, NotProgrammedError (empty device, inactive model), InputShapeError, InputTypeError,
        InputValueError, UnavailableError (being programmed over). Never waits for a mutation.
        """
        return inference.infer(self._state, name, inputs)

    def check_inference(self, name: str, inputs: Mapping[str, NDArray[Any]]) -> CheckedRequest:
        """A request for :meth:`infer_together`. Raises what :meth:`infer` would before it computes."""
        return inference.check(self._state, name, inputs)

    def infer_together(self, requests: Sequence[CheckedRequest]) -> tuple[InferOutcome, ...]:
        """Runs requests of one kind as one batch; their outcomes in order, all of one age and pair of generations.

        The run takes one number of the read noise's for all of them. If it fails, nobody is answered and no request
        counts as failed: ask for each alone, which then raises what :meth:`infer` raises. GenerationMismatchError if
        the model was programmed again since they were checked (one alone is checked anew), and the errors of
        :meth:`infer`.
        """
        return inference.infer_together(self._state, requests)

    def restore(self, name: str, *, mutation: Mutation = NO_MUTATION) -> SnapshotInfo:
        """As :meth:`LabVerbs.restore`; what the policy on signatures refuses comes back inactive."""
        restored = super().restore(name, mutation=mutation)
        images.deactivate_untrusted(self._state, self._trust)
        return restored

    # ---------------------------------------------------------------------------------------------------- compensation

    def recalibrate(
        self,
        name: str,
        method: Method | str = Method.DEFAULT,
        *,
        batches: int = 0,
        batch_size: int = 0,
        reads: int = 0,
        gdc_everywhere: bool = False,
        force: bool = False,
        compare: bool = True,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> RecalibrationOutcome:
        """Measures drift and compensates it digitally, beside serving.

        The guard may refuse; then the outcome has ``committed`` False and the reason, everything is as before, and
        the journal says so. ``force`` asks no guard (numbers that are not finite are refused still), and without
        ``compare`` it does not measure agreement with the reference outputs either, which takes its time. ``batches``
        and ``batch_size`` are AdaBS's n and m. ``reads``: reads of the chip that statistics are averaged over (0: the
        method's default, 8 for paired ones). Raises CancelledError, GenerationMismatchError, StoreUnwritableError.
        """
        asked = Asked(
            method=one_of("method", method, tuple(Method)),
            cause="request",
            batches=batches,
            batch_size=batch_size,
            reads=whole("reads", reads, 0, MOST_READS),
            gdc_everywhere=gdc_everywhere,
            force=force,
            compare=compare,
            progress=progress or no_progress,
            cancelled=cancelled or never,
        )
        return self._state.once(
            mutation,
            "recalibrate",
            RecalibrationOutcome,
            lambda: recalibration.recalibrate(self._state, name, asked, mutation),
        )

    def rollback(self, name: str, *, mutation: Mutation = NO_MUTATION) -> RollbackOutcome:
        """Factors and statistics of before the last committed recalibration, under a new generation number.

        DeviceStateError if there was none. Doing it twice undoes it.
        """
        return self._state.once(
            mutation, "rollback", RollbackOutcome, lambda: recalibration.rollback(self._state, name, mutation)
        )

    def policy(self, name: str) -> tuple[Policy, float]:
        """The policy, and device seconds until it next acts (negative: never)."""
        resident = self._state.resident(name)
        return resident.record.policy, policies.next_in_s(self._state, resident)

    def set_policy(self, name: str, policy: Policy, *, mutation: Mutation = NO_MUTATION) -> tuple[Policy, float]:
        self._state.once(
            mutation, "set-policy", Policy, lambda: policies.set_policy(self._state, name, policy, mutation)
        )
        return self.policy(name)

    def replace_buffer(
        self,
        name: str,
        samples: Mapping[str, NDArray[Any]],
        *,
        statistics: buffers.Statistics | None = None,
        image_sha256: bytes = b"",
        mutation: Mutation = NO_MUTATION,
    ) -> BufferDescription:
        """Puts the application's samples (input name -> [samples, ...]) in place of the image's buffer.

        ``statistics``: the digital mean and population variance, float32 [C], of every batch norm's input over exactly
        these samples; with them recalibration stays paired. ``image_sha256``: the image they were measured on, checked
        unless it is empty. Raises the input errors of an inference, InputShapeError and InputValueError for statistics
        that cannot be this model's.
        """
        return self._state.once(
            mutation,
            "replace-buffer",
            BufferDescription,
            lambda: buffers.set_buffer(self._state, name, samples, False, mutation, statistics, image_sha256),
        )

    def append_buffer(
        self,
        name: str,
        samples: Mapping[str, NDArray[Any]],
        *,
        statistics: buffers.Statistics | None = None,
        image_sha256: bytes = b"",
        mutation: Mutation = NO_MUTATION,
    ) -> BufferDescription:
        """Adds samples to the buffer at hand, which is the application's from then on.

        ``statistics`` are those of the samples added; they are combined with those of the buffer (DeviceStateError if
        it has none). Without them the whole has none afterwards. Otherwise as :meth:`replace_buffer`.
        """
        return self._state.once(
            mutation,
            "append-buffer",
            BufferDescription,
            lambda: buffers.set_buffer(self._state, name, samples, True, mutation, statistics, image_sha256),
        )

    def describe_buffer(self, name: str) -> BufferDescription:
        return buffers.describe_buffer(self._state.resident(name))

    def self_test(self, name: str) -> SelfTestOutcome:
        """Agreement of what requests get now with the image's reference outputs. DeviceStateError if it has none."""
        return selftest.self_test(self._state, name)

    # ---------------------------------------------------------------------------------------------------- what goes on

    def telemetry(self, *, include_tiles: bool = False, include_self_tests: bool = False) -> Telemetry:
        """``include_self_tests``: the history of agreement since programming, the newest 256 of it."""
        return observe.telemetry(self._state, include_tiles=include_tiles, include_self_tests=include_self_tests)

    def events(self, after: int = 0, limit: int = 0) -> tuple[Event, ...]:
        """At most ``limit`` (0: 1000) events with a larger sequence number, oldest first.

        The first one's ``lost_before`` says how many after ``after`` are no longer kept.
        """
        return self._state.journal.after(after, limit)

    def wait_events(self, after: int, timeout_s: float) -> tuple[Event, ...]:
        """As :meth:`events`, but waits for one; empty after the timeout and when the chip is closed."""
        return self._state.journal.wait(after, timeout_s)

    def read_tile(self, name: str, tile: int) -> TileReadout:
        """Conductances of a physical tile at this moment. NotFoundError if the model does not occupy it."""
        return observe.read_tile(self._state, name, tile)

    def diagnose(
        self,
        name: str,
        *,
        false_alarm_rate: float = 0.0,
        tolerated_cells: float | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        mutation: Mutation = NO_MUTATION,
    ) -> Diagnosis:
        """Reads every cell of a model alone and compares with what healthy tiles give at this age.

        A chip without faults has any finding with probability ``false_alarm_rate`` at most (0: 0.001). Tiles with a
        faulty row, column or converter, or more than the share ``tolerated_cells`` of faulty cells (None: 0.0005), are
        retired: the next programming takes others. One that was retired and is found healthy is taken back. Cancelled,
        it retires none. ``progress(phase, done, total)`` is called for each tile of "diagnose".
        Raises InputValueError, CancelledError, GenerationMismatchError.
        """
        return self._state.once(
            mutation,
            "diagnose",
            Diagnosis,
            lambda: diagnose.diagnose(
                self._state,
                name,
                false_alarm_rate,
                tolerated_cells,
                progress or no_progress,
                cancelled or never,
                mutation,
            ),
        )
