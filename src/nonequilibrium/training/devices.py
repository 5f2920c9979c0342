"""What the machine can do: devices and memory."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from nonequilibrium.errors import ParameterError, TrainingError, one_line
from nonequilibrium.files import say


def usable_device(name: str) -> torch.device:
    """cpu, cuda or cuda:N, where float64 (mps has none) has been tried; raises ParameterError."""
    try:
        device = torch.device(name)
        torch.ones(2, dtype=torch.float64, device=device).sum().item()
        torch.Generator(device).manual_seed(0)
    except Exception as error:  # torch raises many kinds, of many lines
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise ParameterError(
            f"device is {name!r} ({reason}); it must be cpu, or cuda or cuda:N where there is one"
        ) from None
    return device


def hardware(device: str) -> str | None:
    """The name of a GPU; None for a CPU, whose name does not say how many cores were free."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None


@contextlib.contextmanager
def prepared(network: nn.Module, device: str):
    """Inside, a GPU keeps all bits of float32 and trains the ``maps`` of a network compiled."""
    if torch.device(device).type != "cuda":
        yield
        return
    cudnn, layout = torch.backends.cudnn, cast(Any, network)
    kept, plain = (cudnn.allow_tf32, cudnn.benchmark), getattr(network, "maps", None)
    cudnn.allow_tf32, cudnn.benchmark = False, True
    try:
        layout.to(memory_format=torch.channels_last)
        if plain is not None:  # in place of the method, and no part of the weights
            network.__dict__["maps"] = compiled(plain)
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = kept
        network.__dict__.pop("maps", None)
        layout.to(memory_format=torch.contiguous_format)


def compiled(plain: Callable) -> Callable:
    """The same function, compiled where gradients are recorded and something can compile it."""
    fast = torch.compile(plain)

    def either(*inputs):
        nonlocal fast
        if fast is not plain and torch.is_grad_enabled():
            try:
                return fast(*inputs)
            except Exception as error:  # torch raises many kinds
                say(f"training goes on without compiled code, and slower: {one_line(error)}")
                fast = plain
        return plain(*inputs)

    return either


@contextlib.contextmanager
def enough_memory(what: str):
    """Inside, a lack of memory is a TrainingError that names ``what`` needs it."""
    words = "allocate memory", "not enough memory", "size calculation overflowed"
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(word in str(error) for word in words):
            raise
        advice = "a smaller network or batch needs less"
        raise TrainingError(f"{what} needs more memory than there is; {advice}") from None


def keep_freed_memory() -> None:
    """Let glibc keep freed memory: zeroed pages took two thirds of a training step's time."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block of its own, however large
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing back
        mallopt(-2, 2**26)  # M_TOP_PAD: grow in steps of 64 MB
