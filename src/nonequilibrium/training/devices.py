"""What the machine can do: devices, memory, and steps that a GPU records once and replays."""

import contextlib
import ctypes
import platform
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from nonequilibrium.errors import ParameterError, TrainingError, one_line
from nonequilibrium.files import say

RECORDING = ("cuda",)  # kinds of devices that can record
BEFORE = 3  # calls that are not recorded, in which libraries choose their ways


def usable_device(name: str) -> torch.device:
    """cpu, cuda or cuda:N, where float64 (mps has none) has been tried; raises ParameterError."""
    try:
        device = torch.device(name)
        torch.ones(2, dtype=torch.float64, device=device).sum().item()
        torch.Generator(device).manual_seed(0)
    except Exception as error:  # torch raises many kinds, of many lines
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
        allowed = "it must be cpu, or cuda or cuda:N where there is one"
        raise ParameterError(f"device is {name!r} ({reason}); {allowed}") from None
    return device


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
        needs = f"{what} needs more memory than there is"
        raise TrainingError(f"{needs}; a smaller network or batch needs less") from None


def keep_freed_memory() -> None:
    """Let glibc keep freed memory: zeroed pages took two thirds of a training step's time."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block of its own, however large
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing back
        mallopt(-2, 2**26)  # M_TOP_PAD: grow in steps of 64 MB


class Recorded:
    """A function of tensors of fixed shapes that always does the same, called on ``own_stream``: a
    thousand small operations then cost one call. It must ask a GPU for no value (CUDA graphs).
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]):
        self.function, self.calls = function, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        if self.calls <= BEFORE:
            return self.function(*inputs)
        if self.graph is None:
            self.inputs, self.graph = [x.clone() for x in inputs], torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
                self.outputs = self.function(*self.inputs)  # recorded, not computed
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        return tuple(x.clone() for x in self.outputs)


@contextlib.contextmanager
def own_stream(device: torch.device):
    """Inside, a GPU works on a stream that can be recorded; nothing changes for a CPU."""
    if device.type not in RECORDING:
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
