"""A step that a GPU records once and replays: a thousand small operations then cost one call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

BEFORE = 3  # calls that are not recorded, in which libraries choose their ways


class Recorded:
    """A function of tensors of fixed shapes that always does the same, called on ``own_stream``.

    It must ask a GPU for no value; see CUDA graphs in torch's documentation.
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


def records(device: torch.device) -> bool:
    """Whether ``device`` can record."""
    return device.type == "cuda"


@contextlib.contextmanager
def own_stream(device: torch.device):
    """Inside, a GPU works on a stream that can be recorded; nothing changes for a CPU."""
    if not records(device):
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
