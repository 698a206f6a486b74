"""Devices that break rules 20, 37 and 40 to 42: the buffer, what programming resets, policies, self-tests, tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pcmedge._contract import device_pb2
from pcmedge.errors import DeviceStateError, NotFoundError
from pcmedge.image import ChipImage
from pcmedge_emulator.calibration.policy import MANUAL, Policy
from pcmedge_emulator.engine import Parameters
from pcmedge_emulator.outcomes import BufferDescription, ProgramOutcome, SelfTestOutcome, TileReadout

from wrong_devices.firmware import Call, Firmware

# ----------------------------------------------------------------------------------------------------------- the buffer


class StatisticsOfAnyImage(Firmware, rules=("R20",)):
    """Does not ask which image statistics were measured on."""

    def replace_buffer(self, name: str, samples: Any, *, image_sha256: bytes = b"", **options: Any) -> Any:
        return super().replace_buffer(name, samples, image_sha256=b"", **options)


class NegativeVarianceClamped(Firmware, rules=("R20",)):
    """Takes a negative variance for rounding and makes it 0."""

    def replace_buffer(self, name: str, samples: Any, *, statistics: Any = None, **options: Any) -> BufferDescription:
        if statistics is not None:
            statistics = {node: (mean, np.maximum(variance, 0)) for node, (mean, variance) in statistics.items()}
        return super().replace_buffer(name, samples, statistics=statistics, **options)


class MissingNodesFilledIn(Firmware, rules=("R20",)):
    """Takes the image's statistics for nodes of which none were sent."""

    def replace_buffer(self, name: str, samples: Any, *, statistics: Any = None, **options: Any) -> BufferDescription:
        if statistics is not None and name in self._state.residents:
            norms = self._state.resident(name).programmed.program.statistics
            known = {node: (norm.mean, norm.var) for node, norm in norms.items()}
            statistics = {**known, **statistics}
        return super().replace_buffer(name, samples, statistics=statistics, **options)


class UnknownNodesSkipped(Firmware, rules=("R20",)):
    """Leaves out statistics of nodes the image does not have."""

    def replace_buffer(self, name: str, samples: Any, *, statistics: Any = None, **options: Any) -> BufferDescription:
        if statistics is not None and name in self._state.residents:
            norms = self._state.resident(name).programmed.program.statistics
            statistics = {node: found for node, found in statistics.items() if node in norms}
        return super().replace_buffer(name, samples, statistics=statistics, **options)


class PairedForever(Firmware, rules=("R20",)):
    """Goes on pairing with the statistics of the samples before, when samples come without any."""

    def replace_buffer(self, name: str, samples: Any, *, statistics: Any = None, **options: Any) -> BufferDescription:
        if statistics is None and name in self._state.residents:
            program = self._state.resident(name).programmed.program
            statistics = dict(program.reference_statistics) or None
        return super().replace_buffer(name, samples, statistics=statistics, **options)


class AppendsOntoNothing(Firmware, rules=("R20",)):
    """Appends samples with statistics to a buffer that has none, and drops the statistics."""

    def append_buffer(self, name: str, samples: Any, *, statistics: Any = None, **options: Any) -> BufferDescription:
        try:
            return super().append_buffer(name, samples, statistics=statistics, **options)
        except DeviceStateError:
            return super().append_buffer(name, samples, statistics=None, **options)


class BufferTakesAnything(Firmware, rules=("R20",)):
    """Makes numbers of a buffer finite that are not: nobody will notice one sample."""

    def replace_buffer(self, name: str, samples: Any, **options: Any) -> BufferDescription:
        return super().replace_buffer(name, {k: np.nan_to_num(v) for k, v in samples.items()}, **options)


# -------------------------------------------------------------------------------------------- right after programming


class _Inheriting(Firmware):
    """A newly programmed model starts with what :meth:`inherited` takes from a resident there was before."""

    def inherited(self, new: Any, before: Any) -> Any:
        return new

    def predecessor(self, image: ChipImage) -> Any:
        return self._state.residents.get(image.name)

    def program(self, image: ChipImage, **options: Any) -> ProgramOutcome:
        before = self.predecessor(image)
        outcome = super().program(image, **options)
        if before is not None:
            self._state.swap(image.name, lambda new: self.inherited(new, before))
        return outcome


class BufferSurvivesProgramming(_Inheriting, rules=("R37",)):
    """Keeps the application's buffer when the model is programmed again."""

    def inherited(self, new: Any, before: Any) -> Any:
        return replace(new, buffer=before.buffer)


class OneBufferForAll(_Inheriting, rules=("R37",)):
    """Has one memory for calibration buffers: what was sent for one model, the next one programmed has too."""

    def predecessor(self, image: ChipImage) -> Any:
        others = [r for name, r in self._state.residents.items() if name != image.name and r.buffer is not None]
        return others[-1] if others else None

    def inherited(self, new: Any, before: Any) -> Any:
        return replace(new, buffer=before.buffer)


class FactorsSurviveProgramming(_Inheriting, rules=("R37",)):
    """Starts a programmed model with the factors of the one before: the tiles were the same."""

    def inherited(self, new: Any, before: Any) -> Any:
        return replace(new, parameters=Parameters(drift_factors=before.parameters.drift_factors))


class RollbackSurvivesProgramming(_Inheriting, rules=("R36", "R37")):
    """A model that was just programmed can be rolled back, to statistics of the programming before."""

    def inherited(self, new: Any, before: Any) -> Any:
        return replace(new, previous=before.previous)


# ------------------------------------------------------------------------------------------------------------- policies


class PolicyClamped(Firmware, rules=("R40",)):
    """Brings impossible figures of a policy into their range."""

    def wire(self, call: Call) -> Any:
        if call.name == "SetRecalibrationPolicy":
            policy = call.request.policy
            policy.reads = min(policy.reads, 64)
            for figure in ("interval_s", "drift_threshold", "self_test_interval_s", "self_test_spacing_s"):
                setattr(policy, figure, max(getattr(policy, figure), 0.0))
            for figure in ("log_time_ratio", "self_test_ratio"):
                value = getattr(policy, figure)
                setattr(policy, figure, max(value, 1.01) if value else 0.0)
            policy.agreement_threshold = min(max(policy.agreement_threshold, 0.0), 1.0)
            policy.agreement_drop = min(max(policy.agreement_drop, 0.0), 1.0)
        return call.go_on()


class PolicyRounded(Firmware, rules=("R40",)):
    """Keeps the interval of a policy in whole minutes."""

    def wire(self, call: Call) -> Any:
        if call.name == "SetRecalibrationPolicy" and call.request.policy.interval_s > 0:
            policy = call.request.policy
            policy.interval_s = max(60.0, round(policy.interval_s / 60.0) * 60.0)
        return call.go_on()


class PolicyHalfSet(Firmware, rules=("R40",)):
    """Sets the kind of a policy before it looks at the figures, which it then refuses."""

    def wire(self, call: Call) -> Any:
        if call.name != "SetRecalibrationPolicy":
            return call.go_on()
        name, before = call.request.model_name, device_pb2.RecalibrationPolicy()
        before.CopyFrom(call.request.policy)
        try:
            return call.go_on()
        except Exception:
            if name in self._state.residents:
                kind = next((k for k in type(MANUAL.kind) if before.kind == _kind_number(k)), MANUAL.kind)
                self._state.swap(name, lambda now: replace(now, record=replace(now.record, policy=Policy(kind=kind))))
            raise


def _kind_number(kind: Any) -> int:
    return device_pb2.PolicyKind.Value("POLICY_KIND_" + str(kind.value).upper().replace("-", "_"))


class PolicyMethodLost(Firmware, rules=("R40",)):
    """Keeps kind and figures of a policy; its method is always the default."""

    def wire(self, call: Call) -> Any:
        if call.name == "SetRecalibrationPolicy":
            call.request.policy.method = device_pb2.RECALIBRATION_METHOD_DEFAULT
        return call.go_on()


# ----------------------------------------------------------------------------------------------------------- self-tests


class SelfTestOfImage(Firmware, rules=("R41",)):
    """Tests the tiles with the statistics of the image, as in the factory, not with those requests get."""

    def self_test(self, name: str) -> SelfTestOutcome:
        kept = self._state.resident(name).parameters
        self._state.swap(name, lambda now: replace(now, parameters=Parameters()))
        try:
            return super().self_test(name)
        finally:
            self._state.swap(name, lambda now: replace(now, parameters=kept))


class SelfTestAlwaysPasses(Firmware, rules=("R41",)):
    """Passes whatever agreement it found: the comparison was commented out for a demonstration."""

    def self_test(self, name: str) -> SelfTestOutcome:
        return replace(super().self_test(name), passed=True)


class SelfTestRemembered(Firmware, rules=("R41",)):
    """Tests a model once and tells that result from then on, until it is programmed again."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._found: dict[tuple[str, int], SelfTestOutcome] = {}

    def self_test(self, name: str) -> SelfTestOutcome:
        key = name, self._state.resident(name).record.program_generation
        if key not in self._found:
            self._found[key] = super().self_test(name)
        return self._found[key]


# ---------------------------------------------------------------------------------------------------------------- tiles


class BandsStartAtZero(Firmware, rules=("R42",)):
    """Sends a tile in bands of 8 rows; each says that it begins at row 0."""

    def wire(self, call: Call) -> Any:
        return self._bands(call) if call.name == "ReadTile" else call.go_on()

    def _bands(self, call: Call) -> Iterator[Any]:
        for whole in call.go_on():
            step = 4 * whole.columns
            for row in range(0, whole.rows, 8):
                band = device_pb2.TileReadout()
                band.CopyFrom(whole)
                band.first_row, band.rows = 0, min(8, whole.rows - row)
                for name in ("g_plus_microsiemens", "g_minus_microsiemens"):
                    setattr(band, name, getattr(whole, name)[row * step : (row + band.rows) * step])
                yield band


class ConductancesNormalised(Firmware, rules=("R2", "R42")):
    """Tells conductances as shares of the largest one."""

    def read_tile(self, name: str, tile: int) -> TileReadout:
        found = super().read_tile(name, tile)
        g_max = self.identity().geometry.g_max_microsiemens
        return replace(found, g_plus=found.g_plus / g_max, g_minus=found.g_minus / g_max)


class NetConductances(Firmware, rules=("R42",)):
    """Reads a pair at once: G+ has the difference of the two, G- is 0."""

    def read_tile(self, name: str, tile: int) -> TileReadout:
        found = super().read_tile(name, tile)
        return replace(found, g_plus=found.g_plus - found.g_minus, g_minus=np.zeros_like(found.g_minus))


class AnyTileReads(Firmware, rules=("R42",)):
    """Reads whatever tile it is asked for, whoever's it is; one nobody occupies is all zero."""

    def read_tile(self, name: str, tile: int) -> TileReadout:
        try:
            return super().read_tile(name, tile)
        except NotFoundError:
            if name not in self._state.residents:
                raise
            found = super().read_tile(name, self._state.resident(name).record.physical[0])
            nothing = np.zeros_like(found.g_plus)
            return replace(found, tile=tile, g_plus=nothing, g_minus=nothing)
