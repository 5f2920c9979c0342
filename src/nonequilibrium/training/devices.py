"""What the machine can do: devices and memory."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys

import torch
from torch import nn

from nonequilibrium.errors import Refusal
from nonequilibrium.fields import ParameterError


class MemoryRefusal(Refusal):
    """Something that needs more memory than there is."""


def usable_device(name: str) -> torch.device:
    """The device of this name, on which a tensor has been tried; raises ParameterError.

    The names are cpu, cuda and cuda:N. Apple's mps is none of them: it has no float64, in which the coefficients are kept.
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
        raise ParameterError(f"device is {name!r}, which does not work here ({reason}); {allowed}") from None
    return device


def hardware(device: str) -> str | None:
    """What a GPU calls itself; None for a CPU, whose name says little of how many of its cores were free."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None


@contextlib.contextmanager
def prepared(network: nn.Module, device: str):
    """Inside, a GPU computes float32 as float32, and trains the costly part of a network, its ``maps``, compiled.

    By default its convolutions round float32 to ten bits, in which differences of neighbouring pixels are lost.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, True
    plain = getattr(network, "maps", None)
    try:
        if plain is not None:
            compiled = torch.compile(plain)
            network.maps = lambda *inputs: (compiled if torch.is_grad_enabled() else plain)(*inputs)
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = kept
        network.__dict__.pop("maps", None)


@contextlib.contextmanager
def enough_memory(what: str):
    """Inside, a lack of memory is a MemoryRefusal that names ``what`` needs it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lacking = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            words in str(error) for words in ("allocate memory", "not enough memory", "size calculation overflowed")
        )
        if not lacking:
            raise
        raise MemoryRefusal(
            f"{what} needs more memory than there is; a smaller network or a smaller batch needs less"
        ) from None


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones, where it is glibc.

    By default it hands large blocks back and asks the system for new, zeroed pages each time: on a CPU that took
    two thirds of the time of a training step on images.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block of its own, however large
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing back
        mallopt(-2, 2**26)  # M_TOP_PAD: grow in steps of 64 MB
