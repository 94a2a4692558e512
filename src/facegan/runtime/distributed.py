"""Work of several processes, started by `torchrun`. All run the same code (SPMD) on their parts of
the data; only process 0 writes files and messages.
"""

import io
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from facegan.core.errors import FaceganError


class Group:
    """The processes of one command, and their collectives, which are no-ops in a single process.

    Args:
        rank: of this process, from 0.
        size: number of processes.
    Raises:
        FaceganError: in every collective, if another process has exited.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_main(self) -> bool:
        """Whether this is process 0, the one that writes."""
        return self.rank == 0

    def part(self, total: int) -> slice:
        """This process's contiguous slice of a batch of `total`, a multiple of the processes."""
        share = total // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def slices(self, total: int, size: int) -> Iterator[slice]:
        """Cut range(total) into slices of at most `size`; this process's, assigned round-robin."""
        for start in range(self.rank * size, total, self.size * size):
            yield slice(start, min(start + size, total))

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors on one device by their means over the processes, in place."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])  # one collective for all
        with self._translate_errors():
            dist.all_reduce(flat)
        means = (flat / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes, in place."""
        if self.size == 1:
            return
        with self._translate_errors():
            for tensor in tensors:
                total = tensor.cpu()
                dist.all_reduce(total)
                tensor.copy_(total)

    def all_reduce_max(self, value: int) -> int:
        """The largest value of all processes, for decisions that all must take alike."""
        if self.size == 1:
            return value
        largest = torch.tensor(value)
        with self._translate_errors():
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def any(self, flag: bool) -> bool:
        """Whether any process has the flag set."""
        return self.all_reduce_max(int(flag)) > 0

    def broadcast(
        self, state: dict[str, Any] | None, device: torch.device
    ) -> dict[str, Any] | None:
        """Process 0's `state`, a nested dict of tensors and plain numbers, on every process.

        Args:
            state: ignored on the other processes.
            device: of the tensors that these receive.
        """
        if self.size == 1:
            return state
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = self._broadcast_bytes(buffer.getvalue())
        if self.is_main:
            return state
        received: dict[str, Any] | None = torch.load(
            io.BytesIO(content), map_location=device, weights_only=True
        )
        return received

    def require_same(self, fingerprint: str) -> None:
        """Check that all processes compute the same.

        Args:
            fingerprint: of all that the output depends on, in hexadecimal digits.
        Raises:
            FaceganError: if it differs from process 0's.
        """
        if self._broadcast_bytes(bytes.fromhex(fingerprint)).hex() != fingerprint:
            raise FaceganError(
                f"process {self.rank}: data, params, code, torch version or number of threads "
                "differ from process 0's"
            )

    def _broadcast_bytes(self, content: bytes) -> bytes:
        if self.size == 1:
            return content
        with self._translate_errors():
            length = torch.tensor(len(content))
            dist.broadcast(length, 0)
            message = torch.empty(int(length), dtype=torch.uint8)
            if self.is_main:
                message = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            dist.broadcast(message, 0)
        return message.numpy().tobytes()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # of Gloo or NCCL; they have no subclass
            reason = re.sub(r"^\[.*?\] ", "", str(error).splitlines()[0]).split(". ")[0]
            raise FaceganError(
                f"process {self.rank} of {self.size}: another process has exited ({reason}); "
                "run the same command again to resume from the last checkpoint"
            ) from None


SINGLE = Group()


def is_distributed() -> bool:
    """Whether `torchrun` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def is_main_process() -> bool:
    """Whether this is process 0, before it joins the others."""
    return not is_distributed() or os.environ["RANK"] == "0"


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """Join the processes that `torchrun` started; else yield `SINGLE`.

    Raises:
        FaceganError: if this device does not support several processes.
    """
    if not is_distributed():
        yield SINGLE
        return
    if device.type == "mps":
        raise FaceganError("torchrun: mps supports a single process only; run facegan train")
    # CPU tensors go over Gloo, so that decisions do not synchronise with a GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    except FaceganError:
        # torchrun sends it once another process has exited; the error must be printed first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    finally:
        dist.destroy_process_group()


def command_line(arguments: str) -> str:
    """The command line that starts these processes again on this machine.

    Args:
        arguments: of `python -m`.
    """
    processes, machines = os.environ["LOCAL_WORLD_SIZE"], int(os.environ["GROUP_WORLD_SIZE"])
    command = f"torchrun --nproc-per-node={processes} -m {arguments}"
    return (
        command if machines == 1 else f"on every machine, with the same --rdzv options: {command}"
    )
