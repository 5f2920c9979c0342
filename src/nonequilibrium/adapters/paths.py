"""Every Gaussian path x_τ = a_τ x^0 + σ_τ ε as a chain, by the name of the network that follows it:
divided by √(a²+σ²) it has the marginals of one with ᾱ = a²/(a²+σ²). The levels (T,) at which it is
cut may have any order. changes: arguments of ``from_function``. All raise AdapterError.
"""

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from nonequilibrium.adapters.checks import check, kind, numbers
from nonequilibrium.adapters.libraries import adapted
from nonequilibrium.adapters.prediction import Adapted, PredictedReverse, Scaled, from_function
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.thinning import even, thin


def from_edm(denoiser: Callable[..., Tensor], sigmas, **changes) -> Adapted:
    """D(x; σ), the estimate of x^0 from x = x^0 + σε (Karras et al. 2022); sigmas: the levels."""
    sigma = numbers("sigmas", sigmas)
    return _path(denoiser, sigma, 1 + 0 * sigma, sigma, lambda x, a, s, out: out, changes)


def from_ve(score: Callable[..., Tensor], sigmas, **changes) -> Adapted:
    """s(x, σ), the score of x = x^0 + σε, variance exploding (Song et al. 2021)."""
    sigma = numbers("sigmas", sigmas)
    return from_score(score, sigma, 1 + 0 * sigma, sigma, **changes)


def from_score(score: Callable[..., Tensor], times, signal, noise, **changes) -> Adapted:
    """s(x, τ), the score of x = a x^0 + σε: its times τ, and a (signal) and σ (noise) at these."""
    a, sigma = numbers("signal", signal), numbers("noise", noise)
    check(bool((a > 0).all()), "signal is from", f"{float(a.min()):g}", "above 0 for a score")
    return _path(score, times, a, sigma, lambda x, a, s, out: (x + s**2 * out) / a, changes)


def from_flow(velocity: Callable[..., Tensor], times, data_at: int = 1, **changes) -> Adapted:
    """v(x, τ) of flow matching on straight lines: x = τ x^0 + (1−τ) ε, v = x^0 − ε (Lipman 2023).

    times: τ of the levels, between 0 and 1. data_at: 0 where the network's time counts from the
    data instead, so that x = (1−τ) x^0 + τε and v = ε − x^0, as in rectified flows.
    """
    check(data_at in (0, 1), "data_at is", repr(data_at), "0 or 1, the time of the data")
    times, sign = numbers("times", times), 2 * data_at - 1
    a = times if data_at else 1 - times
    fits = bool(((a >= 0) & (a < 1)).all())
    check(fits, "times are", f"{times.min():g} to {times.max():g}", "within 0 and 1, without data")
    return _path(velocity, times, a, 1 - a, lambda x, a, s, out: x + sign * s * out, changes)


def _path(network, times, signal: Tensor, noise: Tensor, x0_from, changes) -> Adapted:
    """x0_from: the estimate of x^0 from x_τ, a, σ and the network's answer, all float32."""
    check(callable(network), "the model is", kind(network), "a function of (x, time)")
    times = numbers("times", times)
    lengths = len(times), len(signal), len(noise)
    check(len({*lengths}) == 1, "times, signal and noise have", lengths, "of one length")
    check(bool((noise > 0).all()), "the least noise is", f"{float(noise.min()):g}", "above 0")
    alpha_bar = signal**2 / (signal**2 + noise**2)
    order = alpha_bar.argsort(descending=True)
    levels = [values[order] for values in (signal, noise, times)]

    def estimate(x: Tensor, s: Tensor, *given, **named) -> Tensor:
        a, sigma, tau = (values.to(x.device)[s].to(x.dtype) for values in levels)
        a, sigma = (values.reshape(-1, *(1,) * (x.dim() - 1)) for values in (a, sigma))
        path, low = x * (a**2 + sigma**2).sqrt(), weights or x.dtype  # of its weights, if any
        out = network(path.to(low, copy=True), tau.to(low), *given, **named)
        own, rest = out.to(x.dtype).tensor_split([x.shape[1]], 1)  # rest: of a learned variance
        return torch.cat([x0_from(path, a, sigma, own), rest], 1) if own.shape == x.shape else out

    settings = {"alphas_cumprod": alpha_bar[order], "predicts": "x0", "network": network}
    kernel, reverse = from_function(estimate, **(settings | changes))
    assert isinstance(reverse, PredictedReverse)
    # The path is followed in the precision of x^t; only the network may have less.
    weights, reverse.dtype = reverse.dtype, None
    return Adapted(kernel, reverse)


def fewer(model, steps: int | list[int]) -> Adapted:
    """The chain of some of a model's T steps, as a sampler with fewer steps runs it: evenly spaced
    with both ends, or those given, rising from 1 to at most T.

    A fixed variance, or the two between which a learned one lies, are those of the shorter chain;
    another learned one gains the longer step's share, see ``thin``.
    """
    kernel, reverse = adapted(model)
    kept = even(kernel.T, steps) if isinstance(steps, int) else list(steps)
    rises = len(kept) > 1 and all(s < t for s, t in pairwise([0, *kept, kernel.T + 1]))
    check(rises, "the steps to keep are", kept, f"at least two and rise within 1 to {kernel.T}")
    kernel = GaussianKernel(kernel.beta[1 : kept[-1] + 1], kernel.event_dim)
    own = getattr(reverse, "variance", None) in ("learned", "learned_log")
    if isinstance(reverse, PredictedReverse) and reverse.predicts != "mean" and not own:
        function, asked = reverse.function, torch.tensor(kept) - 1

        def at_kept(x: Tensor, s: Tensor, *given, **named) -> Tensor:
            return function(x, asked.to(s.device)[s], *given, **named)

        beta = -torch.diff(kernel.log_alpha_bar[[0, *kept]]).expm1().clamp(2**-53 - 1)
        shorter = GaussianKernel(beta, kernel.event_dim)
        respaced = dataclasses.replace(reverse, kernel=shorter, function=at_kept)
        respaced.dtype = reverse.dtype
        return Adapted(shorter, respaced)
    if isinstance(reverse, Scaled):
        shorter, thinned = thin(kernel, reverse.reverse, kept)
        return Adapted(shorter, Scaled(thinned, reverse.scale))
    return Adapted(*thin(kernel, reverse, kept))
