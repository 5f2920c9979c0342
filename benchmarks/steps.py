"""What the diffusion adds to its network: a reverse step, a training step and the bound, each
beside the bare network's cost.

The bare network gives z^μ and z^Σ of a batch, and does no more. Two libraries take the same
network, where they are installed.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.timing import Settings, in_turn
from nonequilibrium.bound.bound import sampled_bound
from nonequilibrium.diffusion.sampling import reverse_trajectory, sample
from nonequilibrium.model.images import OPTIMISERS, ImageModel
from nonequilibrium.model.weights import load_weights
from nonequilibrium.network.unet import UNet
from nonequilibrium.training.fit import Ascent, Watch, fit
from replication.data.images import load_images
from replication.files import ROOT
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load

BATCH, BOUND = 32, 100  # images of a batch, images whose bound is taken at once
STEPS, TRAINED = 4, 8  # reverse and training steps in each timing
LIBRARIES = {"diffusers": "diffusers", "denoising-diffusion-pytorch": "denoising_diffusion_pytorch"}


def trained(experiment: str) -> ImageModel:
    model = load_weights(ROOT / "models" / f"{experiment}.safetensors", experiment)
    assert isinstance(model, ImageModel)
    return model


def bare(model: ImageModel, kernel) -> Callable[[Tensor, Tensor | int], tuple[Tensor, ...]]:
    """(x^t, t) to z^μ and z^Σ."""
    network = model.network
    if isinstance(network, UNet):
        return lambda x, t: network.z(kernel, x, t).chunk(2, 1)
    return lambda x, t: network.readout(network.features(x), t)


class Noise(nn.Module):
    """The bare network as what the two libraries take: a module that gives the noise in x^t."""

    self_condition = random_or_learned_sinusoidal_cond = False

    def __init__(self, model: ImageModel, kernel):
        super().__init__()
        self.channels = self.out_dim = model.network.shape[0]
        self.network, self.z = model.network, bare(model, kernel)

    def forward(self, x: Tensor, t: Tensor, *_) -> Tensor:
        return self.z(x, t)[0]


def installed(name: str) -> bool:
    return importlib.util.find_spec(LIBRARIES[name]) is not None


# ---------------------------------------------------------------- a reverse step


@torch.no_grad()
def reverse_step(model: ImageModel, its: Settings) -> dict:
    kernel = model.kernel()
    z, noise = bare(model, kernel), Noise(model, kernel)
    x = torch.randn(BATCH, *model.network.shape, generator=torch.Generator().manual_seed(0))
    each = [
        torch.Generator().manual_seed(i) for i in range(BATCH)
    ]  # one a sample, as ``sample_each`` has it

    def alone():
        for t in range(STEPS + 1, 1, -1):
            z(x, t)

    def ours():
        reverse_trajectory(kernel, model.reverse(kernel), x.shape, each, [0], start=(STEPS + 1, x))

    ways = {"bare network": alone, "this package": ours}
    if installed("diffusers"):
        from diffusers import DDPMScheduler

        scheduler, random = DDPMScheduler(clip_sample=False), torch.Generator()

        def diffusers():
            y = x
            for t in range(STEPS, 0, -1):
                y = scheduler.step(
                    noise(y, torch.full((BATCH,), t)), t, y, generator=random
                ).prev_sample

        ways["diffusers"] = diffusers
    if installed("denoising-diffusion-pytorch"):
        diffusion = ddpm(noise, model)

        def lucidrains():
            y = x
            for t in range(STEPS, 0, -1):
                y, _ = diffusion.p_sample(y, t)

        ways["denoising-diffusion-pytorch"] = lucidrains
    with torch.autocast(
        "cpu", torch.bfloat16, enabled=False
    ):  # as ``sample_each``: low-precision weights stay from step to step
        return in_turn(ways, its)


def ddpm(noise: nn.Module, model: ImageModel):
    from denoising_diffusion_pytorch import GaussianDiffusion

    side = model.network.shape[-1]
    return GaussianDiffusion(
        noise, image_size=side, timesteps=model.params.n_steps, objective="pred_noise"
    )


# ---------------------------------------------------------------- a training step


def training_step(model: ImageModel, its: Settings) -> dict:
    """Everything that ``fit`` does in a step (data, noise, K, gradient, optimiser, average), and
    the libraries' own objectives.
    """
    model = copy.deepcopy(model)
    model.take(load_images(model.params.data), torch.Generator().manual_seed(0))
    kernel = model.kernel()
    z, noise = bare(model, kernel), Noise(model, kernel)
    optimiser = OPTIMISERS[model.params.optimiser]
    ascent = Ascent(optimiser, average=(model.network, model.params.ema))
    x = torch.randn(BATCH, *model.network.shape)
    t = torch.randint(2, model.params.n_steps, (BATCH,))

    def ours():
        watch = Watch("benchmark", TRAINED)
        fit(model, model.objective, model.groups(), TRAINED, 0, ascent, watch)

    def loop(loss: Callable[[], Tensor], make: Callable) -> Callable[[], None]:
        def run():
            ascent = make(model.groups())
            for _ in range(TRAINED):
                ascent.zero_grad()
                loss().backward()
                ascent.step()

        return run

    def alone() -> Tensor:
        return sum(part.square().mean() for part in z(x, t))

    ways = {"bare network": loop(alone, optimiser), "this package": ours}
    if model.params.optimiser != "adam":
        ways["bare network, Adam"] = loop(alone, OPTIMISERS["adam"])
    if installed("diffusers"):
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler()

        def diffusers() -> Tensor:
            e = torch.randn_like(x)
            return (noise(scheduler.add_noise(x, e, t), t) - e).square().mean()

        ways["diffusers"] = loop(diffusers, optimiser)
    if installed("denoising-diffusion-pytorch"):
        diffusion, pictures = ddpm(noise, model), x.sigmoid()
        ways["denoising-diffusion-pytorch"] = loop(lambda: diffusion(pictures), optimiser)
    return in_turn(ways, its, max(3, its.repeats // 2))


# ---------------------------------------------------------------- the bound


@torch.no_grad()
def bound(model: ImageModel, its: Settings) -> dict:
    """``sampled_bound`` as CIFAR-10 is measured, three steps t an image and replicate, beside as
    many evaluations of the network.
    """
    kernel = model.kernel()
    z, random = bare(model, kernel), torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (BOUND, *model.network.shape), generator=random, dtype=torch.uint8
    )
    x0, reverse, proposal = (
        model.scale.dequantise(images, random),
        model.reverse(kernel),
        model.proposal(),
    )
    t = torch.randint(2, kernel.T + 1, (BOUND,), generator=random)
    draws = 1 if its.small else 3

    def ours():
        sampled_bound(kernel, reverse, x0, random, draws, proposal, replicates=2, block=BOUND)

    def alone():
        for _ in range(2 * draws):
            z(x0, t)

    return in_turn({"bare network": alone, "this package": ours}, its, max(3, its.repeats // 2))


# ---------------------------------------------------------------- the heartbeat


@torch.no_grad()
def heartbeat(its: Settings) -> dict:
    """A whole reverse chain of the heartbeat, T = 2000 steps of 1,000 sequences of 20 bits, beside
    its MLP alone.
    """
    params = load("heartbeat", {"n_steps": 200} if its.small else {})
    model = EXPERIMENTS["heartbeat"].model(**vars(params))
    model.finish()
    kernel, network = model.kernel(), model.network
    x = torch.zeros(1000, 20)
    random = torch.Generator().manual_seed(0)

    def alone():
        for t in range(kernel.T, 1, -1):
            network.readout(network.hidden(x), t)

    def ours():
        sample(kernel, model.reverse(kernel), x.shape, random)

    ways = {"bare network": alone, "this package": ours}
    return in_turn(ways, its, repeats=3 if its.small else 5)


def measured(its: Settings) -> dict:
    found = {"heartbeat": {"reverse chain": heartbeat(its)}}
    model = trained("cifar10")
    found["cifar10"] = {
        "reverse step": reverse_step(model, its),
        "training step": training_step(model, its),
    }
    found["cifar10"]["bound"] = bound(model, its)
    if not its.small:
        model, its = trained("cifar10_unet"), Settings(its.clock, max(3, its.repeats // 3))
        found["cifar10_unet"] = {
            "reverse step": reverse_step(model, its),
            "bound": bound(model, its),
        }
    return found
