"""The heart of the project: is the bound right?"""

import math

import numpy as np
import pytest
import reference
import torch
from torch import distributions

from nonequilibrium.adapters import bits_per_dim as cost_in_bits
from nonequilibrium.bound.bound import (
    Bound,
    L_null,
    bits,
    bits_per_dim,
    entropy_terms,
    full_bound,
    mean_se,
    sampled_bound,
)
from nonequilibrium.bound.optimum import (
    HeartbeatOptimum,
    SwissRollOptimum,
    heartbeat_optimal_kl,
    optimality_gap,
)
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.bound.theory import jarzynski, reverse_entropy_bounds
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import Bernoulli, BinomialKernel, GaussianKernel, Normal
from nonequilibrium.diffusion.schedules import even_log_snr_schedule, schedule
from nonequilibrium.errors import BoundError, Refusal


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class GaussianDataOptimum:
    """The optimal reverse kernel for data N(mean, var I): conjugate, so the exact conditional
    q(x^{t−1}|x^t).
    """

    def __init__(self, kernel, mean=0.0, var=1.0):
        self.kernel, self.mean, self.var = kernel, mean, var

    def __call__(self, xt, t):
        k = self.kernel
        before, beta = k.at(k.alpha_bar, t - 1, xt), k.at(k.beta, t, xt)
        prior_mean = before.sqrt() * self.mean
        prior_var = before * self.var + k.at(k.one_minus_alpha_bar, t - 1, xt)
        precision = 1 / prior_var + (1 - beta) / beta
        return Normal(
            (prior_mean / prior_var + (1 - beta).sqrt() * xt / beta) / precision, 1 / precision
        )


@pytest.fixture(scope="module")
def gaussian():
    return GaussianKernel(even_log_snr_schedule(20, 1e-3, 0.02))


# ---------------------------------------------------------------- closed forms


def test_forward_variance_and_no_drift_give_L_null_on_unit_gaussian_data(gaussian):
    x0 = torch.randn(20_000, 2, generator=seeded(0), dtype=torch.float64)
    bound = full_bound(gaussian, lambda xt, t: gaussian.q_step(xt, t), x0, seeded(1))
    null = L_null(gaussian, x0)
    assert abs(bound.K - null.mean().item()) < 4 * bound.se
    assert bound.K == pytest.approx(-2 * 0.5 * math.log(2 * math.pi * math.e), abs=0.05)


@pytest.mark.parametrize("mean, var", [(0.0, 1.0), (0.0, 0.3), (1.5, 1.0), (-0.7, 2.5)])
def test_optimal_kernel_on_gaussian_data_has_the_known_gap(gaussian, mean, var):
    """K is below L by the divergences of both ends of the chain from π, and by nothing else."""
    x0 = mean + math.sqrt(var) * torch.randn(40_000, 2, generator=seeded(2), dtype=torch.float64)
    bound = full_bound(gaussian, GaussianDataOptimum(gaussian, mean, var), x0, seeded(3))
    log_density = (-0.5 * ((x0 - mean) ** 2 / var + math.log(2 * math.pi * var))).sum(1)

    def divergence_from_pi(t):
        m, v = (
            mean * gaussian.alpha_bar[t].sqrt(),
            var * gaussian.alpha_bar[t] + gaussian.one_minus_alpha_bar[t],
        )
        return float(2 * 0.5 * (v + m**2 - 1 - torch.log(torch.as_tensor(v))))

    # The chain is exact from x^T to x^1; x^1 to x^0 is the kernel of equilibrium (44).
    gap = divergence_from_pi(gaussian.T) + divergence_from_pi(0) - divergence_from_pi(1)
    short, se = mean_se(log_density - bound.per_example)
    assert gap >= 0 and abs(short - gap) < 4 * se + 1e-12
    assert bound.K <= log_density.mean().item() + 4 * bound.se, "a lower bound in all cases"


def terms_of_14(kernel, x0):
    """H_q(X^T|X^0) − H_q(X^1|X^0) − H_p(X^T), of π by torch."""
    pi = kernel.stationary(x0.shape, x0.dtype)
    binomial = isinstance(kernel, BinomialKernel)
    law = distributions.Bernoulli(logits=pi.logit) if binomial else distributions.Normal(*pi)
    return kernel.entropy(x0, kernel.T) - kernel.entropy(x0, 1) - law.entropy().sum(-1)


def test_equation_14_is_exact_for_unit_second_moment_and_only_then(gaussian):
    x0 = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(entropy_terms(gaussian, x0), terms_of_14(gaussian, x0))
    assert not torch.allclose(entropy_terms(gaussian, 2 * x0), terms_of_14(gaussian, 2 * x0))
    heartbeat, kernel = Heartbeat().templates(), BinomialKernel(schedule("inverse", 10), 0.2)
    assert torch.allclose(entropy_terms(kernel, heartbeat), terms_of_14(kernel, heartbeat))


def test_printed_checks_of_table_1():
    """−2.414 − 12.024 = −20 H₂(0.2), 2.35 − 6.45 = −2 · 2.047, and 5.4 bits/pixel of CIFAR-10 is
    4.20 bits/dim.
    """
    kernel = BinomialKernel(schedule("inverse", 10), 0.2)
    assert bits(L_null(kernel, Heartbeat().templates()).mean().item()) == pytest.approx(
        -2.414 - 12.024, abs=1e-3
    )
    roll = SwissRoll(1e-3).sample(100_000, seeded(0))
    null = L_null(GaussianKernel(even_log_snr_schedule(5, 1e-3, 0.1)), roll).mean().item()
    assert bits(null) == pytest.approx(2.35 - 6.45, abs=0.01)
    assert bits_per_dim(5.4, 3, 64.15) == pytest.approx(4.20, abs=0.005)


# ---------------------------------------------------------------- brute force


@pytest.fixture(scope="module")
def small_chain():
    """A 2^5-state chain with an arbitrary data law and arbitrary reverse rates."""
    random = np.random.default_rng(0)
    data = random.dirichlet(np.full(32, 0.3))
    beta, pi = [0.1, 0.25, 0.4, 0.6], 0.3
    chain = reference.BinomialChain(beta, pi, data)
    rates = {
        t: random.uniform(0.1, 0.9, (32, 5)) * 0.3 + 0.7 * (chain.x * 0.8 + 0.1)
        for t in range(2, 5)
    }
    kernel = BinomialKernel(torch.tensor(beta, dtype=torch.float64), pi)
    weights = torch.tensor([16, 8, 4, 2, 1])
    table = {t: torch.logit(torch.tensor(r)) for t, r in rates.items()}

    def model(xt, t):
        index = (xt * weights).sum(-1).long()
        if isinstance(t, torch.Tensor) and t.dim():
            return Bernoulli(torch.stack([table[int(s)][i] for s, i in zip(t, index, strict=True)]))
        return Bernoulli(table[int(t)][index])

    reverse = chain.reverse(rates)
    return chain, reverse, kernel, model


def test_K_equals_complete_enumeration(small_chain):
    chain, reverse, kernel, model = small_chain
    exact = chain.K(reverse)
    # Data in exact proportion to its law is not possible; weight the per-state means instead.
    states = torch.tensor(chain.x)
    per_state = torch.stack(
        [full_bound(kernel, model, states, seeded(s)).per_example for s in range(400)]
    )
    estimate, weight = per_state.mean(0), torch.tensor(chain.data)
    se = math.sqrt(float((weight**2 * per_state.var(0) / len(per_state)).sum()))
    assert abs(float(estimate @ weight) - exact) < 4 * se
    assert se < 0.02
    assert exact < float(chain.data @ chain.log_likelihood(reverse))


def test_K_of_each_state_is_below_its_log_likelihood_and_Jarzynski_lies_between(small_chain):
    chain, reverse, kernel, model = small_chain
    truth = torch.tensor(chain.log_likelihood(reverse))
    states = torch.tensor(chain.x)
    many = jarzynski(kernel, model, states, 20_000, seeded(5))
    assert torch.allclose(many, truth, atol=0.06), "(9) is an equality"
    averages = []
    for trajectories in (1, 4, 16, 64):
        runs = [jarzynski(kernel, model, states, trajectories, seeded(s)) for s in range(40)]
        averages.append(mean_se(torch.stack(runs).mean(1)))
    for (low, low_se), (high, high_se) in zip(averages, averages[1:], strict=False):
        assert low < high + 3 * (low_se + high_se)
    assert averages[-1][0] < truth.mean().item() + 3 * averages[-1][1]
    runs = [full_bound(kernel, model, states, seeded(s)).K for s in range(40)]
    K, se = mean_se(torch.tensor(runs, dtype=torch.float64))
    assert abs(K - averages[0][0]) < 4 * se + 4 * averages[0][1]


def test_entropy_bounds_24_hold_and_equal_exact_sums(small_chain):
    chain, _, kernel, _ = small_chain
    # Weighted data: repeat each state in proportion, coarsely, and give the enumeration the same
    # law.
    counts = np.round(chain.data * 2000).astype(int)
    x0 = torch.tensor(np.repeat(chain.x, counts, axis=0))
    same = reference.BinomialChain(chain.beta, chain.pi, counts / counts.sum())
    lower, upper = reverse_entropy_bounds(kernel, x0)
    for t in range(2, 5):
        # Both bounds from enumerated joint laws, H(X^t|X^{t−1}) and H(X^t|X^0).
        def conditional(law, matrix):
            return -(law[:, None] * matrix * np.log(matrix)).sum()

        step = conditional(same.data @ same.marginal[t - 1], same.forward[t])
        before = conditional(same.data, same.marginal[t - 1])
        after = conditional(same.data, same.marginal[t])
        assert upper[t].item() == pytest.approx(step, rel=1e-9)
        assert lower[t].item() == pytest.approx(step + before - after, rel=1e-9)
        assert lower[t].item() <= same.reverse_entropy(t) + 1e-12
    assert math.isnan(lower[1]) and math.isnan(upper[0])
    # The upper bound needs data no more ordered than π: with data drawn from π it is an equality.
    equilibrium = reference.BinomialChain(chain.beta, chain.pi, chain.stationary)
    assert equilibrium.reverse_entropy(3) == pytest.approx(
        -(
            equilibrium.stationary[:, None]
            * equilibrium.forward[3]
            * np.log(equilibrium.forward[3])
        ).sum()
    )


def test_entropy_bounds_24_for_gaussian_data(gaussian):
    x0 = torch.randn(10, 2, generator=seeded(0), dtype=torch.float64)
    lower, upper = reverse_entropy_bounds(gaussian, x0)
    for t in range(2, gaussian.T + 1):
        exact = math.log(2 * math.pi * math.e) + math.log(
            GaussianDataOptimum(gaussian)(x0, t).var.max().item()
        )
        assert lower[t] <= exact + 1e-9 and exact <= upper[t] + 1e-9


# ---------------------------------------------------------------- second implementation


def test_gaussian_bound_equals_the_numpy_implementation(gaussian):
    x0 = SwissRoll(0.01).sample(50, seeded(1))

    def model(xt, t):
        return Normal(0.9 * xt + 0.1 * torch.tanh(xt.flip(-1)), 0.02 + 0.1 * torch.sigmoid(xt))

    bound = full_bound(gaussian, model, x0, seeded(2), block=1)
    beta, draws = gaussian.beta[1:].numpy(), seeded(2)
    for t in range(2, gaussian.T + 1):
        noise = torch.randn(1, 50, 2, generator=draws, dtype=torch.float64)[0].numpy()
        alpha_bar = np.prod(1 - beta[:t])
        xt = np.sqrt(alpha_bar) * x0.numpy() + np.sqrt(1 - alpha_bar) * noise
        p = model(torch.tensor(xt), t)
        expected = reference.gaussian_K_terms(
            beta, x0.numpy(), xt, t, p.mean.numpy(), p.var.numpy()
        )
        assert np.allclose(bound.kl[:, t].numpy(), expected, rtol=1e-7)
    assert np.allclose(bound.rest.numpy(), reference.gaussian_rest(beta, x0.numpy()), rtol=1e-9)


# ---------------------------------------------------------------- order and optimum


@pytest.fixture(scope="module")
def toys():
    roll = SwissRoll(0.02)
    roll_kernel = GaussianKernel(even_log_snr_schedule(20, 1e-4, 0.05))
    best = SwissRollOptimum(roll_kernel, roll)

    def worse(xt, t):
        p = best(xt, t)
        return Normal(p.mean + 0.05 * p.var.sqrt() * torch.sin(xt), 1.1 * p.var)

    beat_kernel = BinomialKernel(schedule("inverse", 40), 0.2)
    beat_best = HeartbeatOptimum(beat_kernel, Heartbeat())

    def beat_worse(xt, t):
        return Bernoulli(0.9 * beat_best(xt, t).logit)

    return {
        "roll": (roll_kernel, roll, best, worse, 100),
        "heartbeat": (beat_kernel, Heartbeat(), beat_best, beat_worse, 100),
    }


@pytest.mark.parametrize("name", ["roll", "heartbeat"])
def test_order_K_Jarzynski_truth_and_K_below_K_star(toys, name):
    kernel, law, best, model, n = toys[name]
    x0 = law.sample(n, seeded(0))
    bounds = full_bound(kernel, model, x0, seeded(1)), full_bound(kernel, best, x0, seeded(1))
    K, K_star = bounds[0].per_example, bounds[1].per_example
    estimates = [K] + [jarzynski(kernel, model, x0, m, seeded(2)) for m in (1, 4, 16)]
    truth = (
        best.log_density(x0) if name == "roll" else torch.full((n,), law.log_likelihood).double()
    )

    def above(high, low):
        difference, se = mean_se(high - low)
        return difference > -3 * se

    for low, high in zip(estimates, [*estimates[1:], truth], strict=True):
        assert above(high, low)
    assert (estimates[-1] - estimates[0]).mean() > 0.05, (
        "many trajectories must be clearly tighter than one"
    )
    assert above(K_star, K) and above(truth, K_star)
    gap = optimality_gap(kernel, best, model, x0, seeded(3)).sum(1)
    difference, se = mean_se((K_star - K) - gap)
    assert abs(difference) < 4 * se
    gap, se = mean_se(gap)
    assert gap > 5 * se


# ---------------------------------------------------------------- estimators


def test_estimators_agree_and_their_standard_errors_are_right(toys):
    kernel, law, *_ = toys["roll"]

    def model(xt, t):
        p = GaussianDataOptimum(kernel)(xt, t)
        return Normal(p.mean + 0.02 * torch.sin(xt), p.var)

    x0 = law.sample(60, seeded(0))
    pilot = full_bound(kernel, model, x0, seeded(1), replicates=20)
    proposal, typical = proposal_from(pilot.kl.square().mean(0)), pilot.kl.mean(0)
    kinds = {
        "full": lambda s: full_bound(kernel, model, x0, seeded(s), replicates=2),
        "uniform": lambda s: sampled_bound(kernel, model, x0, seeded(s), 2, stratified=False),
        "stratified": lambda s: sampled_bound(kernel, model, x0, seeded(s), 2),
        "importance": lambda s: sampled_bound(kernel, model, x0, seeded(s), 2, proposal),
        "typical": lambda s: sampled_bound(kernel, model, x0, seeded(s), 2, (proposal, typical)),
    }
    reference_K, spread = None, {}
    for name, estimate in kinds.items():
        runs = [estimate(100 + s) for s in range(60)]
        values = torch.tensor([run.K for run in runs])
        stated = torch.tensor([run.mc_se for run in runs])
        spread[name] = values.std().item()
        if reference_K is None:
            reference_K, reference_se = values.mean(), values.std() / math.sqrt(60)
        se = values.std() / math.sqrt(60) + reference_se
        assert abs(values.mean() - reference_K) < 4 * se, name
        # The stated error ignores that strata are drawn evenly over examples, so it may only be too
        # large.
        covered = ((values - reference_K).abs() < 2 * stated).double().mean()
        assert covered > 0.85, name
        if name in ("full", "uniform"):
            assert covered < 1.0 and 0.7 < values.std() / stated.square().mean().sqrt() < 1.4, name
    assert spread["full"] < spread["importance"] < spread["stratified"] * 1.05
    assert spread["typical"] < spread["importance"] * 1.05
    assert spread["importance"] < 0.8 * spread["uniform"]


def test_what_KL_is_about_takes_its_part_of_the_chance_where_examples_are_large(gaussian):
    """Of many coordinates KL_t hardly depends on the example: with what it is about known, hardly
    anything is left to the draws.
    """
    optimum = GaussianDataOptimum(gaussian)

    def wrong(xt, t):
        p = optimum(xt, t)
        return Normal(p.mean, p.var * (1.5 + 0.2 * xt.square().mean(-1, keepdim=True)))

    x0, other = (
        torch.randn(40, 400, generator=seeded(s), dtype=torch.float64) * 1.3 for s in (0, 1)
    )
    pilot = full_bound(gaussian, wrong, other, seeded(2))
    truth = full_bound(gaussian, wrong, x0, seeded(3), replicates=50)
    apart, by_size = proposal_from(pilot.kl.var(0)), proposal_from(pilot.kl.square().mean(0))
    ours, plain = (
        [sampled_bound(gaussian, wrong, x0, seeded(s), 1, proposal) for s in range(4, 24)]
        for proposal in ((apart, pilot.kl.mean(0)), by_size)
    )
    K = torch.tensor([run.K for run in ours])
    assert abs(K.mean() - truth.K) < 4 * (K.std() / 20**0.5 + truth.mc_se)
    sd, plain_sd = (torch.tensor([run.mc_se for run in runs]).mean() for runs in (ours, plain))
    assert sd < 0.8 * plain_sd
    # The mean term at each t is what it is without the help of ``typical``.
    assert torch.allclose(
        torch.stack([run.kl.mean(0) for run in ours]).mean(0), truth.kl.mean(0), rtol=0.1, atol=0.02
    )


def test_total_standard_error_covers_the_truth(gaussian):
    """se over held-out examples: K of fresh Gaussian data sets falls within 2 se of the known
    expectation.
    """
    hits, truth = 0, None
    model = GaussianDataOptimum(gaussian)
    truth = -math.log(
        2 * math.pi * math.e
    )  # unit Gaussian data: the chain stays in equilibrium, K = L
    for s in range(200):
        x0 = torch.randn(100, 2, generator=seeded(1000 + s), dtype=torch.float64)
        bound = full_bound(gaussian, model, x0, seeded(s))
        hits += abs(bound.K - truth) < 2 * bound.se
    assert 0.90 < hits / 200 < 0.99


def test_control_variate_changes_the_noise_and_not_the_value(toys):
    kernel, law, best, model, _ = toys["heartbeat"]
    x0 = law.sample(400, seeded(0))
    control = (best, heartbeat_optimal_kl(kernel, Heartbeat()))
    plain = full_bound(kernel, model, x0, seeded(1), replicates=2)
    helped = full_bound(kernel, model, x0, seeded(2), replicates=2, control=control)
    assert abs(plain.K - helped.K) < 4 * plain.se
    assert helped.se < 0.3 * plain.se and helped.mc_se < 0.3 * plain.mc_se
    exact = full_bound(kernel, best, x0, seeded(3), control=control)
    assert exact.K == pytest.approx(
        float(entropy_terms(kernel, x0).mean() - control[1].sum()), abs=1e-12
    )
    assert exact.se < 1e-12


def test_terms_are_by_example_and_time_step(gaussian):
    x0 = SwissRoll(0.01).sample(7, seeded(0))
    bound = full_bound(gaussian, GaussianDataOptimum(gaussian), x0, seeded(1), replicates=3)
    assert bound.kl.shape == (7, gaussian.T + 1) and bound.replicates.shape == (3, 7)
    assert (bound.kl[:, :2] == 0).all() and (bound.kl[:, 2:] >= 0).all()
    assert torch.allclose(bound.replicates.mean(0), bound.per_example)
    sampled = sampled_bound(gaussian, GaussianDataOptimum(gaussian), x0, seeded(1), draws=5)
    assert sampled.kl.shape == bound.kl.shape and (sampled.kl[:, :2] == 0).all()


@pytest.mark.parametrize(
    "x0, message",
    [
        (torch.zeros(5), "shape \\(5,\\)"),
        (torch.zeros(1, 2), "at least 2 examples"),
        (torch.tensor([[0.0, math.nan], [0.0, 0.0]]), "NaN"),
    ],
)
def test_bad_data_is_refused_before_any_work(gaussian, x0, message):
    def never(xt, t):
        raise AssertionError("no work may start")

    for estimate in (full_bound, jarzynski):
        with pytest.raises(ValueError, match=message):
            if estimate is full_bound:
                estimate(gaussian, never, x0, seeded(0))
            else:
                estimate(gaussian, never, x0, 4, seeded(0))
    with pytest.raises(ValueError, match=message):
        sampled_bound(gaussian, never, x0, seeded(0), 1)


class NoModel:
    def __call__(self, xt, t):
        raise AssertionError("no work may start")


ROLL = torch.zeros(5, 2, dtype=torch.float64)
OTHER = GaussianKernel(torch.full((20,), 0.1))
SETTINGS = [
    (dict(draws=0), "draws is 0"),
    (dict(draws=True), "draws is True"),
    (dict(draws=-3), "draws is -3"),
    (dict(draws=2.5), "draws is 2.5"),
    (dict(replicates=0), "replicates is 0"),
    (dict(replicates=-1), "replicates is -1"),
    (dict(generator=None), "the generator is None"),
    (dict(x0=[[0.0, 1.0]] * 3), "is a list"),
    (dict(x0=torch.zeros(5, 0)), r"shape \(5, 0\)"),
    (dict(x0=torch.zeros(5, 2, dtype=torch.uint8)), "dtype torch.uint8"),
    (dict(x0=torch.zeros(5, 2, dtype=torch.int64)), "dtype torch.int64"),
    (dict(x0=torch.zeros(5, 2, dtype=torch.bool)), "dtype torch.bool"),
    (dict(x0=torch.zeros(5, 2, dtype=torch.float16)), "dtype torch.float16"),
    (dict(x0=torch.zeros(5, 2, dtype=torch.complex64)), "dtype torch.complex64"),
]
OF_FULL = [
    (dict(noisier_share=1.0), "noisier_share is 1.0"),
    (dict(noisier_share=-0.1), "noisier_share is -0.1"),
    (dict(noisier_share=math.nan), "noisier_share is nan"),
    (dict(control=(GaussianDataOptimum(None), torch.zeros(7))), r"shape \(7,\); it must hold 21"),
    (dict(control=(GaussianDataOptimum(None), torch.full((21,), math.nan))), "21 finite values"),
    (dict(control=(GaussianDataOptimum(OTHER), torch.zeros(21))), "another chain"),
]
OF_SAMPLED = [
    (dict(proposal=torch.ones(20)), r"shape \(20,\); it must hold 21"),
    (dict(proposal=torch.full((21,), math.inf)), "the proposal"),
    (dict(proposal=proposal_from(torch.zeros(21), 0.1)), "the proposal"),
    (dict(proposal=proposal_from(-torch.ones(21), 0.1)), "the proposal"),
    (dict(proposal=proposal_from(torch.arange(21) % 3, 0)), "proposal is not positive"),
    (dict(proposal=(None, torch.zeros(20))), r"typical has shape \(20,\); it must hold 21"),
    (dict(proposal=(None, torch.full((21,), math.nan))), "typical"),
    (dict(proposal=(None, torch.ones(21))), "zero at t < 2"),
]


@pytest.mark.parametrize(
    "estimate, changes, message",
    [(full_bound, *case) for case in SETTINGS if "draws" not in case[0]]
    + [(full_bound, *case) for case in OF_FULL]
    + [(sampled_bound, *case) for case in SETTINGS + OF_SAMPLED]
    + [(jarzynski, *case) for case in SETTINGS if {"x0", "reverse", "generator"} & case[0].keys()]
    + [(jarzynski, dict(trajectories=n), f"trajectories is {n}") for n in (0, -1, 1.5)],
)
def test_settings_that_give_nonsense_are_one_sentence_before_any_work(
    gaussian, estimate, changes, message
):
    call = {"kernel": gaussian, "reverse": NoModel(), "x0": ROLL, "generator": seeded(0)} | changes
    call |= {
        sampled_bound: {"draws": call.get("draws", 1)},
        jarzynski: {"trajectories": call.get("trajectories", 1)},
    }.get(estimate, {})
    with pytest.raises(BoundError, match=message) as caught:
        estimate(**call)
    assert isinstance(caught.value, Refusal) and "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("where", ["everywhere", "once"])
def test_a_variance_that_is_none_is_named(gaussian, bad, where):
    def model(xt, t):
        var = torch.full_like(xt, bad if where == "everywhere" else 1.0)
        var.view(-1)[-1] = bad
        return Normal(xt, var)

    assert_model_is_refused(
        gaussian, model, ROLL, "var is from .* all of it must be positive and finite"
    )


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda xt, t: Normal(xt[..., :1], torch.ones_like(xt)), "mean has shape"),
        (lambda xt, t: Normal(xt[..., 0], torch.ones_like(xt)), "mean has shape"),
        (lambda xt, t: Normal(xt.expand(3, *xt.shape), torch.ones_like(xt)), "mean has shape"),
        (lambda xt, t: Normal(xt, torch.ones(5)), "var has shape"),
        (lambda xt, t: Normal(xt, 1.0), "var is 1.0; it must be a real tensor"),
        (lambda xt, t: Normal(xt, torch.ones_like(xt).long()), "var is torch.int64; it must be"),
        (lambda xt, t: Normal(xt * math.nan, torch.ones_like(xt)), "mean is from nan to nan"),
        (lambda xt, t: xt, "mean is"),
        (lambda xt, t: None, "mean is None"),
        (lambda xt, t: Bernoulli(xt), "mean is None"),
    ],
)
def test_what_is_no_gaussian_is_named(gaussian, model, message):
    assert_model_is_refused(gaussian, model, ROLL, message)


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda xt, t: Bernoulli(xt[..., :1]), "logit has shape"),
        (lambda xt, t: Bernoulli(xt / 0), "logit is from .* all of it must be finite"),
        (lambda xt, t: Normal(xt, torch.ones_like(xt)), "logit is None"),
        (lambda xt, t: torch.sigmoid(xt), "logit is"),
    ],
)
def test_what_are_no_bits_is_named(model, message):
    kernel = BinomialKernel(schedule("inverse", 10), 0.2)
    assert_model_is_refused(kernel, model, Heartbeat().templates(), message)


def assert_model_is_refused(kernel, model, x0, message):
    for run in (
        lambda: full_bound(kernel, model, x0, seeded(0)),
        lambda: sampled_bound(kernel, model, x0, seeded(0), 2),
        lambda: jarzynski(kernel, model, x0, 2, seeded(0)),
        lambda: optimality_gap(kernel, lambda xt, t: kernel.q_step(xt, t), model, x0, seeded(0)),
    ):
        with pytest.raises(BoundError, match=message):
            run()


def test_a_variance_may_be_shared_by_coordinates(gaussian):
    one = torch.tensor(0.5, dtype=torch.float64)
    shared, axes, whole = (
        full_bound(gaussian, lambda xt, t, of=of: Normal(xt, of(xt)), ROLL, seeded(0)).K
        for of in (lambda x: one, lambda x: one.expand(1, 1, 1), lambda x: one.expand_as(x))
    )
    assert shared == axes == whole


@pytest.mark.parametrize(
    "bad",
    [lambda x: 255 * x, lambda x: 2 * x - 1, lambda x: x / 2, lambda x: x.to(torch.uint8) * 255],
)
def test_bits_are_zeros_and_ones(bad):
    kernel, x0 = BinomialKernel(schedule("inverse", 10), 0.2), bad(Heartbeat().templates())
    for run in (
        lambda: full_bound(kernel, NoModel(), x0, seeded(0)),
        lambda: sampled_bound(kernel, NoModel(), x0, seeded(0), 2),
        lambda: jarzynski(kernel, NoModel(), x0, 2, seeded(0)),
        lambda: L_null(kernel, x0),
        lambda: reverse_entropy_bounds(kernel, x0),
    ):
        with pytest.raises(
            BoundError,
            match="has values from -?[01.]+ to [0-9.]+; the binomial chain takes bits, 0 or 1",
        ):
            run()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_bits_of_any_kind_of_number_give_the_same_bound(dtype):
    kernel, x0 = BinomialKernel(schedule("inverse", 10), 0.2), Heartbeat().templates()
    best = HeartbeatOptimum(kernel, Heartbeat())
    as_numbers, plain = (full_bound(kernel, best, x, seeded(0)).K for x in (x0.to(dtype), x0))
    assert as_numbers == plain
    assert torch.equal(L_null(kernel, x0.to(dtype)), L_null(kernel, x0))


def test_units_that_mean_nothing_are_refused():
    for dims, sigma in ((0, 1.0), (3, 0.0), (3, math.nan)):
        with pytest.raises(BoundError, match="must be positive"):
            bits_per_dim(1.0, dims, sigma)


def test_errors_are_those_of_the_textbook():
    """K of three examples by hand: the standard error is s/√n, the estimator's √(mean variance/(r
    n)).
    """
    each = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    replicates = torch.stack([each - 0.5, each + 0.5])
    bound = Bound(torch.zeros(3, 5, dtype=torch.float64), each, replicates)
    assert (bound.K, bound.se) == mean_se(each) == pytest.approx((3.0, math.sqrt(7 / 3)))
    assert bound.mc_se == pytest.approx(math.sqrt(0.5 / 6))


def test_bad_proposals_and_lone_replicates_are_refused(gaussian):
    x0 = torch.zeros(3, 2, dtype=torch.float64)
    for proposal in (torch.ones(gaussian.T + 1), torch.zeros(gaussian.T + 1), torch.ones(4)):
        with pytest.raises(ValueError, match="proposal"):
            sampled_bound(gaussian, GaussianDataOptimum(gaussian), x0, seeded(0), 1, proposal)
    lone = Bound(torch.zeros(3, 21), torch.zeros(3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="replicate"):
        _ = lone.mc_se


def test_the_noise_of_a_last_step_to_levels_is_part_of_both_errors():
    """All images are alike and every KL_t is zero, so that all chance is that of L_0's draws."""
    kernel, grey = GaussianKernel(schedule("even_log_snr", 5, beta_1=1e-3, alpha_bar_T=0.1), 3), 1.0

    def reverse(xt, t):
        last = (t == 1).reshape(-1, 1, 1, 1)  # p(x^0|x^1) has x^1 for its mean
        q = kernel.q_posterior(torch.full_like(xt, grey), xt, t.clamp(min=2))
        return Normal(torch.where(last, xt, q.mean), torch.where(last, 1e-3, q.var))

    images = torch.full((30, 1, 2, 2), grey)
    runs = [
        cost_in_bits((kernel, reverse), images, draws, seed=s)
        for draws in (None, 1)
        for s in range(20)
    ]
    spread = torch.tensor([run.bits_per_dim for run in runs]).std()
    stated = torch.tensor([[run.se, run.mc_se] for run in runs]).square().mean(0).sqrt()
    assert (0.7 < spread / stated).all() and (spread / stated < 1.4).all()
    assert not runs[0].matrix[:, 2:].any()
