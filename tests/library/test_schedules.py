"""Learned β (2.4.1): the gradient of K in β against finite differences, and the schedules of the
largest K*.
"""

import numpy as np
import pytest
import torch

from nonequilibrium.bound.bound import bits, entropy_terms, full_bound, kl_terms
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import LearnedSchedule, inverse_schedule, schedule
from nonequilibrium.model.toys import PointsModel
from nonequilibrium.training.fit import fit
from replication.settings.params import PointsParams
from replication.theory import theory

LAW = SwissRoll(0.05)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def central_difference(function, beta, i, step):
    up, down = beta.clone(), beta.clone()
    up[i], down[i] = beta[i] + step, beta[i] - step
    with torch.no_grad():
        return float(function(up) - function(down)) / (2 * step)


def test_the_gradient_of_K_in_beta_with_frozen_noise_is_that_of_finite_differences():
    params = PointsParams(noise=0.05, n_steps=8, beta_1=1e-3, alpha_bar_T=0.05, learn_beta=True)
    model = PointsModel(law=SwissRoll, **vars(params)).double()
    with torch.no_grad():  # away from the start, where f_μ and f_Σ do not depend on x^t
        for p in model.network.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=seeded(1), dtype=p.dtype))
    x0, t = LAW.sample(50, seeded(2)), torch.arange(2, 9)
    noise = torch.randn(7, 50, 2, generator=seeded(3), dtype=torch.float64)

    def K(beta):
        kernel = GaussianKernel(beta)
        kl = kl_terms(kernel, model.reverse(kernel), x0.expand(7, 50, 2), t, noise=noise)
        return entropy_terms(kernel, x0).mean() - kl.sum(0).mean()

    beta = model.schedule().detach().requires_grad_()
    slope = torch.autograd.grad(K(beta), beta)[0]
    for i in range(8):
        with torch.no_grad():
            expected = central_difference(K, beta.detach(), i, 1e-5 * float(beta[i]))
        assert float(slope[i]) == pytest.approx(expected, rel=1e-4)
    # Training moves logit β_t, t ≥ 2; β_1 has no gradient.
    assert isinstance(model.schedule, LearnedSchedule)
    K(model.schedule()).backward()
    b = beta.detach()[1:]
    assert torch.allclose(model.schedule.logit.grad, slope[1:] * b * (1 - b), rtol=1e-9)


def test_the_heartbeat_s_exact_K_star_has_a_gradient_and_its_best_schedule_beats_the_paper_s():
    law, beta = Heartbeat(), inverse_schedule(7)[:6]  # without the β of one

    def K_star(beta):
        return theory.heartbeat_star(BinomialKernel(beta, 0.2), law)

    slope = torch.autograd.grad(K_star(given := beta.clone().requires_grad_()), given)[0]
    for i in range(6):
        assert float(slope[i]) == pytest.approx(central_difference(K_star, beta, i, 1e-6), rel=1e-5)
    row = theory.heartbeat_row(9)
    # The last reverse step has no network: β_1 must be small.
    assert row["best"] > row["small_first"] > row["inverse"] + 1
    assert row["inverse"] == pytest.approx(bits(float(K_star_of_inverse(9))), abs=1e-9)


def test_the_best_schedule_of_the_heartbeat_is_a_maximum_of_K_star():
    def K_star(beta):
        return float(theory.heartbeat_star(BinomialKernel(beta, 0.2), Heartbeat()))

    (one, beta), (other, _) = theory.best_heartbeat_schedules(5)
    assert one == pytest.approx(other, abs=1e-6) and one == pytest.approx(K_star(beta), abs=1e-9)
    for i in range(4):  # the last is almost 1
        for factor in (0.98, 1.02):
            changed = beta.clone()
            changed[i] *= factor
            assert K_star(changed) < one + 1e-9


def K_star_of_inverse(T):
    return theory.heartbeat_star(BinomialKernel(inverse_schedule(T), 0.2), Heartbeat())


def test_schedules_share_their_beta_1():
    given = theory.roll_schedules()
    assert all(float(beta[0]) == pytest.approx(1e-6) and len(beta) == 40 for beta in given.values())


def test_a_short_training_learns_only_what_it_may():
    heldout = SwissRoll(theory.NOISE).sample(100, seeded(9))

    def trained(learn):
        model = PointsModel(learn_beta=learn, train_steps=3)
        beta = model.schedule().detach().clone()
        fit(model, model.objective, model.groups(), 3, 0)
        with torch.no_grad():
            kernel = model.kernel()
        K = full_bound(kernel, model.reverse(kernel), heldout, seeded(1)).K
        return K, beta, kernel.beta[1:]

    (fixed, beta, unmoved), (learned, _, moved) = trained(False), trained(True)
    assert torch.allclose(unmoved, beta) and moved[0] == beta[0] and (moved[1:] != beta[1:]).all()
    assert fixed != learned


def test_a_whole_number_of_another_library_is_one():
    assert torch.equal(schedule("inverse", np.int64(7)), schedule("inverse", 7))
    for T in (1, 7.0, "7", True):
        with pytest.raises(ValueError, match="number of steps"):
            schedule("inverse", T)
