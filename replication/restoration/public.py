"""Samplers of a posterior, ours and those of public libraries, on the problems of ``exact``.

Each is its library's own class and scale, with the exact denoiser in place of a network. The
libraries are an extra, `pip install nonequilibrium[peers]`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from nonequilibrium import Denoise, GaussianKernel, sample, schedule
from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.particles import particles
from nonequilibrium.diffusion.posterior import Inpaint, denoised, excess
from replication.measure.metrics import seeded
from replication.restoration.exact import Mixture, Problem

BASELINE = "exact posterior, no r"  # its own denoiser: what is lost is lost by the chain
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
    A, var, random, calls = problem.A, problem.var, seeded(seed), []
    lengths = range(T, T + T // 2) if way == "exact chain" else [T]  # one has a step of this noise
    betas = (schedule("even_log_snr", T, beta_1=1e-4, alpha_bar_T=1e-4) for T in lengths)
    kernel = min((GaussianKernel(beta, 3) for beta in betas), key=lambda k: excess(k, var))
    law = problem.posterior if way == BASELINE else problem.law
    shape, y = (n, *problem.shape), problem.y.expand(n, *problem.y.shape)

    def reverse(xt: Tensor, t: Any) -> Normal:
        calls.append(t)
        return law.reverse(kernel, xt, t)

    draw = partial(sample, kernel, reverse, shape, random)
    seen = Mask(torch.ones(problem.shape).bool()) if A is None else A
    if way == BASELINE:
        x = draw()
    elif way == "exact chain" and A is None:
        x = denoised(kernel, reverse, y, var, random)
    elif way == "through the model":
        x = sample(kernel, Through.skip, shape, random, r=Through(reverse, seen, y, var, number))
    elif way in ("constant r", "annealed r") and A is None:
        x = draw(r=Denoise(y, var, way == "annealed r"))
    elif way in ("constant r", "replacement", "re-noised") and problem.hole:
        x = draw(r=Inpaint(y, A.known, way != "constant r"), times=number)
    elif way == "particles":
        y, shape = y.repeat_interleave(number, 0), (n, number, *problem.shape)
        r = Denoise(y, var, True) if A is None else Through(reverse, seen, y, var)
        x = particles(kernel, reverse, shape, random, r).sample(random)
    else:
        return None
    return x.flatten(1), len(calls)


def deepinv(problem: Problem, n: int, seed: int, way: str, T: int = 100, **options) -> Drawn:
    """Samplers of deepinv, whose images lie in [0, 1]: ours at 0.5 + 0.2 x."""
    dinv, scale, shift, A = import_module("deepinv"), 0.2, 0.5, problem.A
    s, law = dinv.sampling, problem.posterior if way == BASELINE else problem.law
    model, noise = Counted(law.scaled(scale, shift)), dinv.physics.GaussianNoise
    noise, shape = noise(sigma=scale * problem.var**0.5), (n, *problem.shape)
    grey = torch.full((1, *problem.shape), shift).double()
    y = (scale * problem.y + (grey if A is None else A(grey))).float().repeat(n, 1, 1, 1)
    if A is None:
        physics = dinv.physics.Denoising(noise)
    elif isinstance(A, Mask):
        physics = dinv.physics.Inpainting(problem.shape, A.known.float(), noise_model=noise)
    else:
        back = dinv.physics.adjoint_function(A, shape)
        physics = dinv.physics.LinearPhysics(A=A, A_adjoint=back, noise_model=noise)
    torch.manual_seed(seed)
    if way == "DDRM" and not isinstance(physics, dinv.physics.DecomposablePhysics):
        return None
    elif way == "DDRM":
        x = s.DDRM(model, **options)(y, physics)
    elif way == "DiffPIR":
        x = s.DiffPIR(model, dinv.optim.data_fidelity.L2(), **options)(y, physics)
    elif way == "DPS":
        x = s.DPS(model, **options)(y, physics, x_init=shape)
    else:
        terms = {"ΠGDM": s.PiGDMDataFidelity, "moment matching": s.MomentMatchingDataFidelity}
        term = terms.get(way, lambda: None)(**options)
        chain = s.VariancePreservingDiffusion(), s.DDPMSolver(timesteps=torch.linspace(1, 0, T))
        x = s.PosteriorDiffusion(term, model, *chain)(y, physics, x_init=shape)
    return (x.flatten(1).double() - shift) / scale, model.calls


def azula(problem: Problem, n: int, seed: int, way: str, steps: int = 64, **options) -> Drawn:
    """Samplers of azula, whose images lie in [−1, 1]: ours at 0.4 x."""
    names = "guidance", "sample", "denoise", "noise", "linalg.covariance"
    g, s, base, noise, linalg = (import_module(f"azula.{name}") for name in names)
    law = problem.posterior if BASELINE in way else problem.law
    scale, M, seen = 0.4, problem.matrix, problem.seen.flatten()
    model, var, full = Counted(law.scaled(scale, 0)), scale**2 * problem.var, problem.y.flatten()
    y, chain = scale * full[seen], {"steps": steps, "silent": True, "dtype": torch.float64}

    class Exact(base.Denoiser):  # type: ignore[name-defined]
        schedule = noise.VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor, **_):
            alpha, sigma = self.schedule(t)
            return base.DiracPosterior(model(x_t / alpha, sigma / alpha))

    def A(x: Tensor) -> Tensor:
        return x @ M.mT

    def twist(x: Tensor, sigma: Tensor) -> Tensor:  # ΠGDM's variance for data of variance 0.16
        spread = var + sigma**2 * scale**2 / (sigma**2 + scale**2)
        return torch.distributions.Normal(A(x), spread.sqrt()).log_prob(y)

    exact, cov, ddpm = Exact(), linalg.IsotropicCovariance(var), partial(s.DDPMSampler, **chain)
    back = M.pinverse().mT
    makers = {
        BASELINE: lambda: ddpm(exact),
        f"DDIM, {BASELINE}": lambda: s.DDIMSampler(exact, **chain),
        "DPS": lambda: g.DPSSampler(exact, y, A, **options, **chain),
        "ΠGDM": lambda: g.PGDMSampler(exact, y, A, lambda v: v @ back, **options, **chain),
        "MMPS": lambda: ddpm(g.MMPSDenoiser(exact, y, A, cov, **options)),
        "TMPD": lambda: ddpm(g.TMPDenoiser(exact, y, A, var)),
        "TDS": lambda: g.TDSSampler(exact, twist, **chain),
        "DiffPIR": lambda: ddpm(g.DiffPIRDenoiser(exact, y, A, var, **options)),
        "RePaint": lambda: g.RePaintSampler(exact, scale * full, seen, **options, **chain),
    }
    if way == "RePaint" and not problem.hole:
        return None
    torch.manual_seed(seed)
    sampler = makers[way]()
    x = sampler(sampler.init((n, M.shape[1]), dtype=torch.float64))
    return x / scale, model.calls


LIBRARIES: dict[str, Callable[..., Drawn]] = {"ours": ours, "deepinv": deepinv, "azula": azula}
