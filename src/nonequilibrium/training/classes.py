"""Training of a classifier of noisy images, or of clean ones."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.network.classifier import NoisyClassifier
from nonequilibrium.training.fit import Ascent, Watch, fit


def fit_classifier(
    classifier: NoisyClassifier,
    kernel: GaussianKernel,
    x0: Callable[[Tensor, torch.Generator], Tensor],
    labels: Tensor,
    steps: int,
    seed: int,
    noisy: bool = True,
) -> None:
    """Maximise the mean of log p(y|x^t, t), each example at a t of its own in 0..T, or at t = 0.

    x0: from indices (batch,) of examples and a generator to x^0. labels: (n,) classes.
    """

    def objective(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(labels), (128,), generator=generator)
        x, t = x0(chosen, generator), torch.zeros_like(chosen)
        t = torch.randint(kernel.T + 1, t.shape, generator=generator) if noisy else t
        x = kernel.sample(kernel.q_marginal(x, t), generator)
        return classifier(kernel, x, t).gather(1, labels[chosen][:, None]).mean()

    groups = [{"params": list(classifier.parameters()), "lr": 3e-3}]
    adam = Ascent(partial(torch.optim.Adam, betas=(0.9, 0.99)), warmup=20)
    fit(classifier, objective, groups, steps, seed, adam, Watch("classifier", steps))
