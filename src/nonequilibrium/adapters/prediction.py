"""From a network's prediction to p(x^{t−1}|x^t), with a fixed or a learned variance.

A prediction stands for an estimate x̂^0 of the data, and μ is the mean of q(x^{t−1}|x^t, x̂^0):

    noise ε     x̂^0 = (x^t − √(1−ᾱ_t) ε)/√ᾱ_t       (Ho et al. 2020)
    velocity v  x̂^0 = √ᾱ_t x^t − √(1−ᾱ_t) v          (Salimans & Ho 2022)
    score s     x̂^0 = (x^t + (1−ᾱ_t) s)/√ᾱ_t         (s = ∂log q(x^t)/∂x^t)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.errors import AdapterError, Refusal, one_line

PREDICTS = ("noise", "x0", "velocity", "score", "mean")
VARIANCES = ("fixed_small", "fixed_large", "learned_range", "learned", "learned_log")
LARGEST = 1e10  # of |μ| and σ², where data lie in [−1, 1]: KL_t of float32 stays finite
Clip = float | Callable[[Tensor], Tensor] | None


class Adapted(NamedTuple):
    """The two halves of a model, which every bound and sampler of the package takes."""

    kernel: GaussianKernel
    reverse: Callable[[Tensor, Tensor | int], Normal]  # also at t = 1, for the last step


@dataclass(eq=False)
class PredictedReverse:
    """A reverse made of somebody's network; see ``from_function`` for its parts.

    device: of the network's weights, None if it has none. x^t goes there, and μ and Σ come back.
    """

    kernel: GaussianKernel
    function: Callable[[Tensor, Tensor], Tensor]
    predicts: str
    variance: str
    clip: Clip
    first_var: float | None
    network: nn.Module | None

    def __post_init__(self):
        for name, known in (("predicts", PREDICTS), ("variance", VARIANCES)):
            value, words = getattr(self, name), f"one of {', '.join(known)}"
            check(value in known, f"{name} is", repr(value), words)
        clip, kernel = self.clip, self.kernel
        module = self.function if self.network is None else self.network
        fits = clip is None or callable(clip) or (isinstance(clip, int | float) and clip > 0)
        check(fits, "clip is", repr(clip), "None, a positive number or a function")
        # The posterior's variance is 0 at t = 1; Ho et al. (2020) take that of t = 2.
        first = float(kernel.posterior_var[2]) if self.first_var is None else self.first_var
        fits = isinstance(first, int | float) and 0 < first < math.inf
        check(fits, "first_var is", repr(first), "a positive number")
        self.network = module if isinstance(module, nn.Module) else None
        parameters = self.network.parameters() if self.network is not None else ()
        weight = next((p for p in parameters if p.is_floating_point()), None)
        self.device = None if weight is None else weight.device
        self.dtype = None if weight is None else weight.dtype
        self.small, self.large = kernel.posterior_var.clone(), kernel.beta.clone()
        self.small[1] = first
        if self.variance == "fixed_large":  # a learned range reaches up to β_1 at t = 1
            self.large[1] = first

    def __call__(self, xt: Tensor, t: Tensor | int) -> Normal:
        """p(x^{t−1}|x^t), t in 1..T: xt (*t.shape, ..., event) to mean and var, spread like it.

        Differentiable in xt where xt asks for it. Raises AdapterError for answers of another kind.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and xt.requires_grad):
            out, second = self._predicted(xt, t), None
            if self.variance.startswith("learned"):
                out, second = out.chunk(2, dim=xt.dim() - self.kernel.event_dim)
            p = Normal(self._mean(xt, t, out), self._var(xt, t, second))
        for name, value, least in (("mean", p.mean, -LARGEST), ("variance", p.var, 1e-30)):
            low, high = (float(x) for x in value.detach().aminmax())
            words, allowed = f"from {low:g} to {high:g}", f"between {least:g} and {LARGEST:g}"
            check(least <= low <= high <= LARGEST, f"the network gives a {name}", words, allowed)
        return p

    def _predicted(self, xt: Tensor, t: Tensor | int) -> Tensor:
        """The network's answer, in xt's dtype, on its device and with its leading axes."""
        axes, t = self.kernel.event_dim, torch.as_tensor(t)
        lead, event = xt.shape[: xt.dim() - axes], xt.shape[xt.dim() - axes :]
        s = t.reshape(t.shape + (1,) * (len(lead) - t.dim())).expand(lead).reshape(-1) - 1
        device, dtype = self.device or xt.device, self.dtype or xt.dtype
        x = xt.reshape(-1, *event).to(device, dtype, copy=True)  # a network may work in place
        try:
            with evaluating(self.network):
                out = self.function(x, s.to(device))
        except (Refusal, torch.OutOfMemoryError):
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            words = f"the network cannot be called with x^t and the step alone ({one_line(error)})"
            raise AdapterError(f"{words}; give a function of both that adds the rest") from error
        channels = event[0] * (2 if self.variance.startswith("learned") else 1)
        out = _like("the network", out, (len(s), channels, *event[1:]))
        return out.to(xt.device, xt.dtype).reshape(*lead, channels, *event[1:])

    def _mean(self, xt: Tensor, t: Tensor | int, out: Tensor) -> Tensor:
        if self.predicts == "mean":
            return out
        kernel, left = self.kernel, self.kernel.one_minus_alpha_bar
        signal, x0 = kernel.at(kernel.alpha_bar.sqrt(), t, xt), out
        if self.predicts == "noise":
            x0 = (xt - kernel.at(left.sqrt(), t, xt) * out) / signal
        elif self.predicts == "score":
            x0 = (xt + kernel.at(left, t, xt) * out) / signal
        elif self.predicts == "velocity":
            x0 = signal * xt - kernel.at(left.sqrt(), t, xt) * out
        if callable(self.clip):
            x0 = _like("the clip function", self.clip(x0), tuple(x0.shape)).to(xt)
        elif self.clip is not None:
            x0 = x0.clamp(-self.clip, self.clip)
        return kernel.q_posterior(x0, xt, t).mean

    def _var(self, xt: Tensor, t: Tensor | int, out: Tensor | None) -> Tensor:
        small, large = self.kernel.at(self.small, t, xt), self.kernel.at(self.large, t, xt)
        if out is None:
            return small if self.variance == "fixed_small" else large
        if self.variance != "learned_range":
            return out if self.variance == "learned" else out.exp()
        share = (out + 1) / 2  # linear in the logarithm (Nichol & Dhariwal 2021)
        return torch.exp(share * large.log() + (1 - share) * small.log())


def check(fits: bool, name: str, value, allowed: str) -> None:
    """Raises AdapterError, in one sentence, unless the value of this name ``fits``."""
    if not fits:
        verb = "they must be" if name.startswith("the images") else "it must be"
        raise AdapterError(f"{name} {value}; {verb} {allowed}")


def kind(value) -> str:
    """Words for a value: its type, with dtype and shape where it has them."""
    of = f" of {value.dtype} and shape {tuple(value.shape)}" if hasattr(value, "dtype") else ""
    return f"a {type(value).__name__}{of}"


def _like(who: str, out, shape: tuple[int, ...]) -> Tensor:
    """``out``, a real tensor of this shape; raises AdapterError."""
    fits = isinstance(out, Tensor) and out.shape == shape and out.is_floating_point()
    check(fits, f"{who} returned", kind(out), f"a real tensor of shape {shape}")
    return out


@contextlib.contextmanager
def evaluating(network: nn.Module | None) -> Iterator[None]:
    """Inside, without dropout and the like; afterwards every part of the network is as it was."""
    training = [] if network is None else [part for part in network.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def numbers(name: str, given) -> Tensor:
    """The values of a schedule, (T,) float64; raises AdapterError."""
    try:
        values = torch.tensor(getattr(given, "tolist", lambda: given)(), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        values = torch.zeros(())
    fits = values.dim() == 1 and len(values) > 1
    check(fits, f"{name} is", kind(given), "the schedule's T real values, T > 1")
    return values


def chain(betas, alphas_cumprod, event_dim: int, predicts: str) -> GaussianKernel:
    """The forward chain of β_1..β_T or of ᾱ_1..ᾱ_T, one of which is given. Raises AdapterError."""
    if (betas is None) == (alphas_cumprod is None):
        raise AdapterError("give either betas or alphas_cumprod, T values, and not both")
    whole = isinstance(event_dim, int) and not isinstance(event_dim, bool) and event_dim > 0
    check(whole, "event_dim is", repr(event_dim), "a whole number of at least 1")
    name = "betas" if alphas_cumprod is None else "alphas_cumprod"
    values = numbers(name, betas if alphas_cumprod is None else alphas_cumprod)
    if alphas_cumprod is not None:
        values = 1 - values / torch.cat([torch.ones(1, dtype=torch.float64), values[:-1]])
    if values[-1] == 1:
        if predicts in ("noise", "score"):
            raise AdapterError(
                f"{name} leaves no signal at its end (β_T = 1), where a {predicts} says nothing of "
                "x^0 and the bound is infinite; a predicted velocity or x0 has a finite one"
            )
        values[-1] = math.nextafter(1, 0)  # the limit, to the last digit
    try:
        return GaussianKernel(values, event_dim)
    except ValueError as error:
        raise AdapterError(f"{name} is no schedule: {error}") from None


def from_function(
    function: Callable[[Tensor, Tensor], Tensor],
    betas=None,
    alphas_cumprod=None,
    predicts: str = "noise",
    variance: str = "fixed_small",
    clip: Clip = None,
    first_var: float | None = None,
    event_dim: int = 3,
    network: nn.Module | None = None,
) -> Adapted:
    """A model that is a function (x^t, s) with s = t − 1 in 0..T−1: x^t (n, event), s (n,) whole.

    betas or alphas_cumprod: the schedule, T values.
    predicts: what it returns, (n, event): "noise", "x0", "velocity", "score", or μ itself ("mean").
    variance: "fixed_small" is that of q(x^{t−1}|x^t,x^0) and "fixed_large" is β_t (Ho et al. 2020).
        With the others the function returns twice as many channels, whose second half is the
        variance ("learned"), its logarithm ("learned_log"), or a number from −1 to 1 between the
        two fixed ones ("learned_range", Nichol & Dhariwal 2021).
    clip: the estimated x^0 is clamped to ±clip, or changed by a function, as a part of the model.
    first_var: the (smaller) variance at t = 1, for the later papers' last step; None: as t = 2.
    event_dim: axes of an example, 3 for images, 1 for points.
    network: whose dropout is switched off and whose device is used; a function that is a Module is
        its own. Raises AdapterError.
    """
    check(callable(function), "the model is", kind(function), "a function of (x^t, s)")
    kernel, parts = chain(betas, alphas_cumprod, event_dim, predicts), (predicts, variance, clip)
    return Adapted(kernel, PredictedReverse(kernel, function, *parts, first_var, network))
