"""From a network's prediction to p(x^{t−1}|x^t), with a fixed or a learned variance.

A prediction stands for an estimate x̂^0 of the data, and μ is the mean of q(x^{t−1}|x^t, x̂^0):

    noise ε     x̂^0 = (x^t − √(1−ᾱ_t) ε)/√ᾱ_t       (Ho et al. 2020)
    velocity v  x̂^0 = √ᾱ_t x^t − √(1−ᾱ_t) v          (Salimans & Ho 2022)
    score s     x̂^0 = (x^t + (1−ᾱ_t) s)/√ᾱ_t         (s = ∂log q(x^t)/∂x^t)
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nonequilibrium.adapters.checks import chain, check, kind, like
from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.errors import AdapterError, Refusal, one_line

PREDICTS = ("noise", "x0", "velocity", "score", "mean")
VARIANCES = ("fixed_small", "fixed_large", "learned_range", "learned", "learned_log")
LARGEST = 1e10  # of |μ| and σ², where data lie in [−1, 1]: KL_t of float32 stays finite
Clip = float | Callable[[Tensor], Tensor] | None
Given = Tensor | dict[str, Tensor] | None


class Adapted(NamedTuple):
    """The two halves of a model, which every bound and sampler of the package takes."""

    kernel: GaussianKernel
    reverse: Callable[..., Normal]  # of x^t and t; also at t = 1, for the last step


@dataclass(eq=False)
class Scaled:
    """A reverse of this package, whose x^0 is (level − scale[0])/scale[1] of noisy levels."""

    reverse: Callable[..., Normal]
    scale: tuple[float, float]
    proposal: Tensor | None = None  # (T + 1,), weights by which t is drawn, from training

    def __call__(self, xt: Tensor, t: Tensor | int) -> Normal:
        return self.reverse(xt, t)


@dataclass(eq=False)
class PredictedReverse:
    """A reverse made of somebody's network; see ``from_function`` for its parts."""

    kernel: GaussianKernel
    function: Callable[..., Tensor]
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
        first = self.first_var
        if first is None:
            # Where β rises, that of t = 2, as Ho et al. (2020) have it; on a fine chain, which
            # begins with its largest step, that would vanish.
            rises = kernel.beta[2] >= kernel.beta[1]
            first = float(kernel.posterior_var[2] if rises else kernel.beta[1])
        fits = isinstance(first, int | float) and 0 < first < math.inf
        check(fits, "first_var is", repr(first), "a positive number")
        self.network = module if isinstance(module, nn.Module) else None
        parameters = self.network.parameters() if self.network is not None else ()
        weight = next((p for p in parameters if p.is_floating_point()), None)
        # x^t goes to the network's device, and μ and Σ come back.
        self.device = None if weight is None else weight.device
        self.dtype = None if weight is None else weight.dtype  # that x^t is given in
        self.small, self.large = kernel.posterior_var.clone(), kernel.beta.clone()
        self.small[1] = first
        if self.variance == "fixed_large":  # a learned range reaches up to β_1 at t = 1
            self.large[1] = first

    def __call__(self, xt: Tensor, t: Tensor | int, given: Given = None) -> Normal:
        """p(x^{t−1}|x^t), t in 1..T: xt (*t.shape, ..., event) to mean and var, spread like it and
        differentiable in xt where xt asks for it. given: as of ``bits_per_dim``.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and xt.requires_grad):
            out, second = self._predicted(xt, t, given), None
            if self.variance.startswith("learned"):
                out, second = out.chunk(2, dim=xt.dim() - self.kernel.event_dim)
            p = Normal(self._mean(xt, t, out), self._var(xt, t, second))
        for name, value, least in (("mean", p.mean, -LARGEST), ("variance", p.var, 1e-30)):
            low, high = (float(x) for x in value.detach().aminmax())
            words, allowed = f"from {low:g} to {high:g}", f"between {least:g} and {LARGEST:g}"
            if not math.isfinite(high - low) and (torch.as_tensor(t) == 1).any():
                allowed += " (the logarithm of a step, as in Fourier features, is none at step 0)"
            check(least <= low <= high <= LARGEST, f"the network gives a {name}", words, allowed)
        return p

    def _predicted(self, xt: Tensor, t: Tensor | int, given: Given) -> Tensor:
        """The network's answer, in xt's dtype, on its device and with its leading axes."""
        axes, t = self.kernel.event_dim, torch.as_tensor(t)
        lead, event = xt.shape[: xt.dim() - axes], xt.shape[xt.dim() - axes :]
        s = t.reshape(t.shape + (1,) * (len(lead) - t.dim())).expand(lead).reshape(-1) - 1
        device, dtype = self.device or xt.device, self.dtype or xt.dtype
        x = xt.reshape(-1, *event).to(device, dtype, copy=True)  # a network may work in place
        named = given if isinstance(given, dict) else {}
        named = {name: value.to(device) for name, value in named.items()}
        unnamed = [given.to(device)] if isinstance(given, Tensor) else []
        try:
            with evaluating(self.network):
                out = self.function(x, s.to(device), *unnamed, **named)
        except (Refusal, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of whatever kind the network's author chose
            alone = "x^t and the step alone" if given is None else "x^t, the step and what is given"
            words = f"the network cannot be called with {alone} ({one_line(error)})"
            raise AdapterError(f"{words}; give a function that adds the rest") from error
        channels = event[0] * (2 if self.variance.startswith("learned") else 1)
        out = like("the network", out, (len(s), channels, *event[1:]))
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
            x0 = like("the clip function", self.clip(x0), tuple(x0.shape)).to(xt)
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


def from_function(
    function: Callable[..., Tensor],
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
    What ``bits_per_dim`` is ``given`` comes third.

    betas or alphas_cumprod: the schedule, T values.
    predicts: what it returns, (n, event): "noise", "x0", "velocity", "score", or μ itself ("mean").
    variance: "fixed_small" is that of q(x^{t−1}|x^t,x^0) and "fixed_large" is β_t (Ho et al. 2020);
        else the second half of twice as many channels is the variance ("learned"), its logarithm
        ("learned_log"), or a number from −1 to 1 between both ("learned_range", Nichol & Dhariwal).
    clip: the estimated x^0 is clamped to ±clip, or changed by a function, as a part of the model.
    first_var: the (smaller) variance at t = 1, for the later papers' last step. None: as t = 2
        where β rises (Ho et al.); 1−ᾱ_1 on a fine chain, whose first step is its largest.
    event_dim: axes of an example, 3 for images, 1 for points. network: whose dropout is switched
        off and whose device is used, by default the function. Raises AdapterError.
    """
    check(callable(function), "the model is", kind(function), "a function of (x^t, s)")
    kernel, parts = chain(betas, alphas_cumprod, event_dim, predicts), (predicts, variance, clip)
    return Adapted(kernel, PredictedReverse(kernel, function, *parts, first_var, network))
