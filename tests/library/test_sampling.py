import math

import pytest
import torch
from scipy import stats

from nonequilibrium.bound.optimum import HeartbeatOptimum, SwissRollOptimum
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.sampling import (
    forward_trajectory,
    reverse_trajectory,
    sample,
    sample_each,
)
from nonequilibrium.diffusion.schedules import even_log_snr_schedule, inverse_schedule


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_forward_trajectory_ends_at_pi():
    kernel = GaussianKernel(even_log_snr_schedule(10, 1e-3, 1e-6))
    x0 = SwissRoll(0.01).sample(20_000, seeded(0))
    path = forward_trajectory(kernel, x0, seeded(1), keep=[0, 5, 10])
    assert list(path) == [0, 5, 10]
    assert stats.kstest(path[10][:, 0].numpy(), "norm").pvalue > 1e-3


def test_samples_of_the_optimal_heartbeat_are_valid_up_to_the_last_flips():
    law, kernel = Heartbeat(), BinomialKernel(inverse_schedule(400), 0.2)
    x = sample(kernel, HeartbeatOptimum(kernel, Heartbeat()), (1000, 20), seeded(0))
    matches = (x[:, None] == law.templates()).all(-1)
    ceiling = (1 - 0.2 / 400) ** 16 * (1 - 0.8 / 400) ** 4
    valid = matches.any(1).double().mean().item()
    assert 0.93 < valid < ceiling + 3 * math.sqrt(ceiling * (1 - ceiling) / 1000)
    assert stats.chisquare(matches.sum(0).numpy()).pvalue > 1e-3


def test_the_last_step_adds_the_noise_of_beta_1():
    law, kernel = SwissRoll(1e-3), GaussianKernel(even_log_snr_schedule(30, 0.01, 0.05))
    model = SwissRollOptimum(kernel, law)
    kept = reverse_trajectory(kernel, model, (500, 2), seeded(0), keep=[0, 1])
    difference = kept[0] - kept[1] * math.sqrt(1 - 0.01)
    assert 0.008 < difference.var().item() < 0.012


def test_a_trajectory_goes_on_from_where_it_is_started():
    law, kernel = SwissRoll(1e-3), GaussianKernel(even_log_snr_schedule(8, 0.01, 0.05))
    model = SwissRollOptimum(kernel, law)
    whole = reverse_trajectory(kernel, model, (20, 2), seeded(0))
    random = seeded(0)
    for _ in range(4):  # what x^8, x^7, x^6 and x^5 were drawn with
        torch.randn(20, 2, generator=random, dtype=torch.float64)
    later = reverse_trajectory(kernel, model, (20, 2), random, start=(5, whole[5]))
    assert list(later) == [0, 1, 2, 3, 4, 5]
    assert all(torch.equal(later[t], whole[t]) for t in later)


def test_all_times_are_kept_by_default():
    kernel = BinomialKernel(inverse_schedule(5), 0.2)
    model = HeartbeatOptimum(kernel, Heartbeat())
    assert list(reverse_trajectory(kernel, model, (3, 20), seeded(0))) == [0, 1, 2, 3, 4, 5]
    assert list(forward_trajectory(kernel, Heartbeat().templates(), seeded(0))) == list(range(6))


def test_sample_each_does_not_depend_on_the_block():
    kernel = GaussianKernel(even_log_snr_schedule(5, 1e-3, 0.1), event_dim=3)
    model = lambda xt, t: kernel.q_posterior(torch.zeros_like(xt), xt, t)  # noqa: E731
    whole, parts = (
        sample_each(kernel, model, 5, (1, 4, 4), seed=3, block=block) for block in (5, 2)
    )
    assert torch.equal(whole, parts) and not torch.equal(whole[0], whole[1])
    seen = []
    note = lambda part, generators: seen.append((part.tolist(), len(generators)))  # noqa: E731
    sample_each(kernel, model, 5, (1, 4, 4), 3, note, block=3)
    assert seen == [([0, 1, 2], 3), ([3, 4], 2)]


def test_samples_of_several_seeds_all_differ_and_are_those_of_each_seed():
    kernel = GaussianKernel(even_log_snr_schedule(5, 1e-3, 0.1), event_dim=3)
    together = sample_each(kernel, kernel.q_step, 3, (1, 2, 2), [1, 2])
    assert len(together.flatten(1).unique(dim=0)) == 6
    assert torch.equal(together[3:], sample_each(kernel, kernel.q_step, 3, (1, 2, 2), 2))
    many = sample_each(kernel, kernel.q_step, 1500, (1, 1, 2), [1, 2])
    assert len(many.flatten(1).unique(dim=0)) == 3000


def test_a_sample_by_its_own_generator_is_the_one_that_generator_draws_alone():
    gauss = GaussianKernel(even_log_snr_schedule(5, 1e-3, 0.1))
    bits = BinomialKernel(inverse_schedule(5), 0.2)
    models = [
        (gauss, lambda xt, t: gauss.q_posterior(torch.zeros_like(xt), xt, t), 4),
        (bits, HeartbeatOptimum(bits, Heartbeat()), 20),
    ]
    for kernel, model, dim in models:
        together = sample(kernel, model, (3, dim), [seeded(i) for i in range(3)])
        for i in range(3):
            assert torch.equal(together[i], sample(kernel, model, (1, dim), seeded(i))[0])


def test_steps_that_the_chain_does_not_have_cannot_be_kept():
    kernel = GaussianKernel(even_log_snr_schedule(5, beta_1=1e-3, alpha_bar_T=0.1))
    for work in (
        lambda t: forward_trajectory(kernel, torch.zeros(2, 2), torch.Generator(), keep=[0, t]),
        lambda t: reverse_trajectory(kernel, kernel.q_step, (2, 2), torch.Generator(), keep=[0, t]),
    ):
        for t in (-1, 6):
            with pytest.raises(ValueError, match=f"keep has step {t};"):
                work(t)
