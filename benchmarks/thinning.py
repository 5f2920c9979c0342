"""What a thinned chain loses: K and posterior quality against its number of steps, evenly spaced
and spaced by what K loses.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from benchmarks.estimators import test_images
from benchmarks.steps import trained
from benchmarks.timing import Settings, in_turn
from nonequilibrium.bound.bound import bits, sampled_bound
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.bound.thinning import StepCosts, step_costs
from nonequilibrium.diffusion.posterior import Denoise
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.diffusion.thinning import even, thin
from nonequilibrium.model.images import ImageModel
from replication.files import ROOT
from replication.measure.metrics import seeded
from replication.measure.sample import load_costs

STEPS = 1000, 500, 250, 100, 50, 25
IMAGES = {"cifar10": 300, "cifar10_unet": 50, "mnist_dense": 500}  # test images for K
DENOISED = {"cifar10": 12, "mnist_dense": 40}  # test images for posterior samples
DRAWS = 4  # steps t an image, in each of two replicates
GROUPS = 10  # of the test images, from whose spread the errors are


def costs_of(experiment: str) -> StepCosts:
    costs = load_costs(ROOT / "models" / f"{experiment}.safetensors")
    if costs is None:
        raise SystemExit(
            f"error: no costs of steps; `nonequilibrium measure {experiment} --spacing`"
        )
    return costs


def chains(model: ImageModel, experiment: str, steps) -> list[tuple[int, str, list[int]]]:
    """(number of steps, spacing, levels that are kept) of each chain, the whole one first."""
    kernel = model.kernel()
    best = costs_of(experiment).best(kernel, [n for n in steps if n < kernel.T])
    found = [(kernel.T, "all", list(range(1, kernel.T + 1)))]
    for n, (kept, _) in best.items():
        found += [(n, "even", even(kernel.T, n)), (n, "optimal", kept)]
    return found


def chain_of(model: ImageModel, kept: list[int]) -> tuple:
    """(kernel, reverse) of the chain that keeps these levels; the model's own if it keeps all."""
    kernel = model.kernel()
    reverse = model.reverse(kernel)
    return (kernel, reverse) if len(kept) == kernel.T else thin(kernel, reverse, kept)


def lost(pairs: Tensor, kept) -> float:
    """What all steps of a chain cost K by the table that ``spacing`` measured, nats per image."""
    return sum(float(pairs[s, t]) for s, t in itertools.pairwise((0, *kept)))


@torch.no_grad()
def bounds(model: ImageModel, experiment: str, its: Settings) -> list[dict]:
    """K of each chain on the same test images, and what it loses against all T steps.

    The levels were chosen on training images that were set aside. What they lose is measured on
    groups of test images, by the costs of these, in which all chains have the same images and the
    same noise. K is drawn apart for each chain, and so has a larger error.
    """
    kernel = model.kernel()
    reverse, pairs = model.reverse(kernel), costs_of(experiment).pairs(kernel)
    x0 = test_images(model, 50 if its.small else IMAGES[experiment])
    random = seeded(
        5
    )  # one for all groups: the noise of x^t is the same at each t, and so a part of the error
    groups = [
        step_costs(kernel, reverse, part, random).pairs(kernel) for part in x0.tensor_split(GROUPS)
    ]
    pixels, every, rows = x0[0, 0].numel(), range(1, kernel.T + 1), []
    for n, way, kept in chains(model, experiment, STEPS):
        # An image's KL_t hardly differs from its mean, so that what a step costs says how often its
        # t should be drawn.
        cost = torch.stack([pairs[s, t] for s, t in itertools.pairwise(kept)])
        proposal = proposal_from(torch.cat([torch.zeros(2), cost.square()]), floor=0.1)
        bound = sampled_bound(
            *chain_of(model, kept), x0, torch.Generator().manual_seed(3), DRAWS, proposal, block=100
        )
        losses = torch.tensor([lost(own, kept) - lost(own, every) for own in groups]).double()
        found = {
            "K": bound.K,
            "K_mc_se": bound.mc_se,
            "predicted": lost(pairs, kept) - lost(pairs, every),
        }
        found |= {
            "loss": float(losses.mean()),
            "loss_se": float(losses.std()) / GROUPS**0.5,
            "losses": losses,
        }
        rows.append(
            {"steps": n, "spacing": way}
            | {name: bits(value) / pixels for name, value in found.items()}
        )
        rows[-1]["losses"] = rows[-1]["losses"].tolist()
    return rows


@torch.no_grad()
def denoised(model: ImageModel, experiment: str, its: Settings) -> list[dict]:
    """PSNR of posterior samples given noise of the data's variance (SNR 1), by chains of each
    length; the same seeds for all.
    """
    truth = test_images(model, 2 if its.small else DENOISED[experiment])
    noisy = truth + torch.randn(truth.shape, generator=torch.Generator().manual_seed(4))
    rows = []

    def factor(part: Tensor, _) -> Denoise:
        return Denoise(noisy[part], 1.0)

    pixels = model.scale.to_pixels(truth).double()
    for n, way, kept in chains(model, experiment, (50, 25) if its.small else STEPS):
        if its.small and way == "all":
            continue
        drawn = model.scale.to_pixels(
            sample_each(*chain_of(model, kept), len(truth), model.network.shape, 0, factor)
        ).double()
        error = (drawn - pixels).square().flatten(1).mean(1)
        psnr = 10 * torch.log10(255**2 / error)
        row = {"steps": n, "spacing": way, "PSNR": float(psnr.mean())}
        rows.append(row | {"PSNR_se": float(psnr.std()) / len(psnr) ** 0.5})
    return rows


@torch.no_grad()
def speed(its: Settings) -> dict:
    """Seconds for one sample of the U-Net by 50 steps with optimal spacing, beside as many
    evaluations of the network.
    """
    model = trained("cifar10_unet")
    kernel, n = model.kernel(), 10 if its.small else 50
    chain = chain_of(model, costs_of("cifar10_unet").best(kernel, [n])[n][0])
    x = torch.randn(1, *model.network.shape)

    def network():
        for t in range(n, 1, -1):
            model.network.z(kernel, x, t)

    ways = {
        "bare network": network,
        "a sample": lambda: sample_each(*chain, 1, model.network.shape, 0),
    }
    times = in_turn(ways, its, 3 if its.small else 5)
    return times | {"steps": n, "parameters": sum(p.numel() for p in model.network.parameters())}


def same_K(rows: list[dict]) -> list[dict]:
    """For each evenly spaced chain the steps that the optimal spacing needs to lose no more, and
    their ratio, by groups of images.
    """
    groups = [needed(rows, number) for number in range(len(rows[0]["losses"]))]
    found = []
    for n in (row["steps"] for row in rows if row["spacing"] == "even"):
        if all(n in each for each in groups):
            steps = torch.tensor([each[n] for each in groups]).double()
            ratios = {
                "ratio": float(steps.mean()) / n,
                "ratio_se": float(steps.std()) / len(steps) ** 0.5 / n,
            }
            found.append({"even": n, "optimal": float(steps.mean())} | ratios)
    return found


def needed(rows: list[dict], group: int) -> dict[int, float]:
    """Of one group of images, steps of an even chain: steps of an optimal one that loses as much,
    interpolated in log n.
    """
    points = sorted(
        (row["steps"], row["losses"][group]) for row in rows if row["spacing"] in ("optimal", "all")
    )
    found = {}
    for row in (row for row in rows if row["spacing"] == "even"):
        loss = row["losses"][group]
        for (few, high), (many, low) in itertools.pairwise(points):  # from the fewest steps on
            if low <= loss <= high:
                share = (loss - low) / (high - low)
                found[row["steps"]] = many ** (1 - share) * few**share
                break
    return found


def measured(its: Settings) -> dict:
    found: dict = {}
    for experiment in ["cifar10", "mnist_dense"] if its.small else IMAGES:
        model = trained(experiment)
        found[experiment] = {"K": bounds(model, experiment, its)}
        found[experiment]["same_K"] = same_K(found[experiment]["K"])
        if experiment in DENOISED:
            found[experiment]["denoising"] = denoised(model, experiment, its)
    return found | {"sample": speed(its)}
