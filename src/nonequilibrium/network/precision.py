"""Where a network may compute in bfloat16, and which of its weights lose nothing by being stored in
half precision.
"""

from __future__ import annotations

import functools

import torch


@functools.cache
def has_bfloat16(device_type: str) -> bool:
    """Whether a device has instructions for bfloat16. A CPU without them emulates it a hundred
    times slower than float32.
    """
    return device_type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def computed_in(precision: torch.dtype, device_type: str) -> torch.dtype:
    """The dtype that layers of this precision really compute in: float32 where bfloat16 would be
    emulated.
    """
    return precision if has_bfloat16(device_type) else torch.float32


def low_precision(device_type: str, precision: torch.dtype, training: bool) -> torch.autocast:
    """A context whose matrix products and convolutions are of ``precision`` in training where the
    device has it, of float32 elsewhere.

    training: the network's own flag, which ``fit`` sets. Bounds, samples and derivatives that look
    through the network are always of float32, so that a number does not depend on the device.
    """
    dtype = computed_in(precision, device_type) if training else torch.float32
    return torch.autocast(device_type, torch.bfloat16, enabled=dtype != torch.float32)


def is_dense(name: str) -> bool:
    """Whether a parameter belongs to a layer of a dense path."""
    return "dense" in name.split(".")


def loses_digits(name: str, unet: bool) -> bool:
    """Whether a weight is as good with eleven bits: all of a U-Net; of the paper's network the
    layers of params.precision.

    Its first convolution, its 1×1 layers and its readout tell apart pixels that differ by far less
    than one.
    """
    parts = name.split(".")
    return parts[0] == "network" and (
        unet or is_dense(name) or ("convs" in parts and parts[parts.index("convs") + 1] != "0")
    )
