"""Posteriors of Gaussian rows beside exact ones, and what particles give back of the Z̃_t left out.

Divergences are in nats, from the exact posterior of the data's law. That of the model is a little
off it because of its T steps, which no number of particles mends.
"""

from __future__ import annotations

import itertools
import warnings

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.particles import Collapsed, Particles, particles
from nonequilibrium.diffusion.posterior import Denoise
from replication.measure.metrics import seeded
from replication.settings.settings import profile as sizes_of
from replication.theory.gaussian_row import Row

CORRELATION, VAR = 0.9, 1.0  # between neighbours; of the noise in y, a signal-to-noise ratio of 1
PAIR = 2.0, 0.0  # y of two pixels
BACK_AND_FORTH = 0, 1, 4, 16, 64


def posteriors(profile: str, seed: int = 7) -> dict:
    """Posteriors beside exact ones; reports/metrics/posteriors.json. Raises ParameterError."""
    sizes = sizes_of("theory", profile)["row"]
    rows = row_divergences(sizes["correlations"], sizes["sizes"])
    return {"profile": profile, "seed": seed, "row": rows}


def row_divergences(correlations, sizes) -> list[dict]:
    """KL to the exact posterior of each way of inpainting, nats: a row per correlation, T, way."""
    rows = []
    for correlation, T in itertools.product(correlations, sizes):
        row = Row(correlation, T)
        for way, make in row.ways().items():
            KL = row.expected_kl(*row.propagated(make))
            rows.append({"correlation": correlation, "T": T, "way": way, "KL": KL})
    return rows


# ---------------------------------------------------------------- particles


def weighted(profile: str, seed: int = 7) -> dict:
    """``particles`` in reports/metrics/posteriors.json. Raises ParameterError.

    Rows are the law of one sample, drawn by its weight from a run of n particles; n = 1 is the
    paper's recipe. "renoised": replacement, each step gone back and forth.
    """
    sizes, forth = sizes_of("weighted", profile), []
    for correlation in sizes["correlations"]:
        row = Row(correlation, 50)
        for times in BACK_AND_FORTH:
            kl = row.expected_kl(*row.propagated(row.ways()["replacement"], times))
            forth.append({"correlation": correlation, "times": times, "KL": kl})
    rows = {"pair": pair_rows(**sizes["pair"], seed=seed)}
    rows["row"] = row_rows(**sizes["row"], seed=seed)
    return {name: {"rows": part} for name, part in rows.items()} | {"renoised": forth}


def run(row: Row, runs: int, n: int, r: Factor, seed: int) -> Particles:
    """Particles of a row of pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Collapsed)  # which the rows show
        return particles(row.kernel, row.reverse, (runs, n, len(row.C)), seeded(seed), r)


def divergence(drawn: Particles, mean: Tensor, cov: Tensor) -> float:
    """KL of the law of one sample, by its mean and covariance, from N(mean, cov), nats."""
    square = drawn.x[..., None] * drawn.x[..., None, :]
    m = drawn.expectation(drawn.x).mean(0)
    S = drawn.expectation(square).mean(0) - m[:, None] * m
    trace = torch.linalg.solve(cov, S + (m - mean)[:, None] * (m - mean)).trace()
    return float(0.5 * (trace - len(m) + torch.logdet(cov) - torch.logdet(S)))


def pair_rows(sizes, counts, draws: int, seed: int) -> list[dict]:
    """Two pixels seen in noise, by r, T and number of particles."""
    y, rows = torch.tensor(PAIR, dtype=torch.float64), []
    for T in sizes:
        row = Row(CORRELATION, T, 2, 0)
        gain = row.C @ torch.linalg.inv(row.C + VAR * torch.eye(2, dtype=torch.float64))
        exact = gain @ y, row.C - gain @ row.C  # of x^0 ~ N(0, C) given y = x^0 + noise
        for way, annealed in (("constant r", False), ("annealed r", True)):
            for n in counts:
                drawn = run(row, draws // n, n, Denoise(y, VAR, annealed), seed + T)
                KL = divergence(drawn, *exact)
                rows.append({"way": way, "T": T, "particles": n, "KL": KL})
    return rows


def row_rows(T: int, counts, draws: int, seed: int) -> list[dict]:
    """The same for a row of 32 pixels: how many particles have descendants."""
    row, random, rows = Row(CORRELATION, T, 32, 0), seeded(seed), []
    white, noise = (torch.randn(32, generator=random, dtype=torch.float64) for _ in range(2))
    y = torch.linalg.cholesky(row.C) @ white + VAR**0.5 * noise
    seen = Mask(torch.ones(32, dtype=torch.bool))
    for n in counts:
        few = draws // 4 // n  # derivatives through the reverse, eight per step
        through = Through(row.reverse, seen, y.expand(few * n, 32), VAR, solve=8)
        constant: Factor = Denoise(y, VAR)
        ways = ("constant r", draws // n, constant), ("through the model", few, through)
        for way, runs, r in ways:
            ancestors = float(run(row, runs, n, r, seed + n).ancestors.double().mean())
            rows.append({"way": way, "T": T, "particles": n, "ancestors": ancestors})
    return rows
