"""Training of a classifier of noisy images, and of clean ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.network.classifier import NoisyClassifier
from nonequilibrium.training.fit import fit


def fit_classifier(
    classifier: NoisyClassifier,
    kernel: GaussianKernel,
    x0: Callable[[Tensor, torch.Generator], Tensor],
    labels: Tensor,
    steps: int,
    seed: int,
    noisy: bool = True,
    batch: int = 128,
    learning_rate: float = 3e-3,
) -> None:
    """Maximise the mean of log p(y|x^t, t) by Adam, each example of a batch at a t of its own, even
    over 0..T.

    x0: from indices (batch,) of examples and a generator to x^0 (batch, event). labels: (n,) the
    class of each.
    noisy: False trains at t = 0 alone, on clean images.
    """

    def objective(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(labels), (batch,), generator=generator)
        x = x0(chosen, generator)
        t = (
            torch.randint(kernel.T + 1, (batch,), generator=generator)
            if noisy
            else torch.zeros(batch, dtype=torch.long)
        )
        x = kernel.sample(kernel.q_marginal(x, t), generator)
        return classifier(kernel, x, t).gather(1, labels[chosen][:, None]).mean()

    groups = [{"params": list(classifier.parameters()), "lr": learning_rate}]
    adam = partial(torch.optim.Adam, betas=(0.9, 0.99))
    fit(
        classifier,
        objective,
        groups,
        steps,
        seed,
        optimiser=adam,
        warmup=20,
        log_every=steps,
        label="classifier",
    )
