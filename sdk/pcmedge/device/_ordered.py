"""Many inputs through a function at once, with the answers in the order of the inputs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def ordered(work: Callable[[Item], Answer], items: Iterable[Item], window: int) -> Generator[Answer, None, None]:
    """``work`` of each item, at most ``window`` of them under way or waiting to be taken.

    Items are read in a thread of their own, so that an answer is not kept back while the next item is waited for. What
    reading them raises is raised after the answers to the items before.
    """
    room = threading.Semaphore(window)
    over = threading.Event()
    under_way: queue.SimpleQueue[Future[Answer] | BaseException | None] = queue.SimpleQueue()
    pool = ThreadPoolExecutor(window, thread_name_prefix="pcm-stream")

    def read() -> None:
        try:
            for item in items:
                room.acquire()
                if over.is_set():
                    return
                under_way.put(pool.submit(work, item))
        except BaseException as error:
            under_way.put(error)
        else:
            under_way.put(None)

    # Daemonic: an endless source that is being waited for does not keep the process alive.
    threading.Thread(target=read, name="pcm-stream-source", daemon=True).start()
    try:
        while (answer := under_way.get()) is not None:
            if isinstance(answer, BaseException):
                raise answer
            result = answer.result()
            room.release()
            yield result
    finally:
        over.set()
        room.release()
        pool.shutdown(wait=False, cancel_futures=True)
