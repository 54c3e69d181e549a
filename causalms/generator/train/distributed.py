"""One training run on several devices: ``torchrun`` starts the processes, each takes its share of every batch.

Every process draws the random numbers of the whole batch and keeps those of its own rows, and its loss is the part of the batch's
loss that its rows make.  Summed over processes, gradients are therefore those of one process up to the order of sums, and as
every process takes the same optimiser step on them, weights stay equal without being sent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from causalms.generator.configurations import chosen_device

_LONGEST_WAIT = timedelta(hours=6)  # while the first process calibrates, the others wait


@dataclass(frozen=True)
class Share:
    """Rows of a batch that one process has, out of ``whole``.

    Examples
    --------
    >>> Share.of_process(5, rank=1, world=2)
    Share(rows=(1, 3), whole=5)
    """

    rows: tuple[int, ...]
    whole: int

    @classmethod
    def of_process(cls, whole: int, rank: int = 0, world: int = 1) -> Share:
        """Every ``world``-th row, beginning with ``rank``."""
        return cls(tuple(range(rank, whole, world)), whole)

    def of(self, drawn: Tensor) -> Tensor:
        """Own rows of something drawn for the whole batch."""
        return drawn[list(self.rows)]


@dataclass(frozen=True)
class Processes:
    """The processes of one training run, seen from one of them; alone, every method does nothing."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process validates, saves, calibrates and writes."""
        return self.rank == 0

    def share(self, whole: int) -> Share:
        """Own rows of a batch."""
        return Share.of_process(whole, self.rank, self.world)

    def sum_gradients(self, network: nn.Module, loss: Tensor) -> float:
        """Sum gradients over processes, in place; returns the loss of the whole batch.

        A parameter that no process has a gradient for keeps none, so that the optimiser leaves it alone.
        """
        if self.world == 1:
            return float(loss.detach())
        parameters = list(network.parameters())
        flags = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        grads = [(torch.zeros_like(p) if p.grad is None else p.grad).contiguous().flatten() for p in parameters]
        flat = torch.cat([*grads, flags, loss.detach().reshape(1)])
        dist.all_reduce(flat)
        sizes = [p.numel() for p in parameters]
        *summed, has_gradient, whole = torch.split(flat, [*sizes, len(parameters), 1])
        for parameter, gradient, has in zip(parameters, summed, has_gradient.tolist(), strict=True):
            parameter.grad = gradient.view(parameter.shape).clone() if has else None
        return float(whole)

    def agree(self, value: float) -> float:
        """The first process's value, so that all stop at the same step."""
        if self.world == 1:
            return value
        agreed = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(agreed, 0)
        return float(agreed)

    def spread(self, network: nn.Module) -> None:
        """Give every process the first one's weights."""
        if self.world > 1:
            for tensor in network.state_dict().values():
                kept = tensor.contiguous()
                dist.broadcast(kept, 0)
                tensor.copy_(kept)

    def wait(self) -> None:
        """Until every process is here."""
        self.agree(0.0)


def first_process() -> bool:
    """Whether this is the process that speaks: the only one, or rank 0 under ``torchrun``."""
    return int(os.environ.get("RANK", "0")) == 0


def join(device: str) -> Processes:
    """Join the run that ``torchrun`` started, by its environment variables; alone without it.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        Several processes talk by NCCL on GPUs (one each) and by gloo on a CPU.

    Raises
    ------
    UsageError
        If CUDA is wanted and not there.
    """
    gpu = chosen_device(device).type == "cuda"
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes(device=torch.device("cuda" if gpu else "cpu"))
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(where)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpu else "gloo", timeout=_LONGEST_WAIT)
    return Processes(rank, world, where)
