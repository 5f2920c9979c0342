"""A classifier of noisy examples as r, against Gaussian classes, of which p(y|x^t) and every law
are known.
"""

import pytest
import torch

from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.errors import ParameterError
from nonequilibrium.training.classes import NoisyClassifier, class_guide, fit_classifier
from replication.data.images import DataError, load_labels
from replication.restoration.classes import judged

MEANS = torch.tensor(
    [[-1.2, 0.3], [0.9, -0.8], [0.4, 1.1]], dtype=torch.float64
)  # of three classes in two dimensions
VAR = 0.09
KERNEL = GaussianKernel(schedule("even_log_snr", 200, beta_1=1e-4, alpha_bar_T=1e-3))


def log_p(kernel, x, t):
    """log p(y|x^t) of the three classes, equally frequent: (n, 3)."""
    a = kernel.alpha_bar[t]
    off = x[:, None] - a.sqrt() * MEANS
    return torch.log_softmax(-0.5 * off.square().sum(-1) / (a * VAR + 1 - a), 1)


def reverse(xt, t):
    """The best diagonal p(x^{t−1}|x^t) for the mixture: mean and variance of x^0 given x^t through
    q(x^{t−1}|x^t, x^0).
    """
    a = KERNEL.alpha_bar[t]
    left = a * VAR + 1 - a
    weight = log_p(KERNEL, xt, t).exp()[..., None]
    of_class = MEANS + (a.sqrt() * VAR / left) * (xt[:, None] - a.sqrt() * MEANS)
    mean = (weight * of_class).sum(1)
    var = VAR * (1 - a) / left + (weight * (of_class - mean[:, None]).square()).sum(1)
    q = KERNEL.q_posterior(mean, xt, t)
    return Normal(q.mean, q.var + KERNEL.posterior_on_x0[t] ** 2 * var)


def test_guided_samples_of_gaussian_classes_have_the_law_of_their_class():
    y = torch.arange(3).repeat_interleave(1500)
    x = sample(
        KERNEL,
        reverse,
        (len(y), 2),
        torch.Generator().manual_seed(0),
        r=class_guide(log_p, KERNEL, y),
    )
    for k in range(3):
        mine = x[y == k]
        assert torch.allclose(mine.mean(0), MEANS[k], atol=0.08)
        assert mine.var(0).mean().item() == pytest.approx(VAR, abs=0.04)
    free = sample(KERNEL, reverse, (len(y), 2), torch.Generator().manual_seed(0))
    share = (log_p(KERNEL, free, 0).argmax(1) == y).double().mean()
    assert abs(share - 1 / 3) < 0.05, "without the guide the class is left to chance"


def test_the_guide_s_log_r_is_that_of_the_class_and_a_power_multiplies_it():
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    values = class_guide(log_p, KERNEL, y).log_r_t(x, 40)
    assert torch.allclose(values, log_p(KERNEL, x, 40)[torch.arange(5), y])
    assert torch.allclose(class_guide(log_p, KERNEL, y, 3.0).log_r_t(x, 40), 3 * values)


def test_a_trained_classifier_of_noisy_images_comes_near_the_exact_probabilities():
    """Images whose class is their brightness: p(y|x^t) depends on the mean of the pixels alone."""
    kernel = GaussianKernel(
        schedule("even_log_snr", 50, beta_1=1e-3, alpha_bar_T=1e-3), event_dim=3
    )
    labels = torch.randint(2, (4000,), generator=torch.Generator().manual_seed(0))
    level, spread = 0.5, 0.2

    def x0(chosen, generator):
        bright = level * (2 * labels[chosen].float() - 1)[:, None, None, None]
        return bright + spread * torch.randn(len(chosen), 1, 8, 8, generator=generator)

    classifier = NoisyClassifier((1, 8, 8), 2, torch.Generator().manual_seed(1))
    before = classifier(kernel, x0(torch.arange(9), torch.Generator()), 10)
    assert (
        torch.allclose(before.exp().sum(1), torch.ones(9))
        and (before.exp() - 0.5).abs().max() < 0.4
    )
    fit_classifier(classifier, kernel, x0, labels, 150, seed=2)
    g, chosen = torch.Generator().manual_seed(3), torch.arange(500)
    for t in (30, 40):
        a = kernel.alpha_bar[t].float()
        xt = kernel.sample(kernel.q_marginal(x0(chosen, g), t), g)
        odds = (
            2 * a.sqrt() * level * xt.sum((1, 2, 3)) / (a * spread**2 + 1 - a)
        )  # log of p(1|x^t)/p(0|x^t)
        with torch.no_grad():
            found = classifier(kernel, xt, t)
        assert (found[:, 1].exp() - torch.sigmoid(odds)).abs().mean() < 0.1
        chance = (odds.sigmoid() - 0.5).abs().mean()
        assert chance > 0.05, "at this noise there is something to know"


def test_shares_are_those_of_the_judge():
    x = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(4, 1, 1, 1)

    def judge(part):
        p = torch.where(part.flatten(1) > 0.5, 0.95, 0.3)
        return torch.log(torch.cat([1 - p, p], 1))

    found = judged(judge, x, torch.tensor([0, 1, 0, 1]))
    assert found["wanted"] == 0.5 and found["sure"] == 0.5 and found["n"] == 4
    assert found["wanted_se"] == pytest.approx(0.25)


def test_labels_are_those_of_the_images_and_their_absence_is_said(tmp_path):
    train, test = load_labels("digits")
    assert len(train) == 1500 and len(test) == 297 and set(train.tolist()) == set(range(10))
    with pytest.raises(DataError, match="make data"):
        load_labels("mnist", tmp_path)
    with pytest.raises(ParameterError, match="photographs"):
        load_labels("photographs")  # which have none
