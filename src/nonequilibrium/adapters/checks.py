"""What is no schedule, no prediction or no image is refused in one sentence."""

import math

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.errors import AdapterError


def check(fits: bool, name: str, value, allowed: str) -> None:
    """Raises AdapterError, in one sentence, unless the value of this name ``fits``."""
    if not fits:
        verb = "they must be" if name.startswith("the images") else "it must be"
        raise AdapterError(f"{name} {value}; {verb} {allowed}")


def kind(value) -> str:
    """Words for a value: its type, with dtype and shape where it has them."""
    of = f" of {value.dtype} and shape {tuple(value.shape)}" if hasattr(value, "dtype") else ""
    return f"a {type(value).__name__}{of}"


def like(who: str, out, shape: tuple[int, ...]) -> Tensor:
    """``out``, a real tensor of this shape; raises AdapterError."""
    fits = isinstance(out, Tensor) and out.shape == shape and out.is_floating_point()
    check(fits, f"{who} returned", kind(out), f"a real tensor of shape {shape}")
    return out


def tensor(given, dtype: torch.dtype | None = None) -> Tensor:
    """``given`` as a tensor, without axes if it holds no numbers."""
    try:
        return torch.as_tensor(given, dtype=dtype)
    except (TypeError, ValueError, RuntimeError):
        return torch.zeros(())


def numbers(name: str, given) -> Tensor:
    """The values of a schedule, (T,) float64; raises AdapterError."""
    values = tensor(getattr(given, "tolist", lambda: given)(), torch.float64)
    fits = values.dim() == 1 and len(values) > 1
    check(fits, f"{name} is", kind(given), "the schedule's T real values, T > 1")
    return values


def chain(betas, alphas_cumprod, event_dim: int, predicts: str) -> GaussianKernel:
    """The forward chain of β_1..β_T or of ᾱ_1..ᾱ_T, one of which is given. Raises AdapterError."""
    if (betas is None) == (alphas_cumprod is None):
        raise AdapterError("give either betas or alphas_cumprod, T values, and not both")
    whole = isinstance(event_dim, int) and not isinstance(event_dim, bool) and event_dim > 0
    check(whole, "event_dim is", repr(event_dim), "a whole number of at least 1")
    name, given = ("alphas_cumprod", alphas_cumprod) if betas is None else ("betas", betas)
    values = numbers(name, given)
    if alphas_cumprod is not None:
        values = 1 - values / torch.cat([torch.ones(1, dtype=torch.float64), values[:-1]])
    if values[-1] == 1:
        if predicts in ("noise", "score"):
            words = f"(β_T = 1), where a {predicts} says nothing of x^0 and the bound is infinite; "
            words += "a predicted velocity or x0 has a finite one"
            raise AdapterError(f"{name} leaves no signal at its end {words}")
        values[-1] = math.nextafter(1, 0)  # the limit, to the last digit
    try:
        return GaussianKernel(values, event_dim)
    except ValueError as error:
        raise AdapterError(f"{name} is no schedule: {error} ({kind(given)})") from None


def as_levels(images, levels: int) -> Tensor:
    """Images as whole levels 0..levels − 1, (n, ...) float64; raises AdapterError.
    images: a tensor, an array, or a list of arrays or pictures; levels, or levels on [−1, 1].
    """
    several = images if isinstance(images, list | tuple) else ()
    modes = {image.mode for image in several if hasattr(image, "mode")}
    try:
        if isinstance(images, Tensor):
            given = images.detach().to_dense().cpu()
        else:
            array = np.asarray(images)
            given = torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
        if modes:
            given = given.movedim(-1, 1) if modes == {"RGB"} else given[:, None]
    except (TypeError, ValueError, RuntimeError, IndexError):
        given = torch.zeros((), dtype=torch.complex64)
    real = not given.is_complex() and modes <= {"L", "RGB"} and not np.ma.is_masked(images)
    check(real, "the images are", kind(images), "real numbers, or all pictures of mode L or RGB")
    fits = given.dim() > 1 and len(given) > 1 and given.numel() > 0
    check(fits, "the images have shape", tuple(given.shape), "at least two, (n, c, h, w)")
    values, off = given.double(), 1e-2
    if given.is_floating_point():
        values = (values + 1) * (levels - 1) / 2
        off = max(off, torch.finfo(given.dtype).eps * (levels - 1) / 4)
    whole = values.round()
    near = (values - whole).abs() < (off if off < 0.25 else 0.0)
    fits = bool((near & (whole >= 0) & (whole <= levels - 1)).all())
    low, high = given.double().aminmax()
    allowed = f"whole levels from 0 to {levels - 1}, or such levels scaled to [-1, 1] of a real "
    allowed += "type that can tell them apart, not resized or made noisy"
    fits = fits and (given.dtype != torch.bool or levels == 2)
    check(fits, "the images have values", f"from {low:g} to {high:g} of {given.dtype}", allowed)
    return whole
