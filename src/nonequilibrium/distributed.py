"""Processes, started by ``torchrun``, that share one piece of work: all draw all random numbers,
each computes its part of the network's answers, and then all have all of them. Outside ``group``
there is one process, and nothing here does anything.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn

from nonequilibrium.errors import ParameterError, Refusal, TrainingError, one_line

VARIABLES = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"  # which torchrun sets
_inside = False  # ``group``: a process group that somebody else has opened shares none of our work


def world() -> int:
    """How many processes share the work."""
    return distributed.get_world_size() if _inside else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return distributed.get_rank() if _inside else 0


def launched() -> tuple[int, int]:
    """(rank, number of processes) by torchrun's variables, (0, 1) where one is unset or empty."""
    said = {name: os.environ.get(name, "").strip() for name in VARIABLES}
    for name, word in said.items():
        if word and not word.isdecimal() and name != "MASTER_ADDR":
            given = f"the variable {name} is {word!r}"
            raise ParameterError(f"{given}; torchrun sets a whole number, and else it is unset")
    if not all(said.values()):
        return 0, 1
    number, size = int(said["RANK"]), int(said["WORLD_SIZE"])
    if number >= size:
        raise ParameterError(f"RANK is {number}; it must be less than WORLD_SIZE, {size}")
    return number, size


def first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return launched()[0] == 0


def mine(number: int) -> bool:
    """Whether the piece of work with this number is for this process."""
    return number % world() == rank()


def rows() -> slice:
    """The rows of a batch that are for this process."""
    return slice(rank(), None, world())


def total(values: Tensor) -> Tensor:
    """The sum of the processes' tensors, in place; exact where all but one are zero."""
    if world() > 1:
        distributed.all_reduce(values)
    return values


def gathered(values: Tensor, n: int) -> Tensor:
    """All ``n`` rows in order, from the ``rows`` of each process; not differentiable."""
    every = values.new_zeros(n, *values.shape[1:])
    every[rows()] = values
    return total(every)


def collected(pieces: dict[int, Any]) -> list:
    """The pieces of work of all processes, in the order of their numbers."""
    every = [pieces] * world()
    if world() > 1:
        distributed.all_gather_object(every, pieces)
    pieces = {number: piece for one in every for number, piece in one.items()}
    return [pieces[number] for number in sorted(pieces)]


def of_batch(mean: Tensor, share: float) -> Tensor:
    """The mean over a batch, from that over this process's rows, with the gradient of its share."""
    if world() == 1:
        return mean
    own = mean * share
    return own - own.detach() + total(own.detach().clone())


def synchronised(parameters: list[nn.Parameter]) -> None:
    """Sum the processes' gradients, in place; one that no process has stays absent."""
    if world() == 1:
        return
    # A share of a batch may miss a part of the network, such as the one for large noise.
    have = total(torch.stack([p.detach().new_tensor(p.grad is not None) for p in parameters]))
    used = [p for p, number in zip(parameters, have.tolist(), strict=True) if number]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
    every = total(torch.cat([grad.flatten() for grad in grads]))
    for p, grad in zip(used, every.split([p.numel() for p in used]), strict=True):
        p.grad = grad.view_as(p).to(p.dtype)


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Inside, the processes that torchrun started share the work: ParameterError where they cannot
    meet, TrainingError when one of them is gone.
    """
    global _inside
    number, size = launched()
    if _inside or size == 1:
        yield
        return
    if number:
        os.environ["NONEQUILIBRIUM_QUIET"] = "1"  # one progress bar is enough
    try:
        socket.getaddrinfo(os.environ["MASTER_ADDR"], None)  # torch tries unknown names for long
        nccl = torch.cuda.is_available() and distributed.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
        distributed.init_process_group(backend, rank=number, world_size=size)
    except (OSError, ValueError, RuntimeError, distributed.DistError) as error:
        given = ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES[2:])
        raise ParameterError(f"processes cannot meet by {given}: {one_line(error)}") from None
    try:
        _inside = True
        yield
        distributed.destroy_process_group()
    except (RuntimeError, distributed.DistError) as error:
        known = isinstance(error, distributed.DistError) or "gloo" in str(error)
        if isinstance(error, Refusal) or not (known or "Connection " in str(error)):
            raise
        words = "the same command goes on from the last checkpoint, if one was saved"
        lost = f"process {number + 1} of {size} has lost another one"
        raise TrainingError(f"{lost}; {words}") from None
    finally:
        _inside = False
