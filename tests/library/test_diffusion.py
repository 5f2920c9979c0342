import math

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal as TorchNormal
from torch.distributions import kl_divergence

from nonequilibrium.diffusion.kernels import Bernoulli, BinomialKernel, GaussianKernel, Normal
from nonequilibrium.diffusion.schedules import (
    LearnedSchedule,
    even_log_snr_schedule,
    inverse_schedule,
    reference_schedule,
    schedule,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def gaussian():
    return GaussianKernel(even_log_snr_schedule(12, 1e-3, 0.05))


@pytest.fixture
def binomial():
    return BinomialKernel(inverse_schedule(12), pi=0.2)


def test_inverse_schedule_erases_one_Tth_of_the_signal_a_step():
    kernel = BinomialKernel(inverse_schedule(50), 0.2)
    expected = 1 - torch.arange(51, dtype=torch.float64) / 50
    assert torch.allclose(kernel.alpha_bar, expected, atol=1e-12)


def test_reference_schedule_leaves_about_one_Tth():
    beta = reference_schedule(1000)
    assert beta[0] == pytest.approx(1 / 1000 + 1e-3) and beta[-1] == pytest.approx(0.5)
    assert GaussianKernel(beta).alpha_bar[-1] == pytest.approx(1 / 1000, rel=0.01)


def test_even_log_snr_schedule_is_even_and_ends_where_it_should():
    kernel = GaussianKernel(even_log_snr_schedule(40, 1e-9, 1e-3))
    log_snr = (kernel.log_alpha_bar - kernel.one_minus_alpha_bar.log())[1:]
    steps = torch.diff(log_snr)
    assert torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-6)
    assert kernel.beta[1].item() == pytest.approx(1e-9, rel=1e-9)
    assert kernel.alpha_bar[-1].item() == pytest.approx(1e-3, rel=1e-9)


def test_learned_schedule_starts_as_given_and_holds_beta_1():
    beta = even_log_snr_schedule(8, 1e-4, 0.1)
    learned = LearnedSchedule(beta)
    assert torch.allclose(learned(), beta)
    learned().sum().backward()
    assert learned.logit.grad.abs().min() > 0
    assert [name for name, _ in learned.named_parameters()] == [
        "logit"
    ] and learned.logit.shape == (7,)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GaussianKernel(inverse_schedule(5)), "beta_5 is 1.0"),
        (lambda: GaussianKernel(torch.tensor([0.1, float("nan")])), "beta_2 is nan"),
        (lambda: BinomialKernel(torch.tensor([0.0, 0.5]), 0.2), "beta_1 is 0.0"),
        (lambda: BinomialKernel(torch.tensor([0.5, 1.5]), 0.2), "beta_2 is 1.5"),
        (lambda: BinomialKernel(torch.tensor([[0.5, 0.5]]), 0.2), "one axis"),
        (lambda: BinomialKernel(torch.tensor([0.5]), 0.2), "one axis"),
        (lambda: BinomialKernel(inverse_schedule(5), 1.0), "pi is 1.0"),
        (lambda: schedule("cosine", 10), "schedule is 'cosine'"),
        (lambda: schedule("inverse", 1), "T is 1"),
        (lambda: schedule("inverse", 10.5), "T is 10.5"),
        (lambda: even_log_snr_schedule(10, 0.0, 0.1), "beta_1 is 0.0"),
        (lambda: even_log_snr_schedule(10, 0.1, 1.0), "alpha_bar_T is 1.0"),
        (lambda: even_log_snr_schedule(10, 0.5, 0.9), "beta_1 is 0.5 and alpha_bar_T is 0.9"),
    ],
)
def test_a_schedule_that_is_not_one_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_forward_steps_compose_to_the_closed_form(gaussian, binomial):
    x0 = torch.tensor([[0.7, -1.3]], dtype=torch.float64)
    mean, var = x0, torch.zeros_like(x0)
    for t in range(1, gaussian.T + 1):
        beta = gaussian.beta[t]
        mean, var = gaussian.q_step(mean, t).mean, var * (1 - beta) + beta
        marginal = gaussian.q_marginal(x0, t)
        assert torch.allclose(marginal.mean, mean) and torch.allclose(
            marginal.var.expand(1, 2), var
        )
    bits = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    rate = bits
    for t in range(1, binomial.T + 1):
        rate = rate * (1 - binomial.beta[t]) + binomial.pi * binomial.beta[t]
        assert torch.allclose(binomial.q_marginal(bits, t).rate, rate)


def test_forward_chain_leaves_pi_invariant(gaussian, binomial, generator):
    x = gaussian.sample(gaussian.stationary((200_000, 1), torch.float64), generator)
    y = gaussian.sample(gaussian.q_step(x, 9), generator)
    assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.02
    bits = binomial.sample(binomial.stationary((200_000, 1), torch.float64), generator)
    assert abs(binomial.sample(binomial.q_step(bits, 9), generator).mean() - 0.2) < 0.005


def test_posterior_is_bayes_rule(gaussian, binomial):
    grid = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    x0, xt = torch.tensor([[0.4]], dtype=torch.float64), torch.tensor([[-0.3]], dtype=torch.float64)
    for t in (2, 7, 12):
        log_joint = gaussian.log_prob(xt, gaussian.q_step(grid, t)) + gaussian.log_prob(
            grid, gaussian.q_marginal(x0, t - 1)
        )
        weight = torch.softmax(log_joint, 0)[:, None]
        mean = (weight * grid).sum()
        posterior = gaussian.q_posterior(x0, xt, t)
        if posterior.var.item() ** 0.5 > 3 * 12 / 4000:  # wide enough for the grid
            assert posterior.mean.item() == pytest.approx(mean.item(), abs=1e-9)
            assert posterior.var.item() == pytest.approx(
                (weight * (grid - mean) ** 2).sum().item(), rel=1e-6
            )
        for b0 in (0.0, 1.0):
            for bt in (0.0, 1.0):
                one, zero = (
                    torch.exp(
                        binomial.log_prob(
                            torch.tensor([bt]).double(),
                            binomial.q_step(torch.tensor([b]).double(), t),
                        )
                        + binomial.log_prob(
                            torch.tensor([b]).double(),
                            binomial.q_marginal(torch.tensor([b0]).double(), t - 1),
                        )
                    )
                    for b in (1.0, 0.0)
                )
                rate = binomial.q_posterior(
                    torch.tensor([b0]).double(), torch.tensor([bt]).double(), t
                ).rate
                assert rate.item() == pytest.approx((one / (one + zero)).item(), rel=1e-9)


def test_divergences_entropies_and_densities_agree_with_torch(gaussian, binomial, generator):
    mean, other = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    var, second = torch.rand(2, 5, 3, generator=generator, dtype=torch.float64) + 0.1
    p, q = TorchNormal(mean, var.sqrt()), TorchNormal(other, second.sqrt())
    assert torch.allclose(
        gaussian.kl(Normal(mean, var), Normal(other, second)), kl_divergence(p, q).sum(-1)
    )
    assert torch.allclose(gaussian.log_prob(other, Normal(mean, var)), p.log_prob(other).sum(-1))
    assert torch.allclose(gaussian.log_pi(other), TorchNormal(0.0, 1.0).log_prob(other).sum(-1))
    for t in (1, 12):
        marginal = gaussian.q_marginal(other, t)
        expected = (
            TorchNormal(marginal.mean, marginal.var.sqrt().expand_as(other)).entropy().sum(-1)
        )
        assert torch.allclose(gaussian.entropy(other, t), expected)

    a, b = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    bits = binomial.sample(Bernoulli(a), generator)
    p, q = TorchBernoulli(logits=a), TorchBernoulli(logits=b)
    assert torch.allclose(binomial.kl(Bernoulli(a), Bernoulli(b)), kl_divergence(p, q).sum(-1))
    assert torch.allclose(binomial.log_prob(bits, Bernoulli(a)), p.log_prob(bits).sum(-1))
    pi = TorchBernoulli(torch.tensor(0.2).double())
    assert torch.allclose(binomial.log_pi(bits), pi.log_prob(bits).sum(-1))
    marginal = TorchBernoulli(binomial.q_marginal(bits, 4).rate)
    assert torch.allclose(binomial.entropy(bits, 4), marginal.entropy().sum(-1))


def test_cross_entropy_to_pi_is_exact_for_any_data(gaussian, binomial, generator):
    x0 = 3 + 2 * torch.randn(4, 2, generator=generator, dtype=torch.float64)
    draws = gaussian.sample(gaussian.q_marginal(x0.expand(200_000, 4, 2), 5), generator)
    assert torch.allclose(
        gaussian.cross_entropy_pi(x0, 5), -gaussian.log_pi(draws).mean(0), rtol=5e-3
    )
    bits = torch.eye(3, dtype=torch.float64)
    draws = binomial.sample(binomial.q_marginal(bits.expand(200_000, 3, 3), 5), generator)
    assert torch.allclose(
        binomial.cross_entropy_pi(bits, 5), -binomial.log_pi(draws).mean(0), rtol=5e-3
    )


def test_the_edge_kernel_is_equation_44(gaussian, binomial):
    x0, x1 = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)
    by_definition = (
        gaussian.log_prob(x1, gaussian.q_step(x0, 1)) + gaussian.log_pi(x0) - gaussian.log_pi(x1)
    )
    assert torch.allclose(gaussian.log_prob(x0, gaussian.p_edge(x1)), by_definition)
    for a in (0.0, 1.0):
        for b in (0.0, 1.0):
            x0, x1 = (
                torch.tensor([[a]], dtype=torch.float64),
                torch.tensor([[b]], dtype=torch.float64),
            )
            by_definition = (
                binomial.log_prob(x1, binomial.q_step(x0, 1))
                + binomial.log_pi(x0)
                - binomial.log_pi(x1)
            )
            assert torch.allclose(binomial.log_prob(x0, binomial.p_edge(x1)), by_definition)


def test_frozen_noise_makes_draws_differentiable_in_beta():
    learned = LearnedSchedule(even_log_snr_schedule(6, 1e-3, 0.1))
    noise = torch.ones(1, 2, dtype=torch.float64)

    def draw():
        kernel = GaussianKernel(learned())
        return kernel.sample(
            kernel.q_marginal(torch.zeros(1, 2, dtype=torch.float64), 6), noise=noise
        ).sum()

    draw().backward()
    gradient = learned.logit.grad[2].item()
    with torch.no_grad():
        learned.logit[2] += 1e-5
        up = draw().item()
        learned.logit[2] -= 2e-5
        down = draw().item()
    assert gradient == pytest.approx((up - down) / 2e-5, rel=1e-5) and gradient > 0
    bits = BinomialKernel(inverse_schedule(3), 0.5).sample(
        Bernoulli(torch.zeros(2)), noise=torch.tensor([0.4, 0.6])
    )
    assert bits.tolist() == [1.0, 0.0]


def test_tiny_beta_keeps_its_precision():
    kernel = GaussianKernel(even_log_snr_schedule(10, 1e-12, 0.1))
    assert kernel.one_minus_alpha_bar[1].item() == pytest.approx(1e-12, rel=1e-9)
    assert math.isfinite(kernel.entropy(torch.zeros(1, 1).double(), 1).item())
