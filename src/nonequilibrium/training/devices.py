"""What the machine can do: devices and memory."""

from __future__ import annotations

import ctypes
import platform
import sys


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
