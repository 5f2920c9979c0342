"""Every equation of the theory notebook against sums over all states, closed forms and a second
implementation.
"""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from enumerated import Enumerated
from recursion import denoised, expected_kl, inpainted, posterior, reverse_kernel

from nonequilibrium.bound.bound import bits, entropy_terms
from nonequilibrium.bound.optimum import (
    HeartbeatOptimum,
    SwissRollOptimum,
    counts_pmf,
    heartbeat_entropy,
    heartbeat_log_p,
    heartbeat_optimal_kl,
    heartbeat_reverse_entropy,
)
from nonequilibrium.bound.theory import (
    effective_sample_size,
    estimates,
    jarzynski,
    log_ratios,
    reverse_entropy_bounds,
)
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import Bernoulli, BinomialKernel, GaussianKernel, Normal
from nonequilibrium.diffusion.posterior import (
    BitFactor,
    Denoise,
    TemplateFactor,
)
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import BoundError
from replication.files import to_json
from replication.theory import posteriors, theory
from replication.theory.posteriors import Row

LAW = Heartbeat()


class Short(Heartbeat):
    """Six bits, three templates: few enough for all 64 states."""

    dim, period = 6, 3


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def heartbeats(T):
    kernel = BinomialKernel(schedule("inverse", T), 0.2)
    return kernel, HeartbeatOptimum(kernel, LAW)


@pytest.fixture(scope="module")
def small():
    """Three bits, three steps, an arbitrary reverse kernel; data are the states with a single one,
    whose mean is π.
    """
    kernel = BinomialKernel(schedule("inverse", 3), 1 / 3)
    weights = torch.randn(3, 3, generator=seeded(0), dtype=torch.float64)
    return kernel, Enumerated(kernel, lambda xt, t: Bernoulli((2 * xt - 1) @ weights - 0.5), 3)


def by_path(tiny, T):
    """Every trajectory, with its probability under p and, given x^0, under q."""
    paths = torch.cartesian_prod(*[torch.arange(len(tiny.states))] * (T + 1))
    p, q = tiny.pi[paths[:, T]], torch.ones(len(paths), dtype=torch.float64)
    for t in range(1, T + 1):
        p, q = (
            p * tiny.p[t][paths[:, t], paths[:, t - 1]],
            q * tiny.q[t][paths[:, t - 1], paths[:, t]],
        )
    return paths[:, 0], p, q


# ---------------------------------------------------------------- (4) to (13), the average over
# trajectories


def test_every_trajectory_of_a_small_chain_summed(small):
    kernel, tiny = small
    start, p, q = by_path(tiny, kernel.T)

    def summed(values):
        return torch.zeros(8, dtype=torch.float64).index_add(0, start, values)

    assert torch.allclose(summed(p), tiny.model_marginal(0)) and summed(
        p
    ).sum().item() == pytest.approx(1)
    assert torch.allclose(summed(q * (p / q)), tiny.average_ratio()) and torch.allclose(
        summed(p), tiny.average_ratio()
    )
    assert (
        torch.allclose(summed(q * torch.log(p / q)), tiny.K())
        and (tiny.K() < torch.log(summed(p))).all()
    )


def test_draws_of_the_ratio_average_to_the_sums(small):
    kernel, tiny = small
    weights = torch.randn(3, 3, generator=seeded(0), dtype=torch.float64)
    n = 20_000
    log_ratio = log_ratios(
        kernel, lambda xt, t: Bernoulli((2 * xt - 1) @ weights - 0.5), tiny.states, n, seeded(1)
    )
    for drawn, exact in ((torch.exp(log_ratio), tiny.model_marginal(0)), (log_ratio, tiny.K())):
        assert ((drawn.mean(0) - exact).abs() < 5 * drawn.std(0) / n**0.5).all()


def test_samples_of_a_small_chain_have_the_summed_probabilities(small):
    kernel, tiny = small
    weights = torch.randn(3, 3, generator=seeded(0), dtype=torch.float64)
    n = 20_000
    drawn = sample(kernel, lambda xt, t: Bernoulli((2 * xt - 1) @ weights - 0.5), (n, 3), seeded(2))
    share, exact = (drawn[:, None] == tiny.states).all(-1).double().mean(0), tiny.model_marginal(0)
    assert ((share - exact).abs() < 5 * (exact * (1 - exact) / n).sqrt()).all()
    start = torch.exp(
        kernel.log_prob(tiny.states, kernel.stationary(tiny.states.shape, torch.float64))
    )
    assert torch.allclose(start, tiny.pi)


@pytest.mark.parametrize("name", ["heartbeat", "swiss_roll"])
def test_log_ratios_are_those_of_the_Jarzynski_average(name):
    if name == "heartbeat":
        (kernel, reverse), x0 = heartbeats(10), LAW.sample(5, seeded(0))
    else:
        kernel, law = theory.swiss_roll_chain(6), SwissRoll(0.05)
        reverse, x0 = SwissRollOptimum(kernel, law), law.sample(5, seeded(0))
    random, path = seeded(1), [x0.expand(8, *x0.shape)]
    with torch.no_grad():
        for t in range(1, kernel.T + 1):
            path.append(kernel.sample(kernel.q_step(path[-1], t), random))
        terms = kernel.log_pi(path[-1]) + kernel.log_pi(path[0]) - kernel.log_pi(path[1])
        for t in range(2, kernel.T + 1):
            backward, forward = reverse(path[t], t), kernel.q_step(path[t - 1], t)
            terms = (
                terms + kernel.log_prob(path[t - 1], backward) - kernel.log_prob(path[t], forward)
            )
    torch.testing.assert_close(log_ratios(kernel, reverse, x0, 8, seeded(1)), terms)
    average = torch.logsumexp(terms, 0) - math.log(8)
    torch.testing.assert_close(jarzynski(kernel, reverse, x0, 8, seeded(1)), average)


def test_groups_of_trajectories_and_their_effective_number():
    log_ratio = torch.log(
        torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0], [7.0, 2.0], [9.0, 2.0]])
    )
    assert torch.allclose(estimates(log_ratio, 2).exp(), torch.tensor([[2.0, 2.0], [6.0, 2.0]]))
    assert torch.equal(estimates(log_ratio, 1), log_ratio)
    assert torch.allclose(effective_sample_size(log_ratio), torch.tensor([25**2 / 165, 5.0]))
    with pytest.raises(BoundError, match="n is 6; it must be from 1 to the 5"):
        estimates(log_ratio, 6)


def test_averages_rise_from_K_to_the_exact_log_p():
    kernel, optimum = heartbeats(20)
    K_star = float(
        entropy_terms(kernel, LAW.templates()[:1]) - heartbeat_optimal_kl(kernel, LAW).sum()
    )
    log_ratio = log_ratios(kernel, optimum, LAW.sample(40, seeded(0)), 256, seeded(1))
    means = [estimates(log_ratio, n).flatten() for n in (1, 4, 16, 64, 256)]
    assert all(a.mean() < b.mean() for a, b in zip(means, means[1:], strict=False))
    assert abs(means[0].mean() - K_star) < 4 * means[0].std() / len(means[0]) ** 0.5
    ratio = torch.exp(log_ratio.flatten())
    error = ratio.std() / len(ratio) ** 0.5
    assert abs(ratio.mean() - math.exp(heartbeat_log_p(kernel, LAW))) < 4 * error
    assert K_star < heartbeat_log_p(kernel, LAW) < LAW.log_likelihood


# ---------------------------------------------------------------- the heartbeat by counts


@pytest.mark.parametrize("T", [2, 7])
def test_log_p_of_the_heartbeat_by_counts_is_that_by_all_states(T):
    kernel = BinomialKernel(schedule("inverse", T), 0.3)
    whole = Enumerated(kernel, HeartbeatOptimum(kernel, Short()), 6)
    place = [int((whole.states == row).all(1).nonzero()) for row in Short().templates()]
    log_p = torch.log(whole.model_marginal(0)[place])
    assert torch.allclose(log_p, log_p[0]) and heartbeat_log_p(
        kernel, Short(), block=3
    ) == pytest.approx(float(log_p[0]))


def test_the_entropy_by_counts_is_that_by_all_states_and_lies_in_its_bracket():
    law, kernel = Short(), BinomialKernel(schedule("inverse", 6), 1 / 3)
    whole = Enumerated(kernel, HeartbeatOptimum(kernel, law), 6)
    q0 = (whole.states[:, None] == law.templates()).all(-1).any(1).double() / 3
    assert q0.sum() == 1
    entropy, conditional = heartbeat_entropy(kernel, law), heartbeat_reverse_entropy(kernel, law)
    lower, upper = reverse_entropy_bounds(kernel, law.templates())
    for t in range(7):
        q = q0 @ whole.forward_marginal(t)
        assert float(entropy[t]) == pytest.approx(float(torch.special.entr(q).sum()))
        if t > 1:
            assert float(conditional[t]) == pytest.approx(float(whole.reverse_entropy(q0, t)))
            assert lower[t] < conditional[t] + 1e-12 and conditional[t] < upper[t] + 1e-12


def test_numbers_of_ones_are_binomial():
    pmf = counts_pmf(torch.full((3, 4), 0.3, dtype=torch.float64))
    assert torch.allclose(
        pmf[1], torch.tensor([math.comb(4, k) * 0.3**k * 0.7 ** (4 - k) for k in range(5)]).double()
    )


def test_the_brackets_close_as_T_grows_and_the_truth_stays_in_them():
    widths = []
    for T in (10, 40, 160):
        bracket = theory.heartbeat_brackets(heartbeats(T)[0], LAW)
        lower, truth, upper = (np.array(bracket[name]) for name in ("lower", "truth", "upper"))
        assert 0 < (truth - lower).sum() / (upper - lower).sum() < 1
        widths.append(upper - lower)
    for a, b in zip(widths, widths[1:], strict=False):
        assert a.mean() > 3 * b.mean() and a.max() > 2 * b.max()


def test_the_density_of_the_noised_roll_is_one_in_all_and_gives_the_entropy():
    law, kernel = (
        SwissRoll(0.1),
        GaussianKernel(schedule("even_log_snr", 8, beta_1=0.05, alpha_bar_T=0.1)),
    )
    optimum = SwissRollOptimum(kernel, law)
    side = torch.linspace(-5, 5, 126, dtype=torch.float64)
    grid, area = torch.cartesian_prod(side, side), float(side[1] - side[0]) ** 2
    log_q = [theory.swiss_roll_log_q(optimum, grid, t) for t in (1, 4, 8)]
    for each in log_q:
        assert float(each.exp().sum()) * area == pytest.approx(1, abs=1e-3)
    entropy = {
        t: -float((each.exp() * each).sum()) * area
        for t, each in zip((1, 4, 8), log_q, strict=True)
    }
    found = theory.swiss_roll_brackets(kernel, law, 2000, 0)
    fallen = np.array(found["truth"]) - np.array(
        [bits(float(kernel.step_entropy(grid[:1], t))) for t in found["t"]]
    )
    error = np.array(found["truth_se"])
    for a, b in ((1, 4), (4, 8)):  # the sum over t of H(X^{t−1}) − H(X^t)
        part = slice(a - 1, b - 1)
        assert bits(entropy[a] - entropy[b]) == pytest.approx(
            fallen[part].sum(), abs=5 * error[part].sum() + 1e-3
        )


# ---------------------------------------------------------------- (15)


def test_no_reverse_kernel_has_a_larger_K_than_the_optimum(small):
    law = Short()
    kernel = BinomialKernel(schedule("inverse", 4), 1 / 3)
    best = HeartbeatOptimum(kernel, law)

    def K(reverse):
        whole = Enumerated(kernel, reverse, 6)
        return float(whole.K()[(whole.states[:, None] == law.templates()).all(-1).any(1)].mean())

    for seed in range(4):
        shift = 0.1 * torch.randn(6, generator=seeded(seed), dtype=torch.float64)
        assert (
            K(lambda xt, t, shift=shift: Bernoulli(best(xt, t).logit + shift))
            < K(best)
            < math.log(1 / 3)
        )


# ---------------------------------------------------------------- (16) to (23), (61)


def test_the_perturbed_chain_is_exact_with_r_through_the_model_and_not_with_constant_r(small):
    kernel, tiny = small
    T, r0 = kernel.T, torch.rand(8, generator=seeded(3), dtype=torch.float64)
    exact = tiny.perturbed_marginals([r0] * (T + 1))[0]
    for r, right in ((tiny.looked_through(r0), True), ([r0] * (T + 1), False)):
        marginals = tiny.perturbed_marginals(r)
        x = marginals[T]
        for t in range(T, 0, -1):
            x = x @ tiny.perturbed_step(t, r[t - 1])
            assert torch.allclose(x, marginals[t - 1]) or not right
        assert torch.allclose(x, exact) is right


def test_the_perturbed_rate_is_that_of_table_App_1():
    c, d = torch.rand(2, 50, generator=seeded(0), dtype=torch.float64)
    p = Bernoulli(torch.logit(c))
    rate = BitFactor(torch.logit(d))(heartbeats(5)[0], p, None, 1).rate
    assert torch.allclose(rate, c * d / (c * d + (1 - c) * (1 - d)))


def test_the_exact_product_is_the_shift_61_to_first_order():
    kernel = GaussianKernel(schedule("even_log_snr", 5, beta_1=1e-3, alpha_bar_T=0.1))
    y, mean, var = torch.tensor([1.5, -1.0]).double(), torch.tensor([0.4, 0.1]).double(), 0.7
    for f_Sigma in (1e-2, 1e-3, 1e-4):
        exact = (
            Denoise(y, var)(kernel, Normal(mean, torch.full((2,), f_Sigma).double()), None, 3).mean
            - mean
        )
        assert torch.allclose(exact, f_Sigma * (y - mean) / var, rtol=1.01 * f_Sigma / var)


def test_bits_that_are_known_are_constant_or_fade():
    kernel, p = heartbeats(10)[0], Bernoulli(torch.zeros(1, 20, dtype=torch.float64))
    log_odds = torch.linspace(-2, 2, 20, dtype=torch.float64)
    for t in (1, 4, 11):
        assert torch.equal(BitFactor(log_odds)(kernel, p, None, t).logit[0], log_odds)
        faded = BitFactor(log_odds, annealed=True)(kernel, p, None, t).logit[0]
        assert torch.allclose(faded, log_odds * (10 - (t - 1)) / 10)


def test_evidence_through_the_templates_is_the_optimum_of_weighted_templates():
    """Bit by bit Table App.1 with the exact d is Bayes' rule: the posterior mean with weights
    p(k|x^t) r(template k).
    """
    kernel, optimum = heartbeats(30)
    log_odds = torch.randn(20, generator=seeded(0), dtype=torch.float64)
    r = TemplateFactor(LAW.templates(), log_odds)
    weight = torch.softmax((LAW.templates() * log_odds).sum(-1), -1)
    for t in (2, 9, 30):
        xt = (torch.rand(50, 20, generator=seeded(t)) < 0.3).double()
        x0, x = LAW.templates().expand(50, 5, 20), xt[:, None].expand(50, 5, 20)
        given = torch.softmax(kernel.log_prob(x, kernel.q_marginal(x0, t)) + torch.log(weight), 1)
        rate = (given[..., None] * kernel.q_posterior(x0, x, t).rate).sum(1)
        assert torch.allclose(r(kernel, optimum(xt, t), xt, t).rate, rate)
    assert r(kernel, p := kernel.stationary((1, 20), torch.float64), None, 31) is p


@pytest.mark.parametrize("bits_known", [{2: 1}, {2: 1, 3: 1}, {2: 1, 7: 1, 12: -1}])
def test_samples_given_bits_have_the_exact_odds_only_through_the_templates(bits_known):
    kernel, optimum = heartbeats(100)
    log_odds = torch.zeros(20, dtype=torch.float64)
    for bit, sign in bits_known.items():
        log_odds[bit] = sign * math.log(9)
    exact = torch.softmax((LAW.templates() * log_odds).sum(-1), -1)
    distance, among = {}, {}
    for name, r in {
        "constant": BitFactor(log_odds),
        "annealed": BitFactor(log_odds, annealed=True),
        "through": TemplateFactor(LAW.templates(), log_odds),
    }.items():
        x = sample(kernel, optimum, (500, 20), seeded(0), r=r)
        share = (x[:, None] == LAW.templates()).all(-1).double().mean(0)
        distance[name] = 0.5 * float((share - exact).abs().sum() + 1 - share.sum())
        among[name] = 0.5 * float((share / share.sum() - exact).abs().sum())
    assert among["through"] < 5 * (5 / 500) ** 0.5 / 2 and distance["through"] < 0.25
    for other in ("constant", "annealed"):
        assert distance[other] > distance["through"] + 0.1
    if bits_known == {2: 1}:
        expected = [1 / 13, 1 / 13, 9 / 13, 1 / 13, 1 / 13]
        assert exact.tolist() == pytest.approx(expected) and among["annealed"] > 0.2


@pytest.mark.parametrize("correlation", [0.8, 0.99])
def test_the_row_s_propagation_is_that_of_the_second_implementation(correlation):
    row = Row(correlation, 25)
    C, known, beta = row.C.numpy(), row.known.numpy(), row.kernel.beta[1:].numpy()
    for t in (2, 10, 25):
        A, v = reverse_kernel(C, beta, t)
        assert np.allclose(row._best[t][0], A) and np.allclose(row._best[t][1], v)
    assert all(np.allclose(a, b) for a, b in zip(row.posterior(), posterior(C, known), strict=True))
    for way, annealed in (("constant r", False), ("replacement", True)):
        M, S = row.propagated(row.ways()[way])
        theirs = inpainted(C, beta, known, annealed)
        assert np.allclose(M, theirs[0]) and np.allclose(S, theirs[1])
        assert row.expected_kl(M, S) == pytest.approx(expected_kl(C, known, *theirs))
    M, S = row.propagated(lambda y: Denoise(y, 0.5))
    row.known = torch.ones(32, dtype=torch.bool)  # of an observation with noise every pixel is seen
    M, S = row.propagated(lambda y: Denoise(y, 0.5))
    theirs = denoised(C, beta, 0.5, lambda t: 1.0)
    assert np.allclose(M, theirs[0]) and np.allclose(S, theirs[1])


def drawn(row, make, n, generator):
    """(M, S) fitted by least squares to n samples with known pixels drawn from their law."""
    white = torch.randn(n, 32, generator=generator, dtype=torch.float64)
    y = torch.where(row.known, white @ torch.linalg.cholesky(row.C).T, 0.0)
    skip = Through.skip if isinstance(r := make(y), Through) else row.reverse
    x = sample(row.kernel, skip, (n, 32), generator, r=r)
    M = torch.zeros_like(row.C)
    M[:, row.known] = torch.linalg.lstsq(y[:, row.known], x).solution.T
    rest = x - y @ M.T
    return M, rest.T @ rest / (n - 16)


def bias(n):
    """By how much the divergence of M and S fitted to n draws is too large on average, nats: S is
    Wishart, and the error of M inverse Wishart.
    """
    freedom = torch.tensor(n - 16, dtype=torch.float64)
    log_det = (torch.log(freedom / 2) - torch.digamma((freedom - torch.arange(16)) / 2)).sum()
    return float(0.5 * (16 * 16 / (freedom - 1) + log_det))


def test_draws_of_the_row_agree_with_its_propagation():
    row = Row(0.8, 20)
    for way in ("constant r", "through the model, solve = 40"):
        make, n = row.ways()[way], 2000
        exact = row.expected_kl(*row.propagated(make))
        fitted = row.expected_kl(*drawn(row, make, n, seeded(0))) - bias(n)
        assert fitted == pytest.approx(exact, abs=0.04), way


def test_few_steps_of_conjugate_gradients_are_not_linear_and_many_are():
    row = Row(0.9, 20)
    y = torch.where(row.known, torch.randn(2, 32, generator=seeded(0), dtype=torch.float64), 0.0)
    x = torch.zeros(1, 32, dtype=torch.float64)
    for steps, linear in ((0, True), (2, False), (40, True)):
        make = partial(Through, row.reverse, Mask(row.known), var=0.0, solve=steps)
        a, b, both = (
            make(v)(row.kernel, None, x, 10).mean for v in (y[:1], y[1:], y.sum(0, keepdim=True))
        )
        assert (
            isinstance(make(y), Through)
            and torch.allclose(a + b, both, rtol=1e-6, atol=1e-9) is linear
        )


# ---------------------------------------------------------------- what is measured and shown


def test_equal_seeds_give_equal_numbers_and_a_wrong_profile_is_named(monkeypatch):
    with pytest.raises(Exception, match="profile"):
        theory.theory("quickly")
    few = {"examples": {"heartbeat": 3, "swiss_roll": 2}, "averages": (1, 2), "chains": (5,)}
    few |= {"T": 5, "chain_examples": 2, "points": 10, "bits": {"T": 5, "n": 10}}
    few |= {"row": {"correlations": (0.8,), "sizes": (10,)}}
    for module in (theory, posteriors):
        monkeypatch.setattr(module, "sizes_of", lambda *_: few)
    assert to_json(theory.theory("quick", 1)) == to_json(theory.theory("quick", 1))
    assert json.loads(to_json(posteriors.posteriors("quick", 1))) == posteriors.posteriors(
        "quick", 1
    )
