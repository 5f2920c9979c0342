"""What leaving out Z̃_t costs (22), and what particles that count it give back: Gaussian pixels and
heartbeats beside exact posteriors.

Rows are the law of one sample, drawn by its weight from a run of n particles; n = 1 is the paper's
recipe. Divergences are in nats. The exact posterior is that of the data's law. The model's own is a
little off it, by the T steps; no number of particles mends that.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from nonequilibrium.bound.optimum import HeartbeatOptimum
from nonequilibrium.data.toys import Heartbeat
from nonequilibrium.diffusion.bit_evidence import BitFactor, template_posterior
from nonequilibrium.diffusion.chain import Factor, Kernel, Reverse
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.particles import Collapsed, Particles, particles
from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from replication.measure.metrics import seeded
from replication.settings import settings
from replication.theory.gaussian_row import Row
from replication.theory.theory import evidence, heartbeat_chain

CORRELATION, VAR = (
    0.9,
    1.0,
)  # between neighbours; of the noise in what was seen, a signal-to-noise ratio of 1
PAIR = 2.0, 0.0  # what was seen of two pixels
EDGES = torch.linspace(-2, 4, 61, dtype=torch.float64)  # of the histogram of the first pixel
BACK_AND_FORTH = 0, 1, 4, 16, 64
EVIDENCE = "bits 3 and 4 are one, 9:1 each"  # no heartbeat has both
# draws: particles of all runs together. sizes: T.


def weighted(profile: str, seed: int = 7) -> dict:
    """All that is said above; ``particles`` in reports/metrics/posteriors.json. Raises
    ParameterError for another profile.
    """
    its = settings.profile("weighted", profile)
    return {
        "correlation": CORRELATION,
        "var": VAR,
        "pair": pair_rows(**its["pair"], seed=seed),
        "row": row_rows(**its["row"], seed=seed),
        "bits": bit_rows(**its["bits"], seed=seed),
        "renoised": [
            {
                "correlation": correlation,
                "times": times,
                "KL": renoised_kl(Row(correlation, 50), times),
            }
            for correlation in its["correlations"]
            for times in BACK_AND_FORTH
        ],
    }


def run(
    chain: tuple[Kernel, Reverse], shape: tuple[int, ...], r: Factor, seed: int
) -> tuple[Particles, bool]:
    """Particles of (kernel, reverse), and whether their weights collapsed."""
    kernel, reverse = chain
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", Collapsed)
        found = particles(kernel, reverse, shape, seeded(seed), r)
    return found, any(issubclass(each.category, Collapsed) for each in heard)


# ---------------------------------------------------------------- Gaussian pixels


def own_covariance(row: Row) -> Tensor:
    """Covariance of the x^0 that the reverse chain of ``row`` draws, (d, d), exact."""
    eye = torch.eye(len(row.C), dtype=torch.float64)
    S = eye
    for t in range(row.kernel.T, 0, -1):
        p = row.kernel.p_edge(eye) if t == 1 else row.reverse(eye, t)
        S = p.mean.T @ S @ p.mean + torch.diag(p.var.expand_as(eye)[0])
    return S


def gaussian_posterior(C: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x^0 ~ N(0, C) given y = x^0 + noise of variance VAR."""
    gain = C @ torch.linalg.inv(C + VAR * torch.eye(len(C), dtype=torch.float64))
    return gain @ y, C - gain @ C


def gaussian_kl(mean: Tensor, cov: Tensor, of: tuple[Tensor, Tensor]) -> float:
    """KL( N(mean, cov) ‖ of ), nats."""
    m, P = of
    spread = cov + (mean - m)[:, None] * (mean - m)
    return float(
        0.5 * (torch.linalg.solve(P, spread).trace() - len(m) + torch.logdet(P) - torch.logdet(cov))
    )


def _measured(found: Particles, exact: tuple[Tensor, Tensor]) -> dict[str, float]:
    """How far the law of one sample is from the exact posterior, by its mean and covariance."""
    mean = found.expectation(found.x).mean(0)
    cov = (
        found.expectation(found.x[..., None] * found.x[..., None, :]).mean(0) - mean[:, None] * mean
    )
    return {
        "KL": gaussian_kl(mean, cov, exact),
        "mean_error": float((mean - exact[0]).square().mean().sqrt()),
        "variance_ratio": float((cov.diagonal() / exact[1].diagonal()).mean()),
        "log_Z": float(found.log_Z.mean()),
        "least_ess": float(found.ess.mean(1).min()),
        "ancestors": float(found.ancestors.double().mean()),
    }


def pair_rows(sizes, counts, draws: int, seed: int) -> dict:
    """Two pixels seen in noise, constant and annealed r, by T and number of particles; a histogram
    of the first at the largest T.
    """
    y, rows, shapes = torch.tensor(PAIR, dtype=torch.float64), [], {}
    for T in sizes:
        row = Row(CORRELATION, T, 2, 0)
        exact = gaussian_posterior(row.C, y)
        own = gaussian_posterior(own_covariance(row), y)
        for way, annealed in (("constant r", False), ("annealed r", True)):
            for n in counts:
                found, collapsed = run(
                    (row.kernel, row.reverse),
                    (draws // n, n, 2),
                    Denoise(y, VAR, annealed),
                    seed + T,
                )
                entry = {
                    "way": way,
                    "T": T,
                    "particles": n,
                    "own_KL": gaussian_kl(*own, exact),
                    "collapsed": collapsed,
                }
                rows.append(entry | _measured(found, exact))
                if way == "constant r" and n in (1, max(counts)):
                    weight = torch.exp(found.log_weight).flatten() / len(found.x)
                    inside = torch.histogram(found.x[..., 0].flatten(), EDGES, weight=weight).hist
                    shapes[str(n)] = (inside / (EDGES[1] - EDGES[0])).tolist()
    mean, cov = gaussian_posterior(Row(CORRELATION, 2, 2, 0).C, y)
    shape = {
        "edges": EDGES.tolist(),
        "particles": shapes,
        "mean": float(mean[0]),
        "sd": float(cov[0, 0].sqrt()),
    }
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(2, dtype=torch.float64), row.C + VAR * torch.eye(2)
    )
    return {
        "seen": list(PAIR),
        "draws": draws,
        "log_Z": float(marginal.log_prob(y)),
        "rows": rows,
        "histogram": shape,
    }


def row_rows(T: int, counts, draws: int, seed: int) -> dict:
    """The same for a row of 32 pixels, and for r that looks through the model: does the number of
    pixels defeat the particles?
    """
    row, random = Row(CORRELATION, T, 32, 0), seeded(seed)
    x0 = torch.linalg.cholesky(row.C) @ torch.randn(32, generator=random, dtype=torch.float64)
    y = x0 + VAR**0.5 * torch.randn(32, generator=random, dtype=torch.float64)
    exact = gaussian_posterior(row.C, y)
    seen = Mask(torch.ones(32, dtype=torch.bool))
    rows = []
    for way in ("constant r", "annealed r", "through the model"):
        for n in counts:
            of_run = (
                draws // 4 if way == "through the model" else draws
            )  # derivatives through the reverse, eight a step
            runs = of_run // n
            r: Factor = Denoise(y, VAR, way == "annealed r")
            if way == "through the model":
                r = Through(row.reverse, seen, y.expand(runs * n, 32), VAR, solve=8)
            found, collapsed = run((row.kernel, row.reverse), (runs, n, 32), r, seed + n)
            entry = {"way": way, "T": T, "particles": n, "draws": runs * n, "collapsed": collapsed}
            rows.append(entry | _measured(found, exact))
            del rows[-1]["KL"]  # a covariance of 32 pixels takes more draws to fit than there are
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(32, dtype=torch.float64), row.C + VAR * torch.eye(32)
    )
    return {"pixels": 32, "log_Z": float(marginal.log_prob(y)), "rows": rows}


def renoised_kl(row: Row, times: int) -> float:
    """KL to the exact posterior, nats, of replacement with ``times`` steps back and forth at each t
    (``diffusion.renoise``), exact.
    """
    d, T = len(row.C), row.kernel.T
    eye, zero = torch.eye(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    x, r = (
        torch.cat([eye, zero]),
        Inpaint(torch.cat([zero, eye * row.known]), row.known, annealed=True),
    )
    start = r(row.kernel, row.kernel.stationary((2 * d, d), torch.float64), None, T + 1)
    M, S = start.mean[d:].T, torch.diag(start.var.expand(2 * d, d)[0])
    for t in range(T, 0, -1):
        p = r(row.kernel, row.kernel.p_edge(x) if t == 1 else row.reverse(x, t), x, t)
        on_x, on_y, added = p.mean[:d].T, p.mean[d:].T, torch.diag(p.var.expand(2 * d, d)[0])
        kept = 1 - row.kernel.beta[t]
        for again in range(times + 1 if t > 1 else 1):
            if again:
                M, S = kept.sqrt() * M, kept * S + (1 - kept) * eye
            M, S = on_x @ M + on_y, on_x @ S @ on_x.T + added
    return row.expected_kl(M, S)


# ---------------------------------------------------------------- heartbeats


def bit_rows(sizes, counts, draws: int, seed: int) -> dict:
    """Heartbeats given contradictory bits under constant r: total variation to the exact posterior
    by T and number of particles.
    """
    law, log_odds, rows = Heartbeat(), evidence()[EVIDENCE], []
    templates, exact = law.templates(), template_posterior(law.templates(), log_odds)
    log_Z = float(
        torch.logsumexp((templates * log_odds).sum(1), 0)
        - torch.log(torch.tensor(float(len(templates))))
    )
    for T in sizes:
        kernel = heartbeat_chain(T)
        chain = kernel, HeartbeatOptimum(kernel, law)
        for n in counts:
            found, collapsed = run(chain, (draws // n, n, law.dim), BitFactor(log_odds), seed + T)
            is_template = (found.x[:, :, None] == templates).all(-1).double()
            share = found.expectation(is_template).mean(0)
            distance = float(0.5 * ((share - exact).abs().sum() + 1 - share.sum()))
            rows.append(
                {"T": T, "particles": n, "total_variation": distance, "valid": float(share.sum())}
            )
            rows[-1] |= {
                "log_Z": float(found.log_Z.mean()),
                "least_ess": float(found.ess.mean(1).min()),
            }
            rows[-1] |= {"collapsed": collapsed}
    return {"evidence": EVIDENCE, "draws": draws, "log_Z": log_Z, "rows": rows}
