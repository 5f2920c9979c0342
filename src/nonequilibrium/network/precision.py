"""Where a network computes in bfloat16, and which weights lose nothing in half precision."""

import functools
from typing import Any

import torch
from torch import Tensor

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@functools.cache
def has_bfloat16(device_type: str) -> bool:
    """Whether a device computes in bfloat16; a CPU that emulates it is a hundred times slower."""
    return device_type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def low_precision(network: Any, x: Tensor) -> torch.autocast:
    """A context of ``network.precision``, in training alone and where the device has it."""
    low = network.training and network.precision != torch.float32 and has_bfloat16(x.device.type)
    return torch.autocast(x.device.type, torch.bfloat16, enabled=low)


def is_dense(name: str) -> bool:
    """Whether a parameter belongs to a layer of a dense path."""
    return "dense" in name.split(".")


def loses_digits(name: str, unet: bool) -> bool:
    """Whether eleven bits suffice for a weight: all of a U-Net, the dense path and the convolutions
    after the first, which need not tell apart pixels that differ by far less than one.
    """
    parts = name.split(".")
    later = "convs" in parts and parts[parts.index("convs") + 1] != "0"
    return parts[0] == "network" and (unet or is_dense(name) or later)
