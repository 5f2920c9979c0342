"""Particles along the reverse chain against closed forms and enumeration: with Z̃_t counted, any
r_t gives the model's posterior.
"""

import math
import warnings

import pytest
import torch
from enumerated import Enumerated

from nonequilibrium.bound.optimum import HeartbeatOptimum
from nonequilibrium.data.toys import Heartbeat
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import Bernoulli, BinomialKernel, Normal
from nonequilibrium.diffusion.particles import Collapsed, particles, systematic
from nonequilibrium.diffusion.posterior import BitFactor, Denoise, Inpaint, Shift, TemplateFactor
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError
from replication.theory.posteriors import Row

VAR = 2.0
Y = torch.tensor([1.5, -0.5], dtype=torch.float64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def own_covariance(row):
    """Covariance of the model's own x^0, by sending unit vectors through every reverse step."""
    S, eye = torch.eye(len(row.C), dtype=torch.float64), torch.eye(len(row.C), dtype=torch.float64)
    for t in range(row.kernel.T, 0, -1):
        p = row.kernel.p_edge(eye) if t == 1 else row.reverse(eye, t)
        S = p.mean.T @ S @ p.mean + torch.diag(p.var.expand_as(eye)[0])
    return S


def pooled(found, values):
    """E values under the posterior from all runs, each by its estimate of Z̃, with the standard
    error; values (runs, n, ...).
    """
    weight, each = torch.softmax(found.log_Z, 0), found.expectation(values)
    weight = weight.reshape(-1, *[1] * (each.dim() - 1))
    mean = (weight * each).sum(0)
    return mean, (weight * (each - mean)).square().sum(0).sqrt()


def close(estimate, exact, errors=5.0):
    value, error = estimate
    return bool(((value - exact).abs() < errors * error).all()) and bool((error < 0.1).all())


def log_mean_Z(found):
    """log of the mean estimate of Z̃ and the standard error of it."""
    Z = torch.exp(found.log_Z - found.log_Z.max())
    return float(torch.log(Z.mean()) + found.log_Z.max()), float(Z.std() / Z.mean() / len(Z) ** 0.5)


# ---------------------------------------------------------------- resampling


def test_systematic_resampling_draws_each_particle_its_weight_s_times():
    weight = torch.softmax(2 * torch.randn(3, 7, generator=seeded(1), dtype=torch.float64), 1)
    u = (
        torch.arange(20_000, dtype=torch.float64) + 0.5
    ) / 20_000  # all of [0, 1) in place of draws
    for row in weight:
        counts = torch.stack(
            [(systematic(row.expand(len(u), 7), u) == i).sum(1) for i in range(7)], 1
        ).double()
        assert torch.allclose(counts.mean(0), 7 * row, atol=1e-3)  # on average by its weight
        assert ((counts - 7 * row).abs() < 1).all()  # and always that number rounded down or up
        assert (counts.sum(1) == 7).all()
    assert systematic(
        torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64), torch.tensor([0.999])
    ).tolist() == [[1] * 3]


@pytest.mark.parametrize("annealed", [False, True])
def test_one_particle_is_plain_sampling(annealed):
    row = Row(0.8, 12, 2, 0)
    r = Denoise(Y, VAR, annealed)
    found = particles(row.kernel, row.reverse, (50, 1, 2), seeded(3), r)
    assert torch.equal(found.x[:, 0], sample(row.kernel, row.reverse, (50, 2), seeded(3), r=r))
    assert (found.ess == 1).all() and not found.resampled.any() and (found.log_weight == 0).all()


# ---------------------------------------------------------------- Gaussian data


def gaussian_ways(row):
    def by_shift(x, t):
        return -0.5 * ((Y - x) ** 2 / VAR + math.log(2 * math.pi * VAR)).sum(1)

    see_all = Mask(torch.ones(2, dtype=torch.bool))
    every = Y.expand(40 * 400, 2)
    return {
        "constant r": Denoise(Y, VAR),
        "annealed r": Denoise(Y, VAR, annealed=True),
        "the shift (61)": Shift(by_shift),
        "through, diagonal": Through(row.reverse, see_all, every, VAR),
        "through, solved": Through(row.reverse, see_all, every, VAR, solve=2),
    }


@pytest.mark.parametrize("way", gaussian_ways(Row(0.9, 5, 2, 0)))
def test_particles_have_the_mean_variance_and_evidence_of_the_closed_form_whatever_r_is(way):
    row = Row(0.8, 20, 2, 0)
    C = own_covariance(row)
    gain = C @ torch.linalg.inv(C + VAR * torch.eye(2))
    mean, cov = gain @ Y, C - gain @ C
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(2).double(), C + VAR * torch.eye(2).double()
    )
    r = gaussian_ways(row)[way]
    found = particles(row.kernel, row.reverse, (40, 400, 2), seeded(4), r)
    off = found.x - mean
    assert close(pooled(found, found.x), mean)
    assert close(pooled(found, off[..., None] * off[..., None, :]), cov)
    log_Z, error = log_mean_Z(found)
    assert abs(log_Z - float(marginal.log_prob(Y))) < 5 * error and error < 0.5
    if way == "constant r":  # and the same draws without weights are far off
        plain = sample(row.kernel, row.reverse, (16_000, 2), seeded(5), r=r)
        assert (plain.mean(0) - mean).abs().max() > 20 * plain.std(0).max() / 16_000**0.5


def test_an_r_that_looks_through_the_model_keeps_more_particles_than_constant_r():
    row = Row(0.8, 20, 2, 0)
    ways = gaussian_ways(row)
    least = {
        way: float(particles(row.kernel, row.reverse, (40, 400, 2), seeded(6), r).ess.mean(1).min())
        for way, r in ways.items()
    }
    assert least["through, solved"] > 0.8 * 400 > least["annealed r"] > least["constant r"]


@pytest.mark.parametrize("way", ["replacement", "through", "through, solved"])
def test_missing_pixels_given_known_ones(way):
    row, n, runs = Row(0.8, 16, 4, 2), 300, 40
    y = torch.tensor([1.0, 0.0, 0.0, -0.5], dtype=torch.float64)
    known, hole = row.known, ~row.known
    C = own_covariance(row)
    gain = C[hole][:, known] @ torch.linalg.inv(C[known][:, known])
    mean, cov = gain @ y[known], C[hole][:, hole] - gain @ C[known][:, hole]
    every = y.expand(runs * n, 4)
    r = {
        "replacement": Inpaint(y, known, annealed=True),
        "through": Through(row.reverse, Mask(known), every, 0.0),
        "through, solved": Through(row.reverse, Mask(known), every, 0.0, solve=3),
    }[way]
    found = particles(row.kernel, row.reverse, (runs, n, 4), seeded(7), r)
    assert (found.x[..., known] == y[known]).all()
    off = found.x[..., hole] - mean
    assert close(pooled(found, found.x[..., hole]), mean)
    assert close(pooled(found, off[..., None] * off[..., None, :]), cov)
    seen = torch.distributions.MultivariateNormal(torch.zeros(2).double(), C[known][:, known])
    log_Z, error = log_mean_Z(found)
    assert abs(log_Z - float(seen.log_prob(y[known]))) < 5 * error and error < 0.5


# ---------------------------------------------------------------- bits


class Short(Heartbeat):
    """Six bits, three templates: few enough for all 64 states."""

    dim, period = 6, 3


@pytest.mark.parametrize("way", ["constant r", "annealed r", "r through the templates"])
def test_particles_of_the_heartbeat_have_the_enumerated_posterior_and_evidence(way):
    law = Short()
    kernel = BinomialKernel(schedule("inverse", 12), 1 / 3)
    best = HeartbeatOptimum(kernel, law)
    tiny = Enumerated(kernel, best, 6)
    log_odds = torch.tensor(
        [2.0, 1.5, 0, 0, -1.0, 0], dtype=torch.float64
    )  # contradictory on purpose
    joint = tiny.model_marginal(0) * torch.exp(tiny.states @ log_odds)
    r = {
        "constant r": BitFactor(log_odds),
        "annealed r": BitFactor(log_odds, annealed=True),
        "r through the templates": TemplateFactor(law.templates(), log_odds),
    }[way]
    found = particles(kernel, best, (60, 500, 6), seeded(8), r)
    is_state = (found.x[:, :, None] == tiny.states).all(-1).double()
    value, error = pooled(found, is_state)
    exact = joint / joint.sum()
    assert ((value - exact).abs() < 5 * error + 1e-3).all() and (error < 0.02).all()
    assert 0.5 * (value - exact).abs().sum() < 0.03
    log_Z, error = log_mean_Z(found)
    assert abs(log_Z - float(torch.log(joint.sum()))) < 5 * error and error < 0.05
    if way == "constant r":
        plain = sample(kernel, best, (30_000, 6), seeded(9), r=r)
        share = (plain[:, None] == tiny.states).all(-1).double().mean(0)
        assert 0.5 * (share - exact).abs().sum() > 0.15


@pytest.mark.parametrize("resample_below", [0.0, 0.5, 1.0])
def test_the_estimate_of_the_evidence_has_no_bias_at_four_particles(resample_below):
    kernel = BinomialKernel(schedule("inverse", 3), 1 / 3)
    weights = torch.randn(3, 3, generator=seeded(0), dtype=torch.float64)

    def reverse(xt, t):
        return Bernoulli((2 * xt - 1) @ weights - 0.5)

    tiny = Enumerated(kernel, reverse, 3)
    log_odds = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    exact = float((tiny.model_marginal(0) * torch.exp(tiny.states @ log_odds)).sum())
    found = particles(
        kernel, reverse, (5000, 4, 3), seeded(10), BitFactor(log_odds), resample_below
    )
    Z = torch.exp(found.log_Z)
    assert abs(float(Z.mean()) - exact) < 5 * float(Z.std()) / 5000**0.5 < 0.1 * exact
    assert found.resampled.any() == (resample_below > 0)


# ---------------------------------------------------------------- what one is told


def test_weights_that_collapse_are_said_so_and_good_ones_are_not():
    row = Row(0.9, 20, 32, 0)
    y = 3 * (-1.0) ** torch.arange(32, dtype=torch.float64)  # nothing like the data
    with pytest.warns(Collapsed, match="go back to 1.0 of 40 starts"):
        particles(row.kernel, row.reverse, (5, 40, 32), seeded(11), Denoise(y, 0.5))
    with pytest.warns(Collapsed, match=r"the 40 particles are worth 1\.\d at t = \d+"):
        found = particles(
            row.kernel, row.reverse, (5, 40, 32), seeded(11), Denoise(y, 0.5), resample_below=0.0
        )
    assert (
        found.ess.mean(1).min() < 2 and not found.resampled.any() and (found.ancestors == 40).all()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = Row(0.5, 20, 2, 0)
        found = particles(
            pair.kernel, pair.reverse, (5, 40, 2), seeded(12), Denoise(Y, 1.0, annealed=True)
        )
    assert (found.ess > 2).all()


def test_what_has_no_r_t_is_refused_in_one_sentence():
    row = Row(0.8, 8, 4, 2)
    held = Inpaint(torch.zeros(4, dtype=torch.float64), row.known)
    with pytest.raises(ParameterError, match="delta at all t"):
        particles(row.kernel, row.reverse, (1, 4, 4), seeded(0), held)
    with pytest.raises(ParameterError, match="log r_t of function"):
        particles(row.kernel, row.reverse, (1, 4, 4), seeded(0), lambda kernel, p, xt, t: p)
    r = Denoise(torch.zeros(4).double(), 1.0)
    for shape, below in (((0, 4, 4), 0.5), ((1, 4, 4), 2.0)):
        with pytest.raises(ParameterError, match="must be"):
            particles(row.kernel, row.reverse, shape, seeded(0), r, below)


def test_the_shift_61_is_the_exact_product_to_first_order_and_its_factor_is_what_was_given():
    y, mean = torch.tensor([[1.5, 0.2]]).double(), torch.tensor([[0.4, -0.3]]).double()
    kernel = Row(0.5, 5, 2, 0).kernel
    r = Shift(
        lambda x, t: (1 - t / 5) * -0.5 * ((y - x) ** 2 / VAR + math.log(2 * math.pi * VAR)).sum(1)
    )
    exact = Denoise(y, VAR, annealed=True)
    for t in range(1, 7):
        for f_sigma in (1e-2, 1e-4):
            p = Normal(mean, torch.full_like(mean, f_sigma))
            moved, product = (each(kernel, p, None, t).mean - mean for each in (r, exact))
            assert torch.allclose(moved, product, rtol=1.1 * f_sigma / VAR, atol=1e-15)
        if t <= 5:
            assert torch.allclose(r.log_r(kernel, mean, t), exact.log_r(kernel, mean, t))


# ---------------------------------------------------------------- back and forth


def test_no_renoising_is_plain_sampling_and_nothing_known_is_the_model_s_own_law():
    row = Row(0.8, 60, 4, 2)
    y = torch.zeros(4, dtype=torch.float64)
    r = Inpaint(y, row.known, annealed=True)
    drawn = sample(row.kernel, row.reverse, (30, 4), seeded(1), r=r, times=0)
    assert torch.equal(drawn, sample(row.kernel, row.reverse, (30, 4), seeded(1), r=r))
    free = Inpaint(y, torch.zeros(4, dtype=torch.bool), annealed=True)
    x, n = sample(row.kernel, row.reverse, (20_000, 4), seeded(2), r=free, times=3), 20_000
    assert (x.mean(0).abs() < 5 / n**0.5).all()
    # A step back and forth keeps q(x^{t−1}) to the precision of the best diagonal kernel.
    assert torch.allclose(x.T @ x / n, row.C, atol=0.06)
    with pytest.raises(ParameterError, match="times is -1"):
        sample(row.kernel, row.reverse, (1, 4), seeded(0), r=r, times=-1)


def test_renoising_brings_replacement_towards_the_exact_posterior():
    row, y = Row(0.8, 40, 4, 2), torch.tensor([1.5, 0.0, 0.0, 1.5], dtype=torch.float64)
    exact = (row.posterior()[0] @ y[row.known])[0]
    r, off = Inpaint(y, row.known, annealed=True), []
    for times in (0, 1, 4):
        x = sample(row.kernel, row.reverse, (8000, 4), seeded(3), r=r, times=times)
        off.append(float((exact - x[:, ~row.known].mean()) / exact))
    assert off[0] > 1.3 * off[1] > 1.3**2 * off[2] > 0
