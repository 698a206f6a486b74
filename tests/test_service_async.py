"""AsyncDevice: the same scripts, awaited, over gRPC and in process."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
import pytest
from cli_process import PATIENCE_S
from pcmedge.device import AsyncDevice, AsyncLab, Device, Lab, Policy
from pcmedge.device.transport import AsyncLocalTransport, LocalTransport
from pcmedge.errors import InputShapeError, ModelNotFoundError, UnavailableError
from pcmedge_emulator.chip import Chip
from pcmedge_emulator.clock import Clock
from pcmedge_emulator.service.handlers import Handlers
from service_devices import served, server_process
from service_models import classifier, large, pictures

Talk = Callable[[AsyncDevice], Coroutine[Any, Any, None]]


@pytest.fixture(params=["grpc", "in process"])
def over(request: pytest.FixtureRequest) -> Iterator[Callable[[Talk], None]]:
    """Runs a conversation with a device that has the classifier on it."""
    with contextlib.ExitStack() as stack:
        if request.param == "grpc":
            server = stack.enter_context(served(classifier(), read_noise="off"))

            async def made() -> AsyncDevice:
                return await pcmedge.connect_async(server.address)
        else:
            chip = stack.enter_context(Chip(clock=Clock.manual(), read_noise="off"))
            chip.program(classifier())

            async def made() -> AsyncDevice:
                return AsyncDevice(AsyncLocalTransport(LocalTransport(Handlers(chip, lab=True))))

        def run(talk: Talk) -> None:
            async def main() -> None:
                async with await made() as device:
                    await device.set_policy(Policy(kind="manual"))
                    await talk(device)

            asyncio.run(main())

        yield run


def test_it_offers_what_device_offers_with_the_same_arguments() -> None:
    for blocking, awaiting in ((Device, AsyncDevice), (Lab, AsyncLab)):
        names = {name for name in vars(blocking) if not name.startswith("_")}
        assert names == {name for name in vars(awaiting) if not name.startswith("_")}
        for name in names - {"address", "close", "infer_stream"}:
            mine, theirs = inspect.signature(getattr(blocking, name)), inspect.signature(getattr(awaiting, name))
            assert mine.parameters == theirs.parameters
            assert getattr(blocking, name).__doc__ == getattr(awaiting, name).__doc__
            assert getattr(blocking, name).__doc__
    assert "Script" not in str(inspect.signature(Device.infer_detailed))
    assert inspect.signature(Device.infer_detailed).return_annotation == "InferResult"


class _AskedFor(os.PathLike[str]):
    """A path that says when it is asked for, and lets the one who asks wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __fspath__(self) -> str:
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        return str(self._path)


def test_an_emulator_for_an_event_loop(tmp_path: Path) -> None:
    mine, theirs = inspect.signature(pcmedge.AsyncEmulator), inspect.signature(pcmedge.Emulator)
    assert (mine.parameters, mine.return_annotation) == (theirs.parameters, "AsyncDevice")

    file = tmp_path / "large.pcmi"
    large().save(file)

    async def talk() -> None:
        store = tmp_path / "store"
        async with await pcmedge.AsyncEmulator(classifier(), clock="manual", seed=4, store=store) as device:
            assert (await device.infer(pictures(2))).shape == (2, 4)
            assert (await device.lab.advance("1d")).clock.device_time_s == 86400.0
        with pytest.raises(UnavailableError, match="closed"):
            await device.identity()
        # The store is free again, also after a task that was cancelled while its emulator was made.
        for _ in range(2):
            asked = _AskedFor(file)
            task = asyncio.create_task(pcmedge.AsyncEmulator(asked, store=store))
            await asyncio.to_thread(asked.begun.wait, PATIENCE_S)
            task.cancel()
            asked.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with await pcmedge.AsyncEmulator(store=store) as device:
            assert {model.name for model in await device.models()} == {"small", "large"}

    asyncio.run(talk())


def test_calls_run_side_by_side(over: Any) -> None:
    async def talk(device: AsyncDevice) -> None:
        answers = await asyncio.gather(*(device.infer(pictures(2, seed=n)) for n in range(16)))
        for number, answer in enumerate(answers):
            np.testing.assert_array_equal(answer, await device.infer(pictures(2, seed=number)))

    over(talk)


def test_programming_ageing_and_healing(over: Any) -> None:
    async def talk(device: AsyncDevice) -> None:
        seen: list[Any] = []
        await device.program(large(), progress=seen.append)
        assert seen[-1].state == "succeeded"
        await device.erase("large")
        await device.lab.advance("1d")
        result = await device.recalibrate(force=True)
        assert result.statistics_generation == 1
        telemetry = await device.telemetry()
        assert telemetry.models[0].age_s == pytest.approx(86400)

    over(talk)


def test_streams_take_lists_and_async_generators(over: Any) -> None:
    batches = [pictures(n % 3 + 1, seed=n) for n in range(20)]

    async def camera() -> AsyncIterator[Any]:
        for batch in batches:
            await asyncio.sleep(0)
            yield batch

    async def talk(device: AsyncDevice) -> None:
        for source in (batches, camera()):
            answers = [answer async for answer in device.infer_stream(source, window=3)]
            assert [answer.shape for answer in answers] == [(len(batch), 4) for batch in batches]
            np.testing.assert_array_equal(answers[4], await device.infer(batches[4]))

    over(talk)


def test_a_failed_batch_and_a_broken_source(over: Any) -> None:
    async def broken() -> AsyncIterator[Any]:
        yield pictures(1)
        raise LookupError("camera unplugged")

    async def talk(device: AsyncDevice) -> None:
        bad = [pictures(1), np.zeros((1, 3), np.float32), pictures(1)]
        kinds = [type(answer).__name__ async for answer in device.infer_stream(bad, errors="yield")]
        assert kinds == ["ndarray", "InputShapeError", "ndarray"]
        with pytest.raises(InputShapeError):
            _ = [answer async for answer in device.infer_stream(bad)]
        with pytest.raises(LookupError, match="unplugged"):
            _ = [answer async for answer in device.infer_stream(broken())]
        with pytest.raises(ModelNotFoundError):
            await device.infer(pictures(1), model="nobody")

    over(talk)


def test_watching_ends_when_left(over: Any) -> None:
    async def talk(device: AsyncDevice) -> None:
        sequence = []
        async with contextlib.aclosing(device.watch_telemetry(interval_s=0.01)) as watched:
            async for telemetry in watched:
                sequence.append(telemetry.sequence)
                if len(sequence) == 3:
                    break
        assert sequence == [1, 2, 3]
        async with contextlib.aclosing(device.watch_events()) as events:
            assert (await anext(events)).kind == "started"

    over(talk)


def test_cancelling_a_task_cancels_the_operation(over: Any) -> None:
    from pcmedge.device import ProgramAndVerify

    async def talk(device: AsyncDevice) -> None:
        started = asyncio.Event()

        def progress(update: Any) -> None:
            if update.phase == "program":
                started.set()

        slow = ProgramAndVerify(margin_microsiemens=0.0005, max_iterations=1000)
        task = asyncio.create_task(device.program(large(), program_and_verify=slow, progress=progress))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        operation_id = (await device.operations())[-1].operation_id
        assert [update.state async for update in device.watch_operation(operation_id)][-1] == "cancelled"
        assert [model.name for model in await device.models()] == ["small"]

    over(talk)


async def _reached(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.01)


def test_cancelling_a_task_stops_an_advance_of_time(over: Any) -> None:
    async def talk(device: AsyncDevice) -> None:
        async def last() -> str:
            return (await device.events())[-1].kind

        async def recalibrates() -> bool:
            return any(event.kind.startswith("recalibrat") for event in await device.events())

        async def is_over() -> bool:
            return not (await last()).startswith("recalibrat")

        # All that are due last half a minute or longer.
        await device.program(large())
        await device.set_policy(Policy(kind="interval", interval_s=1.0, reads=16), model="large")
        task = asyncio.create_task(device.lab.advance("1y"))
        await _reached(recalibrates)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await _reached(is_over)
        assert await last() == "cancelled"
        assert (await device.lab.clock()).device_time_s < 256.0

    over(talk)


def test_leaving_a_stream_whose_source_is_silent(over: Any) -> None:
    async def silent() -> AsyncIterator[Any]:
        yield pictures(1)
        await asyncio.Event().wait()

    async def talk(device: AsyncDevice) -> None:
        async with contextlib.aclosing(device.infer_stream(silent())) as answers:
            assert (await anext(answers)).shape == (1, 4)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(answers), 0.3)
        assert (await device.infer(pictures(1))).shape == (1, 4)

    over(talk)


async def _drained(answers: AsyncIterator[Any]) -> None:
    async for _ in answers:
        pass


def test_a_server_killed_in_mid_stream(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[Any]:
        while True:
            yield pictures(1)

    async def main(process: Any, address: str) -> None:
        async with await pcmedge.connect_async(address) as device:
            answers = device.infer_stream(endless())
            for _ in range(3):
                await anext(answers)
            process.kill()
            with pytest.raises(UnavailableError):
                await asyncio.wait_for(_drained(answers), PATIENCE_S)

    with server_process(classifier(), tmp_path) as (process, address):
        asyncio.run(main(process, address))


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="pcmedge serve"):
        asyncio.run(pcmedge.connect_async(f"unix://{tmp_path}/no-such-device.sock"))
