"""What leaving out Z̃_t costs (22), and what particles weighted by it give back.

Rows are the law of one sample, drawn by its weight from a run of n particles; n = 1 is the paper's
recipe. Divergences are in nats, from the exact posterior of the data's law. That of the model is a
little off it because of its T steps, which no number of particles mends.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from nonequilibrium.bound.optimum import HeartbeatOptimum
from nonequilibrium.data.toys import Heartbeat
from nonequilibrium.diffusion.chain import Factor
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.particles import Collapsed, Particles, particles
from nonequilibrium.diffusion.posterior import BitFactor, Denoise, template_posterior
from replication.measure.metrics import seeded
from replication.settings.settings import profile as sizes_of
from replication.theory.gaussian_row import Row
from replication.theory.theory import evidence, heartbeat_chain

CORRELATION, VAR = 0.9, 1.0  # between neighbours; of the noise in y, a signal-to-noise ratio of 1
PAIR = 2.0, 0.0  # y of two pixels
EDGES = torch.linspace(-2, 4, 61, dtype=torch.float64)  # of the histogram of the first pixel
BACK_AND_FORTH = 0, 1, 4, 16, 64
EVIDENCE = "bits 3 and 4 are one, 9:1 each"  # no heartbeat has both


def weighted(profile: str, seed: int = 7) -> dict:
    """``particles`` in reports/metrics/posteriors.json. Raises ParameterError."""
    sizes, forth = sizes_of("weighted", profile), []
    for correlation in sizes["correlations"]:
        row = Row(correlation, 50)
        for times in BACK_AND_FORTH:
            kl = row.expected_kl(*row.propagated(row.ways()["replacement"], times))
            forth.append({"correlation": correlation, "times": times, "KL": kl})
    found = {"correlation": CORRELATION, "var": VAR, "pair": pair_rows(**sizes["pair"], seed=seed)}
    found["row"] = row_rows(**sizes["row"], seed=seed)
    return found | {"bits": bit_rows(**sizes["bits"], seed=seed), "renoised": forth}


def run(kernel, reverse, shape: tuple[int, ...], r: Factor, seed: int) -> tuple[Particles, dict]:
    """Particles of a chain, and what their weights are worth."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", Collapsed)
        drawn = particles(kernel, reverse, shape, seeded(seed), r)
    worth = {"log_Z": float(drawn.log_Z.mean()), "least_ess": float(drawn.ess.mean(1).min())}
    return drawn, worth | {"collapsed": any(w.category is Collapsed for w in heard)}


def gaussian_posterior(C: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x^0 ~ N(0, C) given y = x^0 + noise of variance VAR."""
    gain = C @ torch.linalg.inv(C + VAR * torch.eye(len(C), dtype=torch.float64))
    return gain @ y, C - gain @ C


def log_evidence(C: Tensor, y: Tensor) -> float:
    """log E r(x^0), the exact log density of y, nats."""
    seen = C + VAR * torch.eye(len(y))
    return float(torch.distributions.MultivariateNormal(torch.zeros_like(y), seen).log_prob(y))


def gaussian_kl(law: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> float:
    """KL( N(mean, cov) ‖ exact ), nats."""
    (mean, cov), (m, P) = law, exact
    trace = torch.linalg.solve(P, cov + (mean - m)[:, None] * (mean - m)).trace()
    return float(0.5 * (trace - len(m) + torch.logdet(P) - torch.logdet(cov)))


def divergence(drawn: Particles, exact: tuple[Tensor, Tensor]) -> dict[str, float]:
    """How far the law of one sample is from the exact posterior, by its mean and covariance."""
    square = drawn.x[..., None] * drawn.x[..., None, :]
    mean = drawn.expectation(drawn.x).mean(0)
    cov = drawn.expectation(square).mean(0) - mean[:, None] * mean
    return {
        "KL": gaussian_kl((mean, cov), exact),
        "mean_error": float((mean - exact[0]).square().mean().sqrt()),
        "variance_ratio": float((cov.diagonal() / exact[1].diagonal()).mean()),
        "ancestors": float(drawn.ancestors.double().mean()),
    }


def pair_rows(sizes, counts, draws: int, seed: int) -> dict:
    """Two pixels seen in noise, by r, T and number of particles; a histogram at the largest T."""
    y, rows, shapes = torch.tensor(PAIR, dtype=torch.float64), [], {}
    for T in sizes:
        row = Row(CORRELATION, T, 2, 0)
        exact = gaussian_posterior(row.C, y)
        _, C = row.propagated(lambda _: lambda kernel, p, xt, t: p)  # of x^0 of the model
        own = gaussian_kl(gaussian_posterior(C, y), exact)
        for way, annealed in (("constant r", False), ("annealed r", True)):
            for n in counts:
                r, shape = Denoise(y, VAR, annealed), (draws // n, n, 2)
                drawn, worth = run(row.kernel, row.reverse, shape, r, seed + T)
                entry = {"way": way, "T": T, "particles": n, "own_KL": own}
                rows.append(entry | worth | divergence(drawn, exact))
                if way == "constant r" and n in (1, max(counts)):
                    weight = torch.exp(drawn.log_weight).flatten() / len(drawn.x)
                    inside = torch.histogram(drawn.x[..., 0].flatten(), EDGES, weight=weight).hist
                    shapes[str(n)] = (inside / (EDGES[1] - EDGES[0])).tolist()
    histogram: dict[str, Any] = {"edges": EDGES.tolist(), "particles": shapes}
    histogram |= {"mean": float(exact[0][0]), "sd": float(exact[1][0, 0].sqrt())}
    found = {"seen": list(PAIR), "draws": draws, "log_Z": log_evidence(row.C, y)}
    return found | {"rows": rows, "histogram": histogram}


def row_rows(T: int, counts, draws: int, seed: int) -> dict:
    """The same for a row of 32 pixels: does the number of pixels defeat the particles?"""
    row, random, rows = Row(CORRELATION, T, 32, 0), seeded(seed), []
    white, noise = (torch.randn(32, generator=random, dtype=torch.float64) for _ in range(2))
    y = torch.linalg.cholesky(row.C) @ white + VAR**0.5 * noise
    exact, seen = gaussian_posterior(row.C, y), Mask(torch.ones(32, dtype=torch.bool))
    for way in ("constant r", "annealed r", "through the model"):
        for n in counts:
            r: Factor = Denoise(y, VAR, way == "annealed r")
            runs = draws // n
            if way == "through the model":
                runs = draws // 4 // n  # derivatives through the reverse, eight per step
                r = Through(row.reverse, seen, y.expand(runs * n, 32), VAR, solve=8)
            drawn, worth = run(row.kernel, row.reverse, (runs, n, 32), r, seed + n)
            entry = {"way": way, "T": T, "particles": n, "draws": runs * n}
            rows.append(entry | worth | divergence(drawn, exact))
            del rows[-1]["KL"]  # a covariance of 32 pixels takes more draws to fit than there are
    return {"pixels": 32, "log_Z": log_evidence(row.C, y), "rows": rows}


def bit_rows(sizes, counts, draws: int, seed: int) -> dict:
    """Heartbeats given contradictory bits under constant r, by T and number of particles."""
    law, log_odds, rows = Heartbeat(), evidence()[EVIDENCE], []
    templates, exact = law.templates(), template_posterior(law.templates(), log_odds)
    log_r = torch.logsumexp((templates * log_odds).sum(1), 0)
    log_Z = float(log_r - torch.log(torch.tensor(float(len(templates)))))
    for T in sizes:
        kernel = heartbeat_chain(T)
        for n in counts:
            reverse, shape = HeartbeatOptimum(kernel, law), (draws // n, n, law.dim)
            drawn, worth = run(kernel, reverse, shape, BitFactor(log_odds), seed + T)
            is_template = (drawn.x[:, :, None] == templates).all(-1).double()
            share = drawn.expectation(is_template).mean(0)
            distance = float(0.5 * ((share - exact).abs().sum() + 1 - share.sum()))
            entry = {"T": T, "particles": n, "total_variation": distance}
            rows.append(entry | {"valid": float(share.sum())} | worth)
    return {"evidence": EVIDENCE, "draws": draws, "log_Z": log_Z, "rows": rows}
