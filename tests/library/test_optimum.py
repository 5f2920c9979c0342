import itertools
import math

import pytest
import torch

from nonequilibrium.bound.bound import bits, entropy_terms, full_bound
from nonequilibrium.bound.optimum import (
    HeartbeatOptimum,
    SwissRollOptimum,
    heartbeat_optimal_kl,
    optimality_gap,
)
from nonequilibrium.bound.proposals import draw
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import Bernoulli, BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import even_log_snr_schedule, inverse_schedule


@pytest.mark.parametrize(
    "T, expected",
    [
        (50, -3.497976),
        (200, -2.679750),
    ],
)
def test_heartbeat_optimum_has_the_known_values(T, expected):
    kernel = BinomialKernel(inverse_schedule(T), 0.2)
    K_star = (
        entropy_terms(kernel, Heartbeat().templates()[:1])
        - heartbeat_optimal_kl(kernel, Heartbeat()).sum()
    )
    assert bits(K_star.item()) == pytest.approx(expected, abs=1e-6)


def test_heartbeat_optimum_is_the_posterior_mean_by_simulation():
    law, kernel, t = Heartbeat(), BinomialKernel(inverse_schedule(10), 0.2), 7
    generator = torch.Generator().manual_seed(0)
    x0 = law.sample(2_000_000, generator)[:, :5]  # the first five bins determine the offset
    before = kernel.sample(kernel.q_marginal(x0, t - 1), generator)
    after = kernel.sample(kernel.q_step(before, t), generator)

    small = HeartbeatOptimum(kernel, Heartbeat())
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
    bound = full_bound(
        kernel, HeartbeatOptimum(kernel, Heartbeat()), x0, torch.Generator().manual_seed(1)
    )
    expected = heartbeat_optimal_kl(kernel, Heartbeat())
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
        on_x0, on_xt, step_var = (
            c[t] for c in (kernel.posterior_on_x0, kernel.posterior_on_xt, kernel.posterior_var)
        )
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
    side = torch.linspace(-3.2, 3.2, 140, dtype=torch.float64)
    total = (
        optimum.log_density(torch.cartesian_prod(side, side)).exp().sum() * (side[1] - side[0]) ** 2
    )
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_swiss_roll_optimum_takes_blocks_of_steps():
    law, kernel = SwissRoll(0.05), GaussianKernel(even_log_snr_schedule(6, 1e-3, 0.1))
    optimum = SwissRollOptimum(kernel, law)
    xt = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = optimum(xt, torch.tensor([3, 6]))
    assert torch.equal(both.mean[1], optimum(xt[1], 6).mean) and torch.equal(
        both.var[0], optimum(xt[0], 3).var
    )


# ---------------------------------------------------------------- the gap and its tails


class TooSure(HeartbeatOptimum):
    """An optimum that overstates its evidence: wrong only where x^t lies between templates, which
    is rare at little noise.
    """

    def __call__(self, xt, t):
        x0 = self.templates.expand(*xt.shape[:-1], *self.templates.shape)
        xt = xt[..., None, :].expand_as(x0)
        weight = torch.softmax(1.5 * self.kernel.log_prob(xt, self.kernel.q_marginal(x0, t)), -1)[
            ..., None
        ]
        return Bernoulli(torch.logit((weight * self.kernel.q_posterior(x0, xt, t).rate).sum(-2)))


@pytest.fixture(scope="module")
def little_noise():
    """Kernel, optimum, a model that errs in the tails, and its exact gap, a sum over 5^5 counts of
    ones.
    """
    law, kernel = Heartbeat(), BinomialKernel(torch.full((6,), 0.006, dtype=torch.float64), 0.2)
    optimum, model = HeartbeatOptimum(kernel, Heartbeat()), TooSure(kernel, Heartbeat())
    counts = torch.tensor(list(itertools.product(range(5), repeat=5)))
    ways = torch.tensor([math.comb(4, c) for c in range(5)])[counts].prod(1)
    bins = torch.arange(20)
    xt = (bins // 5 < counts[:, bins % 5]).double()
    x0 = law.templates()[:1].expand_as(xt)
    exact = 0.0
    for t in range(2, kernel.T + 1):
        probability = ways * kernel.log_prob(xt, kernel.q_marginal(x0, t)).exp()
        assert probability.sum().item() == pytest.approx(1)
        exact += float((probability * kernel.kl(optimum(xt, t), model(xt, t))).sum())
    return kernel, optimum, model, exact


def test_the_error_of_the_gap_covers_the_truth_where_rare_states_carry_it(little_noise):
    kernel, optimum, model, exact = little_noise
    x0 = Heartbeat().sample(400, torch.Generator().manual_seed(0))
    runs = {}
    for share in (0.0, 0.5):
        each = [
            optimality_gap(
                kernel, optimum, model, x0, torch.Generator().manual_seed(s), noisier_share=share
            ).sum(1)
            for s in range(40)
        ]
        runs[share] = torch.tensor(
            [(gap.mean(), gap.std() / math.sqrt(len(gap))) for gap in each]
        ).double()
    covered = {
        share: float(((r[:, 0] - exact).abs() < 2 * r[:, 1]).double().mean())
        for share, r in runs.items()
    }
    assert covered[0.5] > 0.85 and covered[0.0] < 0.8, (
        "draws from q alone miss the tail and do not know it"
    )
    mean, spread = runs[0.5][:, 0].mean(), runs[0.5][:, 0].std()
    assert abs(mean - exact) < 3 * spread / math.sqrt(40), "weighted draws are unbiased"
    assert 0.75 < spread / runs[0.5][:, 1].mean() < 1.35, "the stated error is the spread"


def test_the_bound_by_weighted_draws_is_the_same_number(little_noise):
    kernel, optimum, model, exact = little_noise
    x0, expected = (
        Heartbeat().sample(4000, torch.Generator().manual_seed(0)),
        heartbeat_optimal_kl(kernel, Heartbeat()),
    )
    K = entropy_terms(kernel, x0).mean() - expected.sum() - exact
    for control in (None, (optimum, expected)):
        bound = full_bound(
            kernel, model, x0, torch.Generator().manual_seed(1), 2, control, noisier_share=0.5
        )
        assert abs(bound.K - K) < 4 * bound.se


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_weights_are_those_of_the_mixture(share):
    """They average to one on any function of x^t and never exceed 1/(1 − share), on bits and on
    Gaussian data.
    """
    generator = torch.Generator().manual_seed(0)
    for kernel, x0 in [
        (BinomialKernel(inverse_schedule(20), 0.2), torch.tensor([[1.0, 0.0]])),
        (GaussianKernel(even_log_snr_schedule(20, 1e-3, 0.05)), torch.tensor([[1.5, -0.5]])),
    ]:
        x0 = x0.double().expand(60_000, 2)
        xt, weight = draw(kernel, x0, 9, generator, share)
        assert weight.shape == (60_000,) and weight.max() <= 1 / (1 - share) and weight.std() > 0.05
        assert weight.mean() == pytest.approx(1, abs=0.02)
        straight = kernel.sample(kernel.q_marginal(x0, 9), generator)
        for f in (lambda x: x[:, 0], lambda x: (x[:, 0] - x[:, 1]) ** 2):
            assert float((weight * f(xt)).mean()) == pytest.approx(
                float(f(straight).mean()), abs=0.04
            )
