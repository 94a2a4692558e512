"""One piece of work in several processes, started by `torchrun`: each takes its part of it.

Process 0 alone writes anything. In a training it leads: it decides what comes next, and says so.
"""

import io
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from facegan.core.errors import FaceganError


class Command(IntEnum):
    """What process 0 tells the others to do."""

    STEP = 0
    LOAD = 1  # the state that comes with it
    END = 2


class Group:
    """The processes that work together; what they do so. Alone, there is nothing to do.

    Raises:
        FaceganError: from every method, if one of the others has ended.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def part(self, rows: int) -> slice:
        """Which of a whole batch's rows are this process's."""
        share = rows // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def slices(self, rows: int, size: int) -> Iterator[slice]:
        """This process's of the slices that `rows` rows are cut into; the others' lie between."""
        for first in range(self.rank * size, rows, self.size * size):
            yield slice(first, min(first + size, rows))

    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors of one device by their means over the processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])  # one message, not one for each
        with self._together():
            dist.all_reduce(flat)
        means = (flat / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, each by its sum over the processes."""
        if self.size == 1:
            return
        with self._together():
            for tensor in tensors:
                here = tensor.cpu()
                dist.all_reduce(here)
                tensor.copy_(here)

    def agree(self, fingerprint: str) -> None:
        """
        Args:
            fingerprint: of all that the training depends on, in hexadecimal digits.
        Raises:
            FaceganError: if it is another than process 0's.
        """
        content = self._broadcast(bytes.fromhex(fingerprint))
        if content.hex() != fingerprint:
            raise FaceganError(
                f"process {self.rank} has other data, params, code, torch or threads than process 0"
            )

    def lead(self, command: Command, state: dict[str, Any] | None = None) -> None:
        """Tell the other processes what to do; only process 0 may."""
        if self.size == 1:
            return
        buffer = io.BytesIO()
        if state is not None:
            torch.save(state, buffer)
        self._broadcast(bytes([command]) + buffer.getvalue())

    def follow(self, device: torch.device) -> tuple[Command, dict[str, Any]]:
        """Wait for what process 0 says.

        Returns:
            The command, and the state that came with it: tensors and plain numbers.
        """
        content = self._broadcast(b"")
        command, state = Command(content[0]), io.BytesIO(content[1:])
        if command != Command.LOAD:
            return command, {}
        return command, torch.load(state, map_location=device, weights_only=True)

    def _broadcast(self, content: bytes) -> bytes:
        """Process 0's bytes."""
        if self.size == 1:
            return content
        with self._together():
            length = torch.tensor(len(content))
            dist.broadcast(length, 0)
            message = torch.empty(int(length), dtype=torch.uint8)
            if self.rank == 0:
                message = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            dist.broadcast(message, 0)
        return message.numpy().tobytes()

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # Gloo's and NCCL's have no class of their own
            reason = re.sub(r"^\[.*?\] ", "", str(error).splitlines()[0]).split(". ")[0]
            raise FaceganError(
                f"process {self.rank} of {self.size}: another one has ended ({reason}); "
                "the same command goes on from the last checkpoint"
            ) from None


SINGLE = Group()


def is_distributed() -> bool:
    """Whether `torchrun` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """The processes that `torchrun` started with this one, connected; else this one alone.

    Raises:
        FaceganError: if processes on this device can't work together.
    """
    if not is_distributed():
        yield SINGLE
        return
    if device.type == "mps":
        raise FaceganError("torchrun: mps has no processes that work together; run facegan train")
    # Commands go between CPUs, so that no process waits for its GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    except FaceganError:
        # From torchrun, when another process has ended: it would come before the reason is told.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    finally:
        dist.destroy_process_group()


def command_line(arguments: str) -> str:
    """The command that starts these processes again, on this machine."""
    here, machines = os.environ["LOCAL_WORLD_SIZE"], int(os.environ["GROUP_WORLD_SIZE"])
    command = f"torchrun --nproc-per-node={here} -m {arguments}"
    return command if machines == 1 else f"the same on every machine, {command} ..."
