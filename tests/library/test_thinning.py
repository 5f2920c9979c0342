"""Thinned chains: the shortest path against all paths, and the cost of every pair of levels against
the bound of the chain itself.
"""

import itertools
import math

import pytest
import torch

from nonequilibrium.bound.bound import full_bound
from nonequilibrium.bound.thinning import step_costs
from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.diffusion.thinning import cheapest, even, thin
from nonequilibrium.errors import BoundError, Refusal

DEVIATION = torch.tensor([0.2, 1.0, 1.5], dtype=torch.float64)  # of the data's three coordinates


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def chain(T=12, error=0.0):
    """A kernel, and the reverse that is best for independent Gaussian data but for an ``error`` in
    its estimate of x^0.
    """
    kernel = GaussianKernel(schedule("even_log_snr", T, beta_1=1e-3, alpha_bar_T=1e-2))

    def reverse(xt, t):
        signal = kernel.at(kernel.alpha_bar, t, xt)
        noise = kernel.at(kernel.one_minus_alpha_bar, t, xt)
        total = signal * DEVIATION**2 + noise
        mean, var = signal.sqrt() * DEVIATION**2 / total * xt + error, DEVIATION**2 * noise / total
        q = kernel.q_posterior(mean, xt, t)
        return Normal(q.mean, q.var + kernel.at(kernel.posterior_on_x0, t, xt) ** 2 * var)

    return kernel, reverse


def data(n, seed=0):
    return DEVIATION * torch.randn(n, 3, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_the_cheapest_path_is_the_cheapest_of_all_paths(seed):
    T = 8
    cost = torch.rand(T + 1, T + 1, generator=seeded(seed), dtype=torch.float64)
    cost[2, 5] = math.inf
    cost = torch.where(torch.ones_like(cost).bool().triu(1), cost, math.inf)
    cheap = cheapest(cost, list(range(1, T + 1)))
    for n in range(1, T + 1):
        every = [(*between, T) for between in itertools.combinations(range(1, T), n - 1)]
        sums = {
            its: sum(float(cost[s, t]) for s, t in itertools.pairwise((0, *its))) for its in every
        }
        best = min(sums, key=sums.get)
        assert cheap[n][1] == pytest.approx(sums[best])
        if sums[best] < math.inf:
            assert tuple(cheap[n][0]) == best


def test_a_chain_that_keeps_every_level_is_the_chain_itself():
    kernel, reverse = chain(error=0.1)
    thinned, its = thin(kernel, reverse, list(range(1, kernel.T + 1)))
    x = data(50)
    assert torch.allclose(thinned.beta, kernel.beta)
    for t in (2, 7, kernel.T):
        for ours, theirs in zip(its(x, t), reverse(x, t), strict=True):
            assert torch.allclose(ours, theirs.expand_as(ours))


@pytest.fixture(scope="module", params=[0.0, 0.3])
def measured(request):
    """A chain of this error, and the costs of all pairs of its steps."""
    kernel, reverse = chain(error=request.param)
    costs = step_costs(kernel, reverse, data(20_000), seeded(1), block=20_000)
    return kernel, reverse, costs.pairs(kernel)


@pytest.mark.parametrize("kept", [[1, 12], [1, 4, 5, 12], [3, 7, 12], list(range(1, 13))])
def test_costs_of_steps_add_up_to_the_bound_of_the_thinned_chain(kept, measured):
    """The divergences by ρ alone, and the ends, against ``full_bound`` of the chain that ``thin``
    makes.
    """
    kernel, reverse, pairs = measured
    predicted = -sum(float(pairs[s, t]) for s, t in itertools.pairwise((0, *kept)))
    bound = full_bound(*thin(kernel, reverse, kept), data(2000, 2), seeded(3))
    # The two draw different data; the table is that of ten times as many, and interpolated.
    assert predicted == pytest.approx(bound.K, abs=4 * bound.se * (1 + 1 / 10) ** 0.5)


def test_every_pair_costs_what_the_two_laws_diverge_by():
    """Frozen noise: the formula in ρ equals the divergence of q(x^s|x^t,x^0) and p(x^s|x^t), with
    no Monte Carlo between them.
    """
    kernel, reverse = chain(error=0.2)
    x0 = data(500)
    table = step_costs(kernel, reverse, x0, seeded(4), columns=1000, block=500).pairs(kernel)
    noise = torch.randn(x0.shape, generator=seeded(4), dtype=x0.dtype)
    for s, t in [(1, 2), (1, 12), (4, 9), (11, 12)]:
        thinned, its = thin(kernel, reverse, [s, t] if t == kernel.T else [s, t, kernel.T])
        xt = kernel.sample(kernel.q_marginal(x0, t), noise=noise)
        KL = thinned.kl(thinned.q_posterior(x0, xt, 2), its(xt, 2)).mean()
        assert float(table[s, t]) == pytest.approx(float(KL), rel=1e-3)


def coins(T=40):
    """A kernel and the reverse with the exact moments of x^0 for data that is −1 or 1, whose long
    steps are no Gaussians.
    """
    kernel = GaussianKernel(schedule("even_log_snr", T, beta_1=1e-2, alpha_bar_T=1e-2))

    def reverse(xt, t):
        signal = kernel.at(kernel.alpha_bar, t, xt)
        noise = kernel.at(kernel.one_minus_alpha_bar, t, xt)
        mean = torch.tanh(signal.sqrt() * xt / noise)
        q = kernel.q_posterior(mean, xt, t)
        return Normal(q.mean, q.var + kernel.at(kernel.posterior_on_x0, t, xt) ** 2 * (1 - mean**2))

    x0 = torch.randint(0, 2, (4000, 1), generator=seeded(7)).double() * 2 - 1
    return kernel, reverse, x0


def test_the_best_levels_lose_less_than_even_ones_also_on_other_draws():
    kernel, reverse, x0 = coins()
    costs = step_costs(kernel, reverse, x0, seeded(8), block=4000)
    for n, (kept, K) in costs.best(kernel, [4, 8, 16]).items():
        assert len(kept) == n and kept[-1] == kernel.T
        ours, evenly = (
            full_bound(*thin(kernel, reverse, its), x0, seeded(9))
            for its in (kept, even(kernel.T, n))
        )
        gain = ours.per_example - evenly.per_example
        assert float(gain.mean()) > 4 * float(gain.std()) / len(gain) ** 0.5
        assert pytest.approx(ours.K, abs=5 * ours.se) == K


def test_a_table_of_few_rows_is_near_that_of_all():
    kernel, reverse = chain(T=200)
    whole, few = (
        step_costs(kernel, reverse, data(200), seeded(6), rows=rows, columns=64, block=200).pairs(
            kernel
        )
        for rows in (199, 25)
    )
    there = whole[1:, 2:].triu() > 0
    assert torch.allclose(few[1:, 2:][there], whole[1:, 2:][there], rtol=0.02)


@pytest.mark.parametrize("kept", [[12], [0, 12], [1, 11], [5, 3, 12], [1, 1, 12]])
def test_steps_that_make_no_chain_are_refused(kept):
    with pytest.raises(Refusal, match="rise"):
        thin(*chain(), kept)


@pytest.mark.parametrize("steps", [[], [1], [13]])
def test_numbers_of_steps_that_make_no_chain_are_refused(steps):
    kernel, reverse = chain()
    with pytest.raises(BoundError, match="numbers of steps"):
        step_costs(kernel, reverse, data(10), seeded(0)).best(kernel, steps)


def test_a_chain_of_two_steps_has_one_pair():
    kernel = GaussianKernel(torch.tensor([0.1, 0.5], dtype=torch.float64))
    costs = step_costs(
        kernel, lambda x, t: Normal(0.5 * x, torch.full_like(x, 0.2)), data(50), seeded(0)
    )
    (kept, K), whole = costs.best(kernel, [2])[2], costs.pairs(kernel)
    assert kept == [1, 2] and K == pytest.approx(-float(whole[0, 1] + whole[1, 2]))


def test_even_levels_are_so_many_and_no_other_number_is_taken():
    assert even(30, 2) == [1, 30] and even(30, 30) == list(range(1, 31))
    for n in (0, 1, 31):
        with pytest.raises(Refusal):
            even(30, n)
