"""What a program does before and after ``os.fork()``: run by tests/test_forks.py, ``python forking.py CASE ADDRESS``.

The parent makes something, forks, and prints what became of the child: the exit code, or the signal that ended it. A
child that hangs is ended by its alarm. Then the parent goes on with what it made.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pcmedge
from pcmedge.errors import DeviceStateError

# Said of every fork with threads since Python 3.12; that it goes well all the same is what is tested.
warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)

PATIENCE_S = 50
SHAPE = (1, 1, 6, 6)
X = np.full(SHAPE, 0.5, np.float32)


def in_child(work: Callable[[], object], *, bare: bool = False) -> None:
    """Forks; the child prints what ``work`` returned or raised, and ends as any program does (``bare``: at once)."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE_S)
        try:
            print("child:", work(), flush=True)
        except DeviceStateError as error:
            print("child: DeviceStateError", error.message, flush=True)
        if bare:
            os._exit(0)
        sys.exit(0)
    print("ended:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def parent(answer: Any) -> None:
    print("parent:", answer.shape, flush=True)


def inherited(address: str) -> None:
    with pcmedge.connect(address) as device:
        device.infer(X)

        def work() -> object:
            shape = device.infer(X).shape, next(device.infer_stream([X])).shape
            device.close()
            return shape

        in_child(work)
        parent(device.infer(X))


def fresh(address: str) -> None:
    with pcmedge.connect(address) as device:

        def work() -> object:
            with pcmedge.connect(address) as own:
                return own.infer(X).shape

        in_child(work)
        parent(device.infer(X))


def busy(address: str) -> None:
    """Another thread of the parent is inside gRPC at the moment of the fork."""
    device = pcmedge.connect(address)
    seen = threading.Event()

    def watch() -> None:
        for _ in device.watch_telemetry(interval_s=0.01):
            seen.set()

    threading.Thread(target=watch, daemon=True).start()
    seen.wait()
    in_child(lambda: device.infer(X).shape)
    parent(device.infer(X))


def streaming(address: str) -> None:
    """Streams that are open at the fork, used and closed in the child."""
    device = pcmedge.connect(address)
    answers = device.infer_stream([X] * 3)
    readings = device.watch_telemetry(interval_s=0.01)
    next(answers), next(readings)

    def work() -> object:
        said = []
        for stream in (answers, readings):
            try:
                next(stream)
            except DeviceStateError as error:
                said.append(error.message)
            stream.close()
        assert len(said) == 2, said
        return f"{said[0]}; {device.infer(X).shape}"

    in_child(work)
    parent(next(answers))
    next(readings)


def awaiting(address: str) -> None:
    """An AsyncDevice, inherited and made anew, in the child's own event loop."""

    async def use(device: Any) -> Any:
        return (await device.infer(X)).shape

    async def anew() -> Any:
        async with await pcmedge.connect_async(address) as own:
            return await use(own)

    async def talk() -> Any:
        device = await pcmedge.connect_async(address)
        await use(device)
        return device

    runner = asyncio.Runner()
    devices = [runner.run(talk())]

    async def refused() -> object:
        said = []
        for ask in (anew, lambda: use(devices[0])):
            try:
                await ask()
            except DeviceStateError as error:
                said.append(error.message)
        await devices[0].close()
        assert len(said) == 2, said
        with pcmedge.connect(address) as blocking:
            return f"{said[1]}; {blocking.infer(X).shape}"

    in_child(lambda: asyncio.run(refused()))
    parent(runner.run(devices[0].infer(X)))
    runner.run(devices.pop().close())
    in_child(lambda: asyncio.run(anew()))


def emulator(address: str) -> None:
    """With a thread pool of ONNX Runtime, a policy's thread and a store."""
    folder = Path(address)
    with pcmedge.Emulator(folder / "image.pcmi", threads=2, store=folder / "store") as device:
        device.infer(X)
        answers = device.infer_stream([X] * 3)
        next(answers)

        def work() -> object:
            for use in (lambda: device.infer(X), lambda: next(answers)):
                try:
                    use()
                except DeviceStateError as error:
                    said = error.message
            answers.close()
            device.close()
            return said

        in_child(work)
        in_child(lambda: "did nothing")
        parent(device.infer(X))
        device.program(folder / "image.pcmi")
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        with pcmedge.Emulator(store=folder / "store") as again:
            print("stored:", again.models()[0].program_generation)
    finally:
        os.kill(child, signal.SIGKILL)


def outlived(address: str) -> None:
    """The store is free as soon as its owner is closed, also while a fork of the owner lives on."""
    folder = Path(address)
    device = pcmedge.Emulator(folder / "image.pcmi", store=folder / "store")
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE_S)
        signal.pause()
    try:
        device.close()
        with pcmedge.Emulator(store=folder / "store") as again:
            parent(again.infer(X))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def digital(address: str) -> None:
    with pcmedge.DigitalDevice(Path(address) / "model.onnx", threads=2) as device:
        x = np.zeros((1, *device.model_spec().inputs[0].shape[1:]), np.float32)
        device.infer(x)
        in_child(lambda: device.infer(x))
        parent(device.infer(x))


def interpreter(address: str) -> None:
    from pcmedge.tflite import Interpreter

    made = Interpreter(Path(address) / "image.pcmi", seed=1, num_threads=2)
    made.allocate_tensors()

    def work() -> object:
        made.set_tensor(made.get_input_details()[0]["index"], X)
        made.invoke()
        return "no error"

    in_child(work)
    made.set_tensor(made.get_input_details()[0]["index"], X)
    made.invoke()
    parent(made.get_tensor(made.get_output_details()[0]["index"]))


def fallback(address: str) -> None:
    folder = Path(address.partition("@")[2])
    with pcmedge.FallbackDevice(
        address.partition("@")[0], pcmedge.Emulator(folder / "image.pcmi", physics="ideal", threads=2)
    ) as pair:
        pair.infer(X)

        def work() -> object:
            for use in (pair.status, pair.turnovers, pair.models, lambda: next(pair.watch_turnovers())):
                try:
                    use()
                except DeviceStateError:
                    continue
                return f"{use} did not refuse"
            pair.close()
            return pair.infer(X)

        in_child(work)
        parent(pair.infer(X))


def server(address: str) -> None:
    """A process that serves a chip, and forks: the child leaves the ``with`` blocks."""
    from pcmedge_emulator.chip import Chip
    from pcmedge_emulator.service.server import serve

    with Chip(threads=2) as chip:
        chip.program(pcmedge.ChipImage.open(Path(address) / "image.pcmi"))
        with serve(chip) as served, pcmedge.connect(served.address) as device:

            def work() -> object:
                served.stop()
                chip.close()
                return "left"

            in_child(work)
            parent(device.infer(X))


def loader(address: str) -> None:
    """torch's DataLoader with forked workers that ask an inherited device."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    device = pcmedge.connect(address)
    device.infer(X)

    class Scores(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return torch.from_numpy(device.infer(X)[0].copy())

    signal.alarm(2 * PATIENCE_S)
    batches = DataLoader(Scores(), batch_size=4, num_workers=2, multiprocessing_context="fork", timeout=PATIENCE_S)
    parent(torch.cat(list(batches)))


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
