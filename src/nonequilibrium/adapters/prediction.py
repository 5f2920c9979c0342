"""From what a network predicts to p(x^{t−1}|x^t): noise, x^0, velocity, score or the mean itself,
with a fixed or a learned variance.

Whatever is predicted stands for an estimate x̂^0 of the data, and μ is the mean of q(x^{t−1}|x^t,
x̂^0):

    noise ε     x̂^0 = (x^t − √(1−ᾱ_t) ε)/√ᾱ_t       (Ho et al. 2020)
    velocity v  x̂^0 = √ᾱ_t x^t − √(1−ᾱ_t) v          (Salimans & Ho 2022)
    score s     x̂^0 = (x^t + (1−ᾱ_t) s)/√ᾱ_t         (s = ∂log q(x^t)/∂x^t)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.errors import AdapterError

PREDICTS = ("noise", "x0", "velocity", "score", "mean")
VARIANCES = ("fixed_small", "fixed_large", "learned_range", "learned", "learned_log")
Clip = float | Callable[[Tensor], Tensor] | None


class Adapted(NamedTuple):
    """The two halves of a model, which every bound and sampler of the package takes.

    The reverse also answers at t = 1, where it gives the Gaussian from which the later papers' last
    step takes its probabilities.
    """

    kernel: GaussianKernel
    reverse: Callable[[Tensor, Tensor | int], Normal]


class PredictedReverse:
    """A reverse made of somebody's network; see ``from_function`` for what its parts mean.

    device: where the network's weights are, None if it has none. x^t goes there and μ and Σ come
    back to where x^t was.
    """

    def __init__(
        self,
        kernel: GaussianKernel,
        function: Callable[[Tensor, Tensor], Tensor],
        predicts: str = "noise",
        variance: str = "fixed_small",
        clip: Clip = None,
        first_var: float | None = None,
        network: nn.Module | None = None,
    ):
        for name, value, allowed in (
            ("predicts", predicts, PREDICTS),
            ("variance", variance, VARIANCES),
        ):
            if value not in allowed:
                raise AdapterError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        if not (clip is None or callable(clip) or (isinstance(clip, int | float) and clip > 0)):
            raise AdapterError(
                f"clip is {clip!r}; it must be None, a positive number or a function of the estimated x^0"
            )
        self.kernel, self.function, self.predicts, self.variance, self.clip = (
            kernel,
            function,
            predicts,
            variance,
            clip,
        )
        self.network = function if network is None and isinstance(function, nn.Module) else network
        weights = (
            []
            if self.network is None
            else [p for p in self.network.parameters() if p.is_floating_point()]
        )
        self.device = weights[0].device if weights else None
        self.dtype = weights[0].dtype if weights else None
        # At t = 1 the posterior's variance is 0, which gives no probabilities. Ho et al. (2020)
        # take that of t = 2.
        first = float(kernel.posterior_var[2]) if first_var is None else first_var
        if not (isinstance(first, int | float) and first > 0):
            raise AdapterError(f"first_var is {first_var!r}; it must be a positive number")
        self.small, self.large = kernel.posterior_var.clone(), kernel.beta.clone()
        self.small[1] = first
        if (
            variance == "fixed_large"
        ):  # and only then: a learned range reaches up to β_1 at t = 1 too
            self.large[1] = first

    def __call__(self, xt: Tensor, t: Tensor | int) -> Normal:
        """p(x^{t−1}|x^t), xt (*t.shape, ..., event), t in 1..T: mean of xt's shape, var of it or
        broadcastable to it.

        Differentiable in xt, as posteriors need it, where xt asks for it; the network's weights
        alone make no gradient.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and xt.requires_grad):
            out = self._predicted(xt, t)
            log_var = None
            if self.variance.startswith("learned"):
                out, log_var = out.chunk(2, dim=xt.dim() - self.kernel.event_dim)
            return Normal(self._mean(xt, t, out), self._var(xt, t, log_var))

    def _predicted(self, xt: Tensor, t: Tensor | int) -> Tensor:
        """What the network says, in xt's dtype, on its device and with its leading axes."""
        axes = self.kernel.event_dim
        lead, event = xt.shape[: xt.dim() - axes], xt.shape[xt.dim() - axes :]
        step = torch.as_tensor(t).reshape(
            torch.as_tensor(t).shape + (1,) * (len(lead) - torch.as_tensor(t).dim())
        )
        device, dtype = self.device or xt.device, self.dtype or xt.dtype
        with evaluating(self.network):
            x, s = (
                xt.reshape(-1, *event).to(device, dtype),
                (step.expand(lead).reshape(-1) - 1).to(device),
            )
            out = self.function(x, s)  # steps are counted from 0 there
        twice = 2 if self.variance.startswith("learned") else 1
        wanted = (len(x), twice * event[0], *event[1:])
        if not isinstance(out, Tensor) or out.shape != wanted:
            found = (
                f"shape {tuple(out.shape)}"
                if isinstance(out, Tensor)
                else f"a {type(out).__name__}"
            )
            raise AdapterError(
                f"the network returned {found} for x^t of shape {tuple(x.shape)}; "
                f"with the variance {self.variance!r} it must return a tensor of shape {wanted}"
            )
        return out.to(xt.device, xt.dtype).reshape(*lead, *wanted[1:])

    def _mean(self, xt: Tensor, t: Tensor | int, out: Tensor) -> Tensor:
        if self.predicts == "mean":
            return out
        kernel, alpha_bar, left = (
            self.kernel,
            self.kernel.alpha_bar,
            self.kernel.one_minus_alpha_bar,
        )
        if self.predicts == "noise":
            x0 = (xt - kernel.at(left.sqrt(), t, xt) * out) / kernel.at(alpha_bar.sqrt(), t, xt)
        elif self.predicts == "score":
            x0 = (xt + kernel.at(left, t, xt) * out) / kernel.at(alpha_bar.sqrt(), t, xt)
        elif self.predicts == "velocity":
            x0 = kernel.at(alpha_bar.sqrt(), t, xt) * xt - kernel.at(left.sqrt(), t, xt) * out
        else:
            x0 = out
        if callable(self.clip):
            x0 = self.clip(x0)
        elif self.clip is not None:
            x0 = x0.clamp(-self.clip, self.clip)
        return kernel.q_posterior(x0, xt, t).mean

    def _var(self, xt: Tensor, t: Tensor | int, out: Tensor | None) -> Tensor:
        small, large = self.kernel.at(self.small, t, xt), self.kernel.at(self.large, t, xt)
        if out is None:
            return small if self.variance == "fixed_small" else large
        if self.variance == "learned":
            return out
        if self.variance == "learned_log":
            return out.exp()
        share = (
            out + 1
        ) / 2  # Nichol & Dhariwal 2021: −1 is the smaller and 1 the larger, linear in the logarithm
        return torch.exp(share * large.log() + (1 - share) * small.log())


@contextlib.contextmanager
def evaluating(network: nn.Module | None) -> Iterator[None]:
    """Without dropout and the like; afterwards every part of the network is as it was."""
    training = [] if network is None else [part for part in network.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def chain(betas=None, alphas_cumprod=None, event_dim: int = 3) -> GaussianKernel:
    """The forward chain of a schedule, of which either β_1..β_T or ᾱ_1..ᾱ_T is given, (T,). Raises
    AdapterError.
    """
    if (betas is None) == (alphas_cumprod is None):
        raise AdapterError(
            "give either betas or alphas_cumprod, the schedule's T values, and not both"
        )
    given, name = (betas, "betas") if alphas_cumprod is None else (alphas_cumprod, "alphas_cumprod")
    try:
        values = torch.as_tensor(given).detach().double().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise AdapterError(f"{name} is {given!r}; it must be the schedule's T values") from None
    if alphas_cumprod is not None and values.dim() == 1:
        values = 1 - values / torch.cat([torch.ones(1, dtype=torch.float64), values[:-1]])
    try:
        return GaussianKernel(values, event_dim)
    except ValueError as error:
        hint = (
            "; a schedule that leaves no signal at its end has no finite bound"
            if (values == 1).any()
            else ""
        )
        raise AdapterError(f"{name} is no schedule: {error}{hint}") from None


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
    """A model that is a function (x^t, s) with s = t − 1 in 0..T−1: x^t (n, event), s (n,) whole
    numbers.

    betas or alphas_cumprod: the schedule, T values.
    predicts: what the function returns, (n, event): "noise", "x0", "velocity", "score" or "mean" (μ
    itself).
    variance: "fixed_small" is the variance of q(x^{t−1}|x^t,x^0) and "fixed_large" is β_t (Ho et
        al. 2020). With the others the function returns twice as many channels, (n, 2c, ...), and
        the second half is: for "learned_range" a number from −1 to 1 between both in the logarithm
        (Nichol & Dhariwal 2021), for "learned" the variance, for "learned_log" its logarithm.
    clip: the estimated x^0 is clamped to ±clip, or what a function makes of it; None leaves it. It
    is part of the model.
    first_var: the (smaller) variance at t = 1, which the last step of the later papers needs; that
    of t = 2 if None.
    event_dim: axes of an example, 3 for images, 1 for points.
    network: whose dropout is switched off while the function is called, and where it lies; the
    function itself if it is a Module. Raises AdapterError.
    """
    if not callable(function):
        raise AdapterError(
            f"the model is a {type(function).__name__}; it must be a function of (x^t, s)"
        )
    kernel = chain(betas, alphas_cumprod, event_dim)
    return Adapted(
        kernel, PredictedReverse(kernel, function, predicts, variance, clip, first_var, network)
    )
