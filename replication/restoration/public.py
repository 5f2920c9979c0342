"""Samplers of a posterior, ours and those of public libraries, on the problems of ``exact``.

    nonequilibrium measure exact_posteriors

Each is its library's own class, on the library's own scale, with the exact denoiser in place of a
network. The libraries are an extra, `pip install nonequilibrium[peers]`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.diffusion.denoise import denoised
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.particles import Collapsed, particles
from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule
from replication.measure.measured import Measured
from replication.measure.metrics import seeded
from replication.restoration.exact import Mixture, Problem, judged, problems

NAME, BASELINE = "exact_posteriors", "exact posterior, no r"
Drawn = tuple[Tensor, int] | None  # samples (n, d), calls of the denoiser; None: not applicable


class Counted(torch.nn.Module):
    """The denoiser E[x^0|x^0 + noise of deviation sigma] of a law, and how often it was called."""

    def __init__(self, law: Mixture):
        super().__init__()
        self.law, self.calls = law, 0

    def forward(self, x: Tensor, sigma, *_, **__) -> Tensor:
        self.calls += 1
        var = torch.as_tensor(sigma).double().flatten()[0] ** 2
        return self.law.given_noisy(x.flatten(1).double(), var)[0].reshape(x.shape).to(x.dtype)


def ours(problem: Problem, n: int, seed: int, way: str, T: int = 100, number: int = 0) -> Drawn:
    """Our samplers; number: of conjugate-gradient steps, of renewed steps, or of particles."""
    kernel = GaussianKernel(schedule("even_log_snr", T, beta_1=1e-4, alpha_bar_T=1e-4), event_dim=3)
    A, var, random, calls = problem.A, problem.var, seeded(seed), 0
    plain, hole = A is None, problem.is_hole
    exact = (problem.posterior if way == BASELINE else problem.law).reverse(kernel)

    def reverse(xt: Tensor, t: int):
        nonlocal calls
        calls += 1
        return exact(xt, t)

    shape, mask = (n, *problem.shape), Mask(torch.ones(problem.shape).bool()) if plain else A
    y = problem.y.expand(n * (number if way == "particles" else 1), *problem.y.shape)
    draw = partial(sample, kernel, reverse, shape, random)
    if way == BASELINE:
        x = draw()
    elif way == "exact chain" and plain:
        x = denoised(kernel, reverse, y, var, random)
    elif way == "through the model":
        r = Through(reverse, mask, y, var, number)
        x = sample(kernel, Through.skip, shape, random, r=r)
    elif way in ("constant r", "annealed r") and plain:
        x = draw(r=Denoise(y, var, way == "annealed r"))
    elif way in ("constant r", "replacement", "re-noised") and hole:
        x = draw(r=Inpaint(y, A.known, way != "constant r"), times=number)
    elif way == "particles":
        r = Denoise(y, var, True) if plain else Through(exact, mask, y, var)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Collapsed)
            found = particles(kernel, reverse, (n, number, *problem.shape), random, r)
        x = found.sample(random)
    else:
        return None
    return x.flatten(1), calls


def deepinv(problem: Problem, n: int, seed: int, way: str, T: int = 100, **options) -> Drawn:
    """Samplers of deepinv, whose images lie in [0, 1]: ours at 0.5 + 0.2 x."""
    dinv, scale, shift = import_module("deepinv"), 0.2, 0.5
    law = problem.posterior if way == BASELINE else problem.law
    model, s = Counted(law.scaled(scale, shift)), dinv.sampling
    noise, A = dinv.physics.GaussianNoise(sigma=scale * problem.var**0.5), problem.A
    ones, shape = torch.ones(1, *problem.shape).double(), (n, *problem.shape)
    y = scale * problem.y + shift * (ones if A is None else A(ones))[0]
    y = y.float().expand(n, *y.shape)
    if A is None:
        physics: Any = dinv.physics.Denoising(noise)
    elif isinstance(A, Mask):
        mask = A.known.float()
        physics = dinv.physics.Inpainting(img_size=problem.shape, mask=mask, noise_model=noise)
    else:
        adjoint = dinv.physics.adjoint_function(A, shape)
        physics = dinv.physics.LinearPhysics(A=A, A_adjoint=adjoint, noise_model=noise)
    torch.manual_seed(seed)
    if way == "DDRM":
        if not isinstance(physics, dinv.physics.DecomposablePhysics):
            return None
        x = s.DDRM(model, **options)(y, physics)
    elif way == "DiffPIR":
        with_L2 = s.DiffPIR(model, dinv.optim.data_fidelity.L2(), **options)
        x = with_L2(y, physics, x_init=physics.A_adjoint(y))
    elif way == "DPS":
        x = s.DPS(model, **options)(y, physics, x_init=shape)
    else:
        terms = {"ΠGDM": s.PiGDMDataFidelity, "moment matching": s.MomentMatchingDataFidelity}
        term = None if way == BASELINE else terms[way](**options)
        solver = s.DDPMSolver(timesteps=torch.linspace(1, 0, T))
        sde = s.VariancePreservingDiffusion()
        x = s.PosteriorDiffusion(term, model, sde, solver)(y, physics, x_init=shape)
    return x.flatten(1).double().sub(shift).div(scale), model.calls


def azula(problem: Problem, n: int, seed: int, way: str, batch: int = 0, **options) -> Drawn:
    """Samplers of azula, whose images lie in [−1, 1]: ours at 0.4 x; batch: samples at a time."""
    g, samplers, base = (import_module(f"azula.{m}") for m in ("guidance", "sample", "denoise"))
    scale, matrix, seen = 0.4, problem.matrix, problem.seen.flatten()
    law = problem.posterior if way in (BASELINE, "DDIM, " + BASELINE) else problem.law
    model, var = Counted(law.scaled(scale, 0.0)), scale**2 * problem.var
    y, steps = scale * problem.y.flatten()[seen], {"silent": True, "dtype": torch.float64}

    class Exact(base.Denoiser):
        schedule = import_module("azula.noise").VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor, **_):
            alpha, sigma = self.schedule(t)
            return base.DiracPosterior(model(x_t / alpha, sigma / alpha))

    def A(x: Tensor) -> Tensor:
        return x @ matrix.mT

    def twist(x: Tensor, sigma: Tensor) -> Tensor:  # ΠGDM's variance for data of variance 0.16
        spread = var + sigma**2 * scale**2 / (sigma**2 + scale**2)
        return torch.distributions.Normal(A(x), spread.sqrt()).log_prob(y)

    steps |= {key: options.pop(key) for key in ("steps", "eta", "zeta") if key in options}
    exact, pinv = Exact(), torch.linalg.pinv(matrix)
    noise = import_module("azula.linalg.covariance").IsotropicCovariance(var)
    if way == "RePaint":
        if not problem.is_hole:
            return None
        full = scale * problem.y.flatten()
        sampler = g.RePaintSampler(exact, full, seen, **options, **steps)
    elif way == "DPS":
        sampler = g.DPSSampler(exact, y, A, **steps)
    elif way == "ΠGDM":
        sampler = g.PGDMSampler(exact, y, A, lambda v: v @ pinv.mT, **steps)
    elif way == "TDS":
        sampler = g.TDSSampler(exact, twist, **steps)
    else:
        guided = {
            "MMPS": lambda: g.MMPSDenoiser(exact, y, A, noise, **options),
            "TMPD": lambda: g.TMPDenoiser(exact, y, A, var),
            "DiffPIR": lambda: g.DiffPIRDenoiser(exact, y, A, var, **options),
        }.get(way, lambda: exact)()
        kind = samplers.DDIMSampler if way.startswith("DDIM") else samplers.DDPMSampler
        sampler = kind(guided, **steps)
    torch.manual_seed(seed)
    many, size = n // (batch or n), (batch or n, matrix.shape[1])
    parts = [sampler(sampler.init(size, dtype=torch.float64)) for _ in range(many)]
    return torch.cat(parts) / scale, model.calls // many


def repaint(problem: Problem, n: int, seed: int, steps: int = 250, **jumps) -> Drawn:
    """RePaint as diffusers' scheduler has it, images in [−1, 1]: ours at 0.4 x; holes only."""
    if not problem.is_hole:
        return None
    chain, scale, known = import_module("diffusers").RePaintScheduler(), 0.4, problem.seen.float()
    model, generator = Counted(problem.law.scaled(scale, 0.0)), seeded(seed)
    chain.set_timesteps(steps, **jumps)
    original = (scale * problem.y).float().expand(n, *problem.shape)
    x, last = torch.randn(original.shape, generator=generator), steps * 1000
    for t in chain.timesteps.tolist():
        if t < last:
            signal = chain.alphas_cumprod[t]
            x0 = model(x / signal.sqrt(), ((1 - signal) / signal).sqrt())
            noise = (x - signal.sqrt() * x0) / (1 - signal).sqrt()
            x = chain.step(noise, t, x, original, known, generator).prev_sample
        else:
            x = chain.undo_step(x, last, generator)
        last = t
    return x.flatten(1).double() / scale, model.calls


SAMPLERS: dict[str, Callable[..., Drawn]] = {
    BASELINE: partial(ours, way=BASELINE),
    "constant r": partial(ours, way="constant r"),
    "annealed r": partial(ours, way="annealed r"),
    "replacement": partial(ours, way="replacement"),
    **{f"re-noised, {k} times": partial(ours, way="re-noised", number=k) for k in (1, 10, 100)},
    "exact chain": partial(ours, way="exact chain"),
    **{
        f"through the model, {k} solves": partial(ours, way="through the model", number=k)
        for k in (0, 5)
    },
    **{f"particles, {k}": partial(ours, way="particles", number=k) for k in (1, 16, 256)},
    **{f"deepinv {way}": partial(deepinv, way=way) for way in (BASELINE, "DPS")},
    "deepinv DPS, annealed": partial(deepinv, way="DPS", guidance="annealed"),
    **{
        f"deepinv {way}": partial(deepinv, way=way)
        for way in ("ΠGDM", "moment matching", "DDRM", "DiffPIR")
    },
    "deepinv moment matching, 20 solves": partial(deepinv, way="moment matching", cg_max_iter=20),
    **{
        f"azula {way}": partial(azula, way=way)
        for way in (
            BASELINE,
            "DDIM, " + BASELINE,
            "DPS",
            "ΠGDM",
            "MMPS",
            "TMPD",
            "TDS",
            "DiffPIR",
            "RePaint",
        )
    },
    "azula DPS, one at a time": partial(azula, way="DPS", batch=1),
    "azula MMPS, 8 solves, 1,000 steps": partial(azula, way="MMPS", iterations=8, steps=1000),
    "diffusers RePaint": repaint,
}
PEERS = ("deepinv", "azula", "diffusers")
