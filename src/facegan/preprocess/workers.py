"""Parallel calls with ordered results, on local processes or a Dask cluster."""

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

from facegan.core.addresses import public
from facegan.core.errors import FaceganError

PROCESSES = "processes"
# Seconds to wait for a scheduler's answer.
TIMEOUT = 10
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """An executor, how many tasks it runs at a time, and whether it is still connected."""

    pool: Executor
    tasks: int
    connected: Callable[[], bool] = lambda: True


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_executor(address: str, workers: int) -> Iterator[Workers]:
    """Start local processes, or connect to a Dask cluster, for the duration of the block.

    Args:
        address: `processes`, or a Dask scheduler's `tcp://HOST:PORT` or `tls://HOST:PORT`.
        workers: number of processes.
    Raises:
        FaceganError: if `address` is neither, or no scheduler answers.
    """
    if address == PROCESSES:
        # Spawned, because forking is unsafe while the progress bar's thread runs.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
            try:
                yield Workers(pool, workers)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    elif re.fullmatch(r"(tcp|tls)://(\[[0-9a-fA-F:]+\]|[^\s/:]+):\d+", address):
        with _dask(address) as cluster:
            yield cluster
    else:
        raise FaceganError(
            f"--executor {public(address)}: valid: processes, tcp://HOST:PORT, tls://HOST:PORT"
        )


def _end_with_parent() -> None:
    """Exit when the parent was killed; a worker would wait for its next task forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
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
        raise FaceganError(f"{public(address)}: needs Dask: pip install 'facegan[dask]'") from None
    # FaceganError reports in one line what it would log with a traceback.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # Checked first, because a client that failed for this reason takes 20 seconds to close.
    if address.startswith("tls") and not Security().get_connection_args("client")["ssl_context"]:
        tls = "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ...__CLIENT__CERT and ...__CLIENT__KEY"
        raise FaceganError(f"{public(address)}: no certificates for TLS; set {tls}")
    try:
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FaceganError(f"{public(address)}: no Dask scheduler answers ({reason})") from None
    with client:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise FaceganError(
                f"{public(address)}: the scheduler has no workers; start: dask worker"
            )
        # A task may carry a large photograph from a compressed tar; Dask warns above 10 MB.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
            try:
                # Not pure, because files may change between equal calls.
                pool, connection = client.get_executor(pure=False), client.scheduler_comm
                yield Workers(pool, threads, lambda: client.scheduler_comm is connection)
            except (CancelledError, ClosedClientError, KilledWorker) as error:
                reason = type(error).__name__
                raise FaceganError(
                    f"{public(address)}: lost the scheduler or too many workers ({reason})"
                ) from None


def in_order(
    workers: Workers,
    ahead: int,
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
) -> Iterator[Result]:
    """Yield the results of `function(*call)` in the order of `calls`, which are consumed lazily.

    Args:
        ahead: results that may be pending beyond the next one; bounds memory.
    Raises:
        FaceganError: if a worker process was killed.
        CancelledError: if the connection to the cluster is lost.
    """
    # Not joblib.Parallel(return_as="generator"): it starts calls as others complete, also when no
    # result is taken, so that results pile up when the consumer is the slower side.
    pending: deque[Future[Result]] = deque()
    try:
        for call in calls:
            pending.append(workers.pool.submit(function, *call))
            if len(pending) > ahead:
                yield _result(pending.popleft(), workers)
        while pending:
            yield _result(pending.popleft(), workers)
    except BrokenProcessPool:
        raise FaceganError(
            "a worker process was killed, possibly out of memory; use fewer --workers"
        ) from None
    finally:
        if workers.connected():
            for future in pending:
                future.cancel()


def _result(future: Future[Result], workers: Workers) -> Result:
    # A Dask future in flight when the scheduler exits never completes or fails.
    while workers.connected():
        try:
            return future.result(timeout=1)
        except TimeoutError:
            if future.done():  # raised by the function itself, or completed just now
                return future.result()
    raise CancelledError
