"""What the estimators of K take: each is refused in one sentence, before any work, where the bound
would be nonsense.

A number in place of K is worse than no number: data of another chain, a variance that is not
positive, or no draws at all give figures that look like bounds and lie above the true log
likelihood.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Kernel, P, Reverse
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.errors import BoundError

REAL = (torch.float32, torch.float64)


def check_examples(kernel: Kernel, x0: Tensor, least: int = 2) -> Tensor:
    """x0 as data of this chain, (n, event) with n ≥ ``least``; whole numbers and booleans become
    float64 bits.

    Raises BoundError for another shape, NaN or infinity, bits other than 0 and 1, whole numbers for
    the Gaussian kernel.
    """
    if not isinstance(x0, Tensor):
        raise BoundError(f"the held-out data is a {type(x0).__name__}; it must be a torch tensor")
    if x0.dim() != kernel.event_dim + 1 or len(x0) < least or x0.numel() == 0:
        raise BoundError(
            f"the held-out data has shape {tuple(x0.shape)}; it must have one axis of at least "
            f"{'two examples' if least == 2 else 'one example'} and {kernel.event_dim} for one example"
        )
    if x0.device.type == "meta":
        raise BoundError(
            "the held-out data lies on the device meta, which holds no values; load it on cpu or an accelerator"
        )
    if not torch.isfinite(x0).all():
        raise BoundError(
            "the held-out data holds NaN or infinite values; every value must be finite"
        )
    if isinstance(kernel, BinomialKernel):
        # Everything about bits is linear in them, so that other values give numbers that mean
        # nothing.
        if not ((x0 == 0) | (x0 == 1)).all():
            between = "" if x0.is_complex() else f" from {x0.min().item():g} to {x0.max().item():g}"
            raise BoundError(
                f"the held-out data has values{between}; the binomial chain takes bits, 0 or 1"
            )
        return x0 if x0.dtype in REAL else (x0.real if x0.is_complex() else x0).double()
    if x0.dtype not in REAL:
        # A density of whole numbers would only tell how fine their grid is (footnote 3).
        raise BoundError(
            f"the held-out data has dtype {x0.dtype}; the Gaussian chain takes float32 or float64, "
            "and whole numbers such as grey levels need uniform noise of one level first"
        )
    return x0


def check_count(name: str, value, least: int = 1) -> int:
    """``value`` as an int; raises BoundError unless it is a whole number of at least ``least``."""
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool) or count < least:
        raise BoundError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return count


def noise_generator(generator, device: torch.device) -> torch.Generator:
    """The generator itself for data on the CPU, one seeded by it for another device.

    Raises BoundError unless it is a generator of the CPU: steps t are drawn there whatever the
    data's device.
    """
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        what = (
            f"lies on {generator.device}"
            if isinstance(generator, torch.Generator)
            else f"is {generator!r}"
        )
        raise BoundError(f"the generator {what}; it must be a torch.Generator of the CPU")
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def check_proposal(kernel: Kernel, proposal) -> Tensor:
    """Weights by which t is drawn as float64 on the CPU, of sum one; uniform over 2..T if None.
    Raises BoundError.
    """
    if proposal is None:
        proposal = torch.ones(kernel.T + 1, dtype=torch.float64)
        proposal[:2] = 0
    weight = torch.as_tensor(proposal).detach().double().cpu()
    fits = weight.shape == (kernel.T + 1,) and (weight[:2] == 0).all() and (weight[2:] > 0).all()
    if not fits or not torch.isfinite(weight.sum()):
        raise BoundError(
            f"the proposal has shape {tuple(weight.shape)}; proposal must hold {kernel.T + 1} finite weights, "
            f"zero at t < 2 and positive at t = 2..{kernel.T}"
        )
    return weight / weight.sum()


def check_typical(kernel: Kernel, typical) -> Tensor:
    """What KL_t is about as float64 on the CPU, zero at all t if None. Raises BoundError."""
    if typical is None:
        return torch.zeros(kernel.T + 1, dtype=torch.float64)
    about = torch.as_tensor(typical).detach().double().cpu()
    if about.shape != (kernel.T + 1,) or not torch.isfinite(about).all() or about[:2].any():
        raise BoundError(
            f"typical has shape {tuple(about.shape)}; it must hold {kernel.T + 1} finite values, zero at t < 2 and about KL_t above"
        )
    return about


def check_optimum(kernel: Kernel, optimum) -> None:
    """Raises BoundError if ``optimum`` says that it belongs to another chain."""
    its = getattr(optimum, "kernel", None)
    if isinstance(its, Kernel) and not (
        type(its) is type(kernel) and torch.equal(its.beta, kernel.beta)
    ):
        raise BoundError(
            f"the optimum is that of another chain (T = {its.T}); it must have this chain's β (T = {kernel.T})"
        )


def check_control(kernel: Kernel[P], control) -> tuple[Reverse[P], Tensor]:
    """(optimum, E KL* by step) with the expectations as float64 on the CPU; raises BoundError."""
    try:
        optimum, expected = control
        expected = torch.as_tensor(expected).detach().double().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise BoundError(
            "control must be a pair: an optimum and its expected KL for t = 0..T"
        ) from None
    check_optimum(kernel, optimum)
    if (
        expected.shape != (kernel.T + 1,)
        or not torch.isfinite(expected).all()
        or not callable(optimum)
    ):
        raise BoundError(
            f"the control's expectations have shape {tuple(expected.shape)}; control must hold an optimum and "
            f"{kernel.T + 1} finite values, one for each t = 0..{kernel.T}"
        )
    return optimum, expected


def checked(kernel: Kernel[P], reverse: Reverse[P]) -> Reverse[P]:
    """``reverse`` with its answers looked at: it raises BoundError where they are no parameters of
    p(x^{t−1}|x^t).
    """
    if not callable(reverse):
        raise BoundError(
            f"the reverse is a {type(reverse).__name__}; it must be a function of (x^t, t)"
        )
    names = ("logit",) if isinstance(kernel, BinomialKernel) else ("mean", "var")

    def looked_at(xt: Tensor, t: Tensor | int) -> P:
        p = reverse(xt, t)
        _check_parameters(p, names, xt)
        return p

    return looked_at


def _check_parameters(p, names: tuple, xt: Tensor) -> None:
    for name in names:
        value = getattr(p, name, None)
        if not isinstance(value, Tensor):
            raise BoundError(
                f"the reverse returned a {type(p).__name__}; it must return {' and '.join(names)} as tensors"
            )
        if not value.is_floating_point():
            raise BoundError(
                f"the reverse's {name} has dtype {value.dtype}; it must be real numbers"
            )
        # A variance may be shared by coordinates; anything else of another shape would be spread
        # without a word.
        fits = value.shape == xt.shape or (name == "var" and _spreads(value, xt))
        if not fits:
            raise BoundError(
                f"the reverse's {name} has shape {tuple(value.shape)}; it must be that of x^t, {tuple(xt.shape)}"
            )
        least, most = (
            value.detach().aminmax()
        )  # one pass where isfinite takes several; NaN goes through both
        if not (torch.isfinite(least) and torch.isfinite(most)):
            raise BoundError(
                f"the reverse's {name} holds NaN or infinite values; every value must be finite"
            )
    if names[-1] == "var" and not least > 0:
        raise BoundError(
            f"the reverse's variance is {float(least):g} somewhere; it must be positive everywhere"
        )


def _spreads(var: Tensor, xt: Tensor) -> bool:
    """Whether ``var`` has an axis for each of x^t's, of the same length or 1, or none at all."""
    return var.dim() in (0, xt.dim()) and all(
        a in (1, b) for a, b in zip(var.shape, xt.shape, strict=False)
    )
