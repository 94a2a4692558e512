import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import psutil
import pytest

from facegan.core.addresses import public
from facegan.core.errors import FaceganError
from facegan.preprocess.workers import PROCESSES, Workers, cores, in_order, open_executor


def square(number: int) -> int:
    return number * number


def slow_first(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0)
    return number


def test_results_are_in_order_although_the_first_is_the_slowest() -> None:
    with ThreadPoolExecutor(4) as pool:
        results = in_order(Workers(pool, 4), 4, slow_first, ((number,) for number in range(20)))
        assert list(results) == list(range(20))


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_calls_are_consumed_lazily(ahead: int) -> None:
    started = []

    def calls() -> object:
        for number in range(50):
            started.append(number)
            yield (number,)

    with ThreadPoolExecutor(1) as pool:
        results = in_order(Workers(pool, 1), ahead, square, calls())  # type: ignore[arg-type]
        assert started == []
        for number in range(10):
            assert next(results) == number * number
            assert len(started) == number + ahead + 1


def test_an_exception_in_a_task_is_raised_and_the_rest_is_cancelled() -> None:
    futures: list[Future[int]] = []

    class Pool(ThreadPoolExecutor):
        """Nothing runs: the third call fails, those before succeed, those after wait."""

        def submit(self, *arguments: object) -> Future[int]:  # type: ignore[override]
            futures.append(Future[int]())
            if len(futures) < 3:
                futures[-1].set_result(len(futures))
            elif len(futures) == 3:
                futures[-1].set_exception(FaceganError("one line"))
            return futures[-1]

    results = in_order(Workers(Pool(), 1), 8, square, ((number,) for number in range(100)))
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(FaceganError, match="one line"):
        next(results)
    assert len(futures) == 11  # the three, and 8 ahead
    assert all(future.cancelled() for future in futures[3:])


def test_results_that_nobody_takes_are_cancelled() -> None:
    futures: list[Future[int]] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments: object) -> Future[int]:  # type: ignore[override]
            futures.append(Future[int]())
            if len(futures) == 1:
                futures[0].set_result(1)
            return futures[-1]

    results = in_order(Workers(Pool(), 1), 2, square, ((number,) for number in range(100)))
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]
    assert [future.cancelled() for future in futures] == [False, True, True]


def test_a_pending_result_is_abandoned_when_the_connection_is_lost() -> None:
    cancelled = []

    class Never(Future[int]):
        def cancel(self) -> bool:
            cancelled.append(self)
            return True

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments: object) -> Future[int]:  # type: ignore[override]
            return Never()

    answers = iter([True, True, False])
    workers = Workers(Pool(), 1, lambda: next(answers, False))
    with pytest.raises(CancelledError):
        list(in_order(workers, 1, square, ((n,) for n in range(9))))
    assert cancelled == []  # cancelling needs the connection


def test_a_result_that_arrives_at_the_timeout_is_not_lost() -> None:
    class Late(Future[int]):
        def result(self, timeout: float | None = None) -> int:
            if not self.done():
                self.set_result(7)
                raise TimeoutError
            return super().result(timeout)

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments: object) -> Future[int]:  # type: ignore[override]
            return Late()

    assert list(in_order(Workers(Pool(), 1), 1, square, [(1,)])) == [7]


def test_a_timeout_error_of_the_function_itself_is_raised() -> None:
    def time_out(number: int) -> int:
        raise TimeoutError(number)

    with ThreadPoolExecutor(1) as pool, pytest.raises(TimeoutError):
        list(in_order(Workers(pool, 1), 1, time_out, [(1,)]))


def test_a_killed_worker_process_is_one_line() -> None:
    with open_executor(PROCESSES, 2) as workers:
        assert workers.tasks == 2
        # Workers import what they call, so not a function of this file.
        assert list(in_order(workers, 4, pow, ((n, 2) for n in range(9)))) == [
            n * n for n in range(9)
        ]
        with pytest.raises(FaceganError, match=r"a worker process was killed.*--workers") as caught:
            list(in_order(workers, 4, signal.raise_signal, [(signal.SIGKILL,)] * 9))
    assert len(str(caught.value).splitlines()) == 1


def test_an_interrupt_does_not_wait_for_tasks() -> None:
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), open_executor(PROCESSES, 1) as workers:
        for _ in range(3):
            workers.pool.submit(time.sleep, 5)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 4


@pytest.mark.faults
def test_workers_exit_when_their_parent_is_killed() -> None:
    program = """
import time
from facegan.preprocess.workers import PROCESSES, open_executor

if __name__ == "__main__":
    with open_executor(PROCESSES, 2) as workers:
        list(workers.pool.map(abs, range(20)))
        print("ready", flush=True)
        time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@pytest.mark.parametrize(
    "address",
    [
        *("", "threads", "127.0.0.1:8786", "udp://127.0.0.1:1", "tcp://", "tcp://nonsense"),
        *("tcp://127.0.0.1:x", "tls://127.0.0.1", "tcp://:8786x"),
    ],
)
def test_an_invalid_executor_is_refused_with_the_valid_ones(address: str) -> None:
    message = f"--executor {public(address)}: valid: processes, tcp://HOST:PORT, tls://HOST:PORT"
    with pytest.raises(FaceganError) as caught, open_executor(address, 1):
        pass
    assert str(caught.value) == message


def test_cores_are_those_that_this_process_may_use() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no sched_setaffinity on this platform")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert cores() == len(before)


def test_tls_without_certificates_is_one_line() -> None:
    with pytest.raises(FaceganError) as caught, open_executor("tls://127.0.0.1:1", 1):
        pass
    assert str(caught.value).startswith("tls://127.0.0.1:1: no certificates")
    assert len(str(caught.value).splitlines()) == 1
