import math

import pytest
import torch

from nonequilibrium.bound.bound import bits, entropy_terms, full_bound
from nonequilibrium.bound.optimum import HeartbeatOptimum, SwissRollOptimum, heartbeat_optimal_kl
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import even_log_snr_schedule, inverse_schedule


@pytest.mark.parametrize(
    "T, expected",
    [(50, -3.497976), (200, -2.679750), (1000, -2.408343), (2000, -2.368335), (4000, -2.346731), (10000, -2.332695)],
)
def test_heartbeat_optimum_has_the_known_values(T, expected):
    kernel = BinomialKernel(inverse_schedule(T), 0.2)
    K_star = entropy_terms(kernel, Heartbeat().templates()[:1]) - heartbeat_optimal_kl(kernel).sum()
    assert bits(K_star.item()) == pytest.approx(expected, abs=1e-6)


def test_heartbeat_optimum_is_the_posterior_mean_by_simulation():
    law, kernel, t = Heartbeat(), BinomialKernel(inverse_schedule(10), 0.2), 7
    generator = torch.Generator().manual_seed(0)
    x0 = law.sample(2_000_000, generator)[:, :5]  # the first five bins determine the offset
    before = kernel.sample(kernel.q_marginal(x0, t - 1), generator)
    after = kernel.sample(kernel.q_step(before, t), generator)

    small = HeartbeatOptimum(kernel)
    small.templates = law.templates()[:, :5]
    for pattern in ([0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]):
        xt = torch.tensor([pattern], dtype=torch.float64)
        chosen = before[(after == xt).all(1)]
        se = 0.5 / math.sqrt(len(chosen))
        assert len(chosen) > 10_000
        assert (small(xt, t).rate[0] - chosen.mean(0)).abs().max() < 4 * se


def test_exact_optimal_terms_agree_with_simulation():
    law, kernel = Heartbeat(), BinomialKernel(inverse_schedule(30), 0.2)
    x0 = law.sample(4000, torch.Generator().manual_seed(0))
    bound = full_bound(kernel, HeartbeatOptimum(kernel), x0, torch.Generator().manual_seed(1))
    expected = heartbeat_optimal_kl(kernel)
    se = bound.kl.std(0) / math.sqrt(len(x0))
    # The first steps lose something only where a rare flip happened, which few examples see.
    assert ((bound.kl.mean(0) - expected)[6:].abs() < 4.5 * se[6:] + 1e-12).all()
    assert abs(float(bound.kl.sum(1).mean() - expected.sum())) < 4 * bound.se


@pytest.mark.parametrize("noise, beta_1", [(0.05, 1e-3), (1e-3, 1e-6)])
def test_swiss_roll_moments_agree_with_brute_force_quadrature(noise, beta_1):
    law = SwissRoll(noise)
    kernel = GaussianKernel(even_log_snr_schedule(20, beta_1, 0.05))
    optimum = SwissRollOptimum(kernel, law)
    generator = torch.Generator().manual_seed(0)
    theta = law.theta_grid(400_000)
    curve = law.curve(theta)
    for t in (2, 5, 10, 15, 20):
        xt = kernel.sample(kernel.q_marginal(law.sample(4, generator), t), generator)
        root = kernel.alpha_bar[t].sqrt()
        var = kernel.one_minus_alpha_bar[t] / root**2 + noise**2
        shrink = noise**2 / var
        on_x0, on_xt, step_var = (c[t] for c in (kernel.posterior_on_x0, kernel.posterior_on_xt, kernel.posterior_var))
        p = optimum(xt, t)
        for i in range(4):
            w = torch.softmax(-((xt[i] / root - curve) ** 2).sum(1) / (2 * var), 0)[:, None]
            each = (1 - shrink) * curve + shrink * xt[i] / root  # E[x^0 | x^t, θ]
            mean = (w * each).sum(0)
            variance = (w * (each - mean) ** 2).sum(0) + noise**2 * (1 - shrink)
            assert torch.allclose(p.mean[i], on_x0 * mean + on_xt * xt[i], rtol=1e-6, atol=1e-9)
            assert torch.allclose(p.var[i], step_var + on_x0**2 * variance, rtol=1e-5)


def test_swiss_roll_density_integrates_to_one():
    law = SwissRoll(0.05)
    optimum = SwissRollOptimum(GaussianKernel(even_log_snr_schedule(5, 1e-3, 0.1)), law)
    side = torch.linspace(-3.2, 3.2, 400, dtype=torch.float64)
    total = optimum.log_density(torch.cartesian_prod(side, side)).exp().sum() * (side[1] - side[0]) ** 2
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_swiss_roll_optimum_takes_blocks_of_steps():
    law, kernel = SwissRoll(0.05), GaussianKernel(even_log_snr_schedule(6, 1e-3, 0.1))
    optimum = SwissRollOptimum(kernel, law)
    xt = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = optimum(xt, torch.tensor([3, 6]))
    assert torch.equal(both.mean[1], optimum(xt[1], 6).mean) and torch.equal(both.var[0], optimum(xt[0], 3).var)
