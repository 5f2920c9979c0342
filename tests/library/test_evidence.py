"""Posteriors given a linear observation against exact ones: for Gaussian data every step is affine,
so no draw is needed.
"""

import numpy as np
import pytest
import torch
from recursion import expected_kl, inpainted, reverse_kernel

from nonequilibrium.diffusion.evidence import Blur, Downsample, Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.diffusion.posterior import (
    BitFactor,
    Denoise,
    TemplateFactor,
)
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError

D = 32


def correlated(correlation, d=D):
    return correlation ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))


def chain(C, T, event=(D,)):
    """The chain and its best diagonal reverse kernel for x^0 ~ N(0, C); x is shaped ``event``."""
    kernel = GaussianKernel(
        schedule("even_log_snr", T, beta_1=1e-4, alpha_bar_T=1e-4), event_dim=len(event)
    )
    best = {
        t: [torch.tensor(a) for a in reverse_kernel(C, kernel.beta[1:].numpy(), t)]
        for t in range(2, T + 1)
    }

    def reverse(xt, t):
        A, v = best[t]
        return Normal(
            (xt.reshape(len(xt), -1) @ A.T).reshape(xt.shape), v.reshape(event).expand_as(xt)
        )

    return kernel, reverse


def drawn(kernel, reverse, A, seen, var, solve, event=(D,)):
    """(M, S): the sampler's x^0 given y is N(M y, S), by sending unit vectors of x and of y through
    every step.

    seen: how many numbers y has, and their shape: (k, *shape).
    """
    d, (k, *shape) = int(np.prod(event)), seen
    M, S = torch.zeros(d, k, dtype=torch.float64), torch.eye(d, dtype=torch.float64)
    units_x, units_y = (
        torch.eye(n, dtype=torch.float64).reshape(n, *of) for n, of in ((d, event), (k, shape))
    )

    def step(x, y, t):
        p = kernel.p_edge(x) if t == 1 else None
        return Through(reverse, A, y, var, solve)(kernel, p, x, t)

    x = torch.cat([units_x, units_x.new_zeros(k, *event)])
    y = torch.cat([units_y.new_zeros(d, *shape), units_y])
    for t in range(kernel.T, 0, -1):
        moved = step(x, y, t)
        J, of_y = moved.mean.reshape(d + k, d).T.split((d, k), 1)
        M = J @ M + of_y
        S = J @ S @ J.T + torch.diag(moved.var.expand_as(x)[0].reshape(-1))
    return M.numpy(), S.numpy()


@pytest.mark.parametrize("correlation", [0.8, 0.95])
def test_a_row_with_its_centre_missing(correlation):
    """Within 0.01 nats of the exact posterior; constant r and replacement are 0.2 to 3 nats off."""
    C, known = correlated(correlation), np.ones(D, bool)
    known[8:24] = False
    kernel, reverse = chain(C, 80)
    M, S = drawn(kernel, reverse, Mask(torch.tensor(known)), (D, D), 0.0, solve=20)
    ours = expected_kl(C, known, M * known, S)
    others = [
        expected_kl(C, known, *inpainted(C, kernel.beta[1:].numpy(), known, annealed))
        for annealed in (0, 1)
    ]
    assert 0 <= ours < 0.01 and min(others) > 0.2
    # With A V A^T taken for diagonal the known pixels are counted as if each were news.
    M, S = drawn(kernel, reverse, Mask(torch.tensor(known)), (D, D), 0.0, solve=0)
    assert expected_kl(C, known, M * known, S) > 0.1


def divergence(M, S, exact_M, exact_S, of_y):
    """E over y ~ N(0, of_y) of KL( N(M y, S) ‖ N(exact_M y, exact_S) ), nats."""
    inverse, off = np.linalg.inv(exact_S), M - exact_M
    logdets = np.linalg.slogdet(exact_S)[1] - np.linalg.slogdet(S)[1]
    return 0.5 * (np.trace(inverse @ (S + off @ of_y @ off.T)) - len(S) + logdets)


@pytest.mark.parametrize(
    "A, size",
    [(Downsample(2), 2), (Blur(0.7), 4), (Mask(torch.arange(16).reshape(1, 4, 4) % 3 == 0), 4)],
)
def test_any_linear_observation_with_noise(A, size):
    event, var = (1, 4, 4), 0.1
    place = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2)
    C = 0.9 ** np.abs(place[:, None] - place[None]).sum(-1)
    kernel, reverse = chain(C, 80, event)
    matrix = A(torch.eye(16, dtype=torch.float64).reshape(16, *event)).reshape(16, -1).T.numpy()
    of_y = matrix @ C @ matrix.T + var * np.eye(len(matrix))
    exact_M = C @ matrix.T @ np.linalg.inv(of_y)
    exact_S = C - exact_M @ matrix @ C
    M, S = drawn(kernel, reverse, A, (len(matrix), 1, size, size), var, 16, event)
    if isinstance(A, Mask):  # what is seen of a masked pixel is zero, without noise
        seen = A.known.reshape(-1).numpy()
        assert np.abs(M[:, ~seen]).max() < 1e-12
        M, matrix = M[:, seen], matrix[seen]
        of_y = matrix @ C @ matrix.T + var * np.eye(len(matrix))
        exact_M = C @ matrix.T @ np.linalg.inv(of_y)
        exact_S = C - exact_M @ matrix @ C
    assert 0 <= divergence(M, S, exact_M, exact_S, of_y) < 0.05
    prior = divergence(np.zeros_like(M), C, exact_M, exact_S, of_y)
    assert prior > 2, "the observation says something"


@pytest.mark.parametrize(
    "A",
    [
        Downsample(2),
        Blur(1.0),
        Mask(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.5),
    ],
)
def test_the_variance_of_what_is_seen_is_the_diagonal_of_A_V_At(A):
    var = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix = A(torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)).reshape(64, -1).T
    assert torch.allclose(
        A.variance(var).reshape(-1), (matrix * var.reshape(-1)).matmul(matrix.T).diagonal()
    )


def test_the_last_step_through_a_mask_with_noise_is_the_exact_product():
    kernel, reverse = chain(np.eye(4), 8, (4,))
    g, known = torch.Generator().manual_seed(0), torch.arange(4) < 2
    x, y = torch.randn(2, 3, 4, generator=g, dtype=torch.float64)
    p, exact = kernel.p_edge(x), Denoise(y, 0.05)(kernel, kernel.p_edge(x), x, 1)
    r = Through(reverse, Mask(known), torch.where(known, y, 0.0), 0.05)(kernel, p, x, 1)
    assert torch.allclose(r.mean, torch.where(known, exact.mean, p.mean), rtol=1e-9)
    assert torch.allclose(r.var, torch.where(known, exact.var, p.var), rtol=1e-9)


def test_known_pixels_come_out_exactly_and_samples_do_not_depend_on_what_they_are_drawn_beside():
    kernel, reverse = chain(correlated(0.9), 50)
    known = torch.arange(D) % 2 == 0
    y = torch.linspace(-1, 1, D, dtype=torch.float64).expand(4, D)
    r = Through(reverse, Mask(known), torch.where(known, y, 0.0), 0.0, solve=3)
    generators = [torch.Generator().manual_seed(i) for i in range(4)]
    x = sample(kernel, Through.skip, (4, D), generators, r=r)
    assert torch.equal(x[:, known], y[:, known]) and x[:, ~known].std(0).min() > 0
    alone = Through(reverse, Mask(known), torch.where(known, y[2:3], 0.0), 0.0, solve=3)
    assert torch.allclose(
        sample(kernel, Through.skip, (1, D), [torch.Generator().manual_seed(2)], r=alone), x[2:3]
    )


def test_a_derivative_that_is_no_covariance_moves_x0_no_farther_than_its_own_deviation_allows():
    """Where a derivative is nearly singular, or negative, full solving moves x^0 anywhere."""
    kernel, exact = chain(correlated(0.9), 40)
    t = int(((kernel.one_minus_alpha_bar / kernel.alpha_bar).sqrt() - 0.5).abs().argmin())
    known = torch.arange(D) % 2 == 0
    g = torch.Generator().manual_seed(0)
    x0 = torch.from_numpy(np.linalg.cholesky(correlated(0.9))) @ torch.randn(
        D, 20, generator=g, dtype=torch.float64
    )
    xt = kernel.sample(kernel.q_marginal(x0.T, t), g)
    y = torch.where(known, x0.T, 0.0)
    odd = torch.where(known, torch.randn(D, generator=g, dtype=torch.float64), 0.0)
    odd /= odd.norm()

    def broken(x, t, left):
        """The exact reverse, of whose derivative the part along ``odd`` is ``left``, at the same
        mean.
        """
        p = exact(x, t)
        along = ((x - x.detach()) @ odd)[:, None] * odd
        return Normal(p.mean - (1 - left) * along, p.var)

    for left in (-1.0, 1e-3, 0.05):
        moved = {}
        for within in (None, 2.0):
            reverse = lambda x, t, left=left: broken(x, t, left)  # noqa: E731
            r = Through(reverse, Mask(known), y, 0.01, 12, within)
            before, after = (
                kernel.x0_given(p, xt, t) for p in (exact(xt, t), r(kernel, None, xt, t))
            )
            moved[within] = ((after.mean - before.mean).square().mean(1) / before.var.mean()).sqrt()
        assert moved[2.0].max() <= 2.0 + 1e-9
        assert left < 0 or moved[None].max() > 5, "without a bound it goes far"
    whole, bounded = (
        Through(exact, Mask(known), y, 0.01, 12, within)(kernel, None, xt, t)
        for within in (None, 2.0)
    )
    assert torch.equal(whole.mean, bounded.mean), "a true covariance seldom meets the bound"


@pytest.mark.parametrize("A", [Downsample(2), Blur(0.7)])
def test_a_variance_that_only_broadcasts_is_that_of_every_pixel(A):
    kernel, reverse = chain(np.eye(16), 8, (1, 4, 4))
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = A(torch.ones_like(x))

    def narrow(xt, t):
        p = reverse(xt, t)
        return Normal(p.mean, p.var[:1, :1, :1, :1])

    wide, short = (
        Through(its, A, y, 0.1, solve=2, within=1.0)(kernel, None, x, 5)
        for its in (reverse, narrow)
    )
    assert torch.allclose(wide.mean, short.mean)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Blur(0),
        lambda: Blur(-1.0),
        lambda: Downsample(0)(torch.zeros(1, 1, 4, 4)),
        lambda: Downsample(3)(torch.zeros(1, 1, 4, 4)),
        lambda: Through(None, Downsample(2), torch.zeros(1, 1, 2, 2), -1.0),
        lambda: Through(None, Downsample(2), torch.zeros(1, 1, 2, 2), float("nan")),
        lambda: Denoise(torch.zeros(2, 2), 0.0),
        lambda: Denoise(torch.zeros(2, 2), float("nan")),
        lambda: BitFactor(torch.tensor([0.0, float("inf")])),
        lambda: TemplateFactor(torch.ones(1, 2), torch.tensor([0.0, -float("inf")])),
    ],
)
def test_observations_that_mean_nothing_are_refused_in_one_sentence(made):
    with pytest.raises(ParameterError) as caught:
        made()
    assert "\n" not in str(caught.value)


def test_what_has_no_derivative_or_no_density_is_refused():
    kernel, reverse = chain(np.eye(16), 8, (1, 4, 4))
    x, y = torch.zeros(2, 1, 4, 4).double(), torch.zeros(2, 1, 2, 2).double()
    with pytest.raises(ParameterError, match="no derivative"):
        Through(torch.no_grad()(reverse), Downsample(2), y, 0.1)(kernel, None, x, 5)
    for t in (0, 1, 5):
        with pytest.raises(ParameterError, match="no density"):
            Through(reverse, Downsample(2), y, 0.0, solve=2).log_r(kernel, x, t)
