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

from nonequilibrium.errors import ParameterError, Refusal, one_line


class MemoryRefusal(Refusal):
    """Something that needs more memory than there is."""


def usable_device(name: str) -> torch.device:
    """The device of this name, on which a tensor has been tried; raises ParameterError.

    The names are cpu, cuda and cuda:N. Apple's mps is none of them: it has no float64, in which the
    coefficients are kept.
    """
    allowed = "it must be cpu, or cuda or cuda:N where there is such a device"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError):
        raise ParameterError(f"device is {name!r}; {allowed}") from None
    if device.type not in ("cpu", "cuda"):
        raise ParameterError(f"device is {name!r}; {allowed}")
    try:
        torch.ones(2, dtype=torch.float64, device=device).sum().item()
        torch.Generator(device).manual_seed(0)
    except Exception as error:  # torch raises many kinds, of many lines
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise ParameterError(
            f"device is {name!r}, which does not work here ({reason}); {allowed}"
        ) from None
    return device


def hardware(device: str) -> str | None:
    """What a GPU calls itself; None for a CPU, whose name says little of how many of its cores were
    free.
    """
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None


@contextlib.contextmanager
def prepared(network: nn.Module, device: str):
    """Inside, a GPU computes float32 as float32, and trains the costly part of a network, its
    ``maps``, compiled, colours last.

    By default its convolutions round float32 to ten bits, in which differences of neighbouring
    pixels are lost.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, True
    plain = getattr(network, "maps", None)
    try:
        cast(Any, network).to(memory_format=torch.channels_last)
        if plain is not None:
            network.__dict__["maps"] = compiled(
                plain
            )  # in place of the method, and no part of the weights
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = kept
        network.__dict__.pop("maps", None)
        cast(Any, network).to(memory_format=torch.contiguous_format)


def compiled(plain: Callable) -> Callable:
    """The same function, compiled where gradients are recorded; as it was, with a sentence, where
    nothing here can compile it.
    """
    fast = torch.compile(plain)

    def either(*inputs):
        nonlocal fast
        if fast is not plain and torch.is_grad_enabled():
            try:
                return fast(*inputs)
            except Exception as error:  # torch raises many kinds
                print(
                    f"training goes on without compiled code, and slower: {one_line(error)}",
                    file=sys.stderr,
                )
                fast = plain
        return plain(*inputs)

    return either


@contextlib.contextmanager
def enough_memory(what: str):
    """Inside, a lack of memory is a MemoryRefusal that names ``what`` needs it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            words in str(error)
            for words in ("allocate memory", "not enough memory", "size calculation overflowed")
        )
        if not lacking:
            raise
        raise MemoryRefusal(
            f"{what} needs more memory than there is; a smaller network or a smaller batch needs less"
        ) from None


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones, where it is glibc.

    By default it hands large blocks back and asks the system for new, zeroed pages each time: on a
    CPU that took two thirds of the time of a training step on images.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block of its own, however large
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing back
        mallopt(-2, 2**26)  # M_TOP_PAD: grow in steps of 64 MB
