"""Evaluations of CIFAR-10's large U-Net that its bits/dim on the 10,000 test images need.

Ways to one error: images and steps drawn at random; all T steps of some images, as in
improved-diffusion and guided-diffusion; and the smaller U-Net, or a Gaussian, measured on all
images beside.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.steps import bare, trained
from benchmarks.timing import Settings, in_turn
from nonequilibrium import adapters
from nonequilibrium.bound.bound import bits
from replication.data.textures import training_data

MODEL, REFERENCE = "cifar10_unet_large", "cifar10_unet"


@torch.no_grad()
def all_steps(model, images: Tensor) -> float:
    """The sum over t = T..2 of each image, one after the other, and the ends: bits/dim."""
    kernel, reverse = adapters.adapted(model)
    mean, sigma = reverse.scale
    random, totals = torch.Generator().manual_seed(1), []
    for image in images:
        x0 = ((image + torch.rand(image.shape, generator=random) - 0.5 - mean) / sigma)[None]
        nats = -kernel.cross_entropy_pi(x0, 0) - kernel.entropy(x0, 1)
        nats = nats + kernel.entropy(x0, kernel.T) - kernel.cross_entropy_pi(x0, kernel.T)
        nats = nats + kernel.cross_entropy_pi(x0, 1)
        for t in range(kernel.T, 1, -1):
            step = torch.tensor([t])
            xt = kernel.sample(kernel.q_marginal(x0, step), random)
            nats = nats - kernel.kl(kernel.q_posterior(x0, xt, step), reverse(xt, step))
        totals.append(torch.log2(torch.tensor(sigma)) - bits(float(nats)) / x0.numel())
    return float(torch.stack(totals).mean())


def measured(its: Settings) -> dict:
    model, cheap = trained(MODEL), trained(REFERENCE)
    test = training_data(model.params).test
    test, few = (test[:200], 40) if its.small else (test, 250)

    # One draw each of some images: between images and by Monte Carlo.
    some = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(2))[:few]]
    plain = adapters.bits_per_dim(model, some, 1)
    within = plain.mc_se**2 * len(some) * 2
    between = float(plain.per_example.var()) - within / 2
    T = model.params.n_steps

    def beside(reference) -> dict:
        """What it gives, and how many evaluations the other ways need for its error."""
        cost = adapters.bits_per_dim(model, test, 2, reference=reference, evaluations=few)
        plainly, looped = (between + within) / cost.mc_se**2, between / cost.mc_se**2 * (T - 1)
        about = {"bits_per_dim": cost.bits_per_dim, "error": cost.mc_se, "evaluations": few}
        about |= {"plainly": plainly, "fewer": plainly / few}
        return about | {"all steps": looped, "fewer than all steps": looped / few}

    short = adapters.fewer(model, 4 if its.small else 20)
    looped = all_steps(short, some[:6])
    ours = adapters.bits_per_dim(short, some[:6], None, replicates=4)

    model_kernel, x = cheap.kernel(), torch.randn(50, 3, 32, 32)
    network, t = bare(cheap, model_kernel), torch.randint(2, T, (50,))
    ways = {
        "bare network": lambda: [network(x, t) for _ in range(2)],
        "bits_per_dim": lambda: adapters.bits_per_dim(cheap, test[:50], 1, block=50),
    }
    with torch.no_grad():
        times = in_turn(ways, its, 3)
    return {
        "model": MODEL,
        "reference": REFERENCE,
        "images": len(test),
        "beside": {"U-Net": beside(cheap), "Gaussian": beside("gaussian")},
        "between images": between**0.5,
        "within an image": within**0.5,
        "loop": {"all steps": looped, "ours": ours.bits_per_dim, "mc_se": ours.mc_se},
        "overhead": times,
    }
