"""Many workers, one order: processes on this machine, or a Dask cluster's."""

import logging
import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, TypeVar

from facegan.core.errors import FaceganError

PROCESSES = "processes"
# Seconds in which a scheduler has to answer.
PATIENCE = 10
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """An executor, how many tasks it works on at a time, and whether it still can."""

    pool: Executor
    tasks: int
    connected: Callable[[], bool] = lambda: True


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_executor(place: str, workers: int) -> Iterator[Workers]:
    """
    Args:
        place: `processes`, or a Dask scheduler's address: `tcp://...`, `tls://...`.
        workers: how many processes.
    Raises:
        FaceganError: if `place` is neither, or its scheduler can't be reached.
    """
    if place == PROCESSES:
        # Spawned: a fork would copy the progress bar's thread in the middle of its work.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
            try:
                yield Workers(pool, workers)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    elif re.fullmatch(r"(tcp|tls)://(\[[0-9a-fA-F:]+\]|[^\s/:]+):\d+", place):
        with _dask(place) as cluster:
            yield cluster
    else:
        raise FaceganError(
            f"--executor {place}: valid: processes, tcp://HOST:PORT, tls://HOST:PORT"
        )


def _end_with_parent() -> None:
    """A worker waits for its next task forever, also when its parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _dask(address: str) -> Iterator[Workers]:
    try:
        import dask
        from distributed import Client, KilledWorker, Security
        from distributed.client import ClosedClientError
    except ImportError:
        raise FaceganError(f"{address}: needs Dask: pip install 'facegan[dask]'") from None
    # A line says enough where it would log a traceback.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # Asked before, because a client that failed for it takes 20 seconds to go.
    if address.startswith("tls") and not Security().get_connection_args("client")["ssl_context"]:
        tls = "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ...__CLIENT__CERT and ...__CLIENT__KEY"
        raise FaceganError(f"{address}: no certificates for TLS; set {tls}")
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FaceganError(f"{address}: no Dask scheduler answers there ({reason})") from None
    with client:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise FaceganError(f"{address}: the scheduler has no workers; start: dask worker")
        # A photograph out of a compressed tar travels with its task; Dask warns of 10 MB.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
            try:
                # Not pure: the same call later may find other photographs.
                pool, connection = client.get_executor(pure=False), client.scheduler_comm
                yield Workers(pool, threads, lambda: client.scheduler_comm is connection)
            except (CancelledError, ClosedClientError, KilledWorker) as error:
                reason = type(error).__name__
                raise FaceganError(
                    f"{address}: the scheduler, or too many of the workers, ended ({reason})"
                ) from None


def in_order(
    workers: Workers,
    ahead: int,
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
) -> Iterator[Result]:
    """The results of `function(*call)`, in the order of `calls`, of which few are begun at a time.

    Args:
        ahead: how many results may wait for the one before them.
    Raises:
        FaceganError: if a worker died.
        CancelledError: if the workers can't be reached any more.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for call in calls:
            waiting.append(workers.pool.submit(function, *call))
            if len(waiting) > ahead:
                yield _result(waiting.popleft(), workers)
        while waiting:
            yield _result(waiting.popleft(), workers)
    except BrokenProcessPool:
        raise FaceganError(
            "a worker process was killed, perhaps for want of memory; fewer --workers need less"
        ) from None
    finally:
        if workers.connected():
            for future in waiting:
                future.cancel()


def _result(future: Future[Result], workers: Workers) -> Result:
    # A Dask future that was on its way when the scheduler ended never comes, nor fails.
    while workers.connected():
        try:
            return future.result(timeout=1)
        except TimeoutError:
            if future.done():  # with the function's own, or just now
                return future.result()
    raise CancelledError
