"""Several processes for one piece of work, by torch's own engine: how many there are, and which
part of the work each does.

Every process runs the same program and draws the same random numbers. Of what takes long, the
network's answers, each computes its own part, and then all have all of it. So a result does not
depend on how many processes there were, but for rounding where the parts of a sum differ. Outside
``group`` there is one process, and nothing here does anything.

``training.spawn`` starts processes on this machine, from a notebook too. ``torchrun`` starts them
on several machines; ``group`` then finds the others by the environment variables that it sets.
Tensors on CPUs go through gloo, those on GPUs through nccl.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from nonequilibrium.errors import Refusal

LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun and its like set
_inside = False  # ``group``: a process group that somebody else has opened shares none of our work


class LostProcess(Refusal, RuntimeError):
    """A process that shares the work is gone; those that are left cannot finish it."""


# ---------------------------------------------------------------- who does what


def world() -> int:
    """How many processes share the work."""
    return distributed.get_world_size() if _inside else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return distributed.get_rank() if _inside else 0


def launched() -> bool:
    """Whether torchrun, or another launcher, has started this process as one of several."""
    return all(name in os.environ for name in LAUNCHER) and int(os.environ["WORLD_SIZE"]) > 1


def first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return int(os.environ["RANK"]) == 0 if launched() else rank() == 0


def here() -> int:
    """How many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world())) if _inside else 1


def own_device(device: str) -> str:
    """The device of this process: ``cuda`` is a GPU for each of the processes on this machine."""
    return (
        f"cuda:{os.environ.get('LOCAL_RANK', rank())}" if _inside and device == "cuda" else device
    )


def mine(number: int) -> bool:
    """Whether the piece of work with this number is for this process."""
    return number % world() == rank()


def rows() -> slice:
    """The rows of a batch that are for this process: every ``world``-th, so that rows in an order
    are shared evenly.
    """
    return slice(rank(), None, world())


# ---------------------------------------------------------------- what each gets of the others


def total(values: Tensor) -> Tensor:
    """The sum of the processes' tensors, in place; exact where every element is zero in all but one
    of them.
    """
    if world() > 1:
        distributed.all_reduce(values)
    return values


def gathered(values: Tensor, n: int) -> Tensor:
    """All ``n`` rows in order, from the ``rows`` of each process: (its rows, ...) to (n, ...); not
    differentiable.
    """
    if world() == 1:
        return values
    every = values.new_zeros(n, *values.shape[1:])
    every[rows()] = values
    return total(every)


def collected(pieces: dict[int, Any]) -> list:
    """The pieces of work of all processes, in the order of their numbers; tensors keep their layout
    in memory.
    """
    if world() > 1:
        every: list = [None] * world()
        distributed.all_gather_object(every, pieces)
        pieces = {number: piece for one in every for number, piece in one.items()}
    return [pieces[number] for number in sorted(pieces)]


def of_batch(mean: Tensor, share: float) -> Tensor:
    """The mean over a batch, from the mean over the ``rows`` of this process.

    mean: a differentiable scalar. share: the part of the batch that these rows are. The value is
    that of the whole batch in every process; the gradient is such that the mean of the processes'
    gradients, which ``synchronised`` takes, is that of the whole batch.
    """
    if world() == 1:
        return mean
    own = mean * (share * world())
    return own - own.detach() + total(own.detach().clone()) / world()


def from_first(function: Callable, *arguments):
    """``function(*arguments)`` of the first process, in all of them. It is called in the first
    alone.
    """
    if world() == 1:
        return function(*arguments)
    answer = [function(*arguments) if first() else None]
    distributed.broadcast_object_list(answer, src=0)
    return answer[0]


class _Objective(nn.Module):
    """A model as DistributedDataParallel wants it: what is called is its objective."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, generator: torch.Generator) -> Tensor:
        return cast(Any, self.model).objective(generator)


def synchronised(model: nn.Module) -> Callable[[torch.Generator], Tensor]:
    """``model.objective``, whose gradient is averaged over the processes; parameters start as those
    of the first.
    """
    if world() == 1:
        return cast(Any, model).objective
    # A share of a batch may miss a part of the network, such as the one for large noise. Buffers,
    # as all draw alike, stay the same.
    return nn.parallel.DistributedDataParallel(
        _Objective(model), find_unused_parameters=True, forward_sync_buffers=False
    )


# ---------------------------------------------------------------- starting and ending


@contextlib.contextmanager
def group(method: str = "env://") -> Iterator[None]:
    """Inside, the processes that a launcher or ``training.spawn`` has started share the work; with
    one process it does nothing.

    method: how they find each other, see ``torch.distributed.init_process_group``. Raises
    LostProcess when one of them is gone.
    """
    global _inside
    if _inside or (method == "env://" and not launched()):
        yield
        return
    backend = (
        "cpu:gloo,cuda:nccl"
        if torch.cuda.is_available() and distributed.is_nccl_available()
        else "gloo"
    )
    place = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if place[0]:
        os.environ["NONEQUILIBRIUM_QUIET"] = "1"  # one progress bar is enough
    try:
        distributed.init_process_group(
            backend, init_method=method, rank=place[0], world_size=place[1]
        )
        _inside = True
        yield
        _inside = False
        distributed.destroy_process_group()
    except (RuntimeError, distributed.DistError) as error:
        if not isinstance(error, Refusal) and _is_loss(error):
            raise LostProcess(
                f"process {place[0] + 1} of {place[1]} has lost another one"
            ) from None
        raise
    finally:
        _inside = False


def _is_loss(error: Exception) -> bool:
    return (
        isinstance(error, distributed.DistError)
        or "gloo" in str(error)
        or "Connection " in str(error)
    )
