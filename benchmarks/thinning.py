"""What a thinned chain loses: K and posterior quality against its number of steps, evenly spaced and spaced by what K loses."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from benchmarks.estimators import test_images
from benchmarks.steps import trained
from benchmarks.timing import Settings, in_turn
from nonequilibrium.bound.bound import bits, sampled_bound
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.bound.thinning import StepCosts
from nonequilibrium.diffusion.posterior import Denoise
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.diffusion.thinning import even, thin
from nonequilibrium.experiment.images import ImageModel
from nonequilibrium.files import ROOT
from nonequilibrium.measure.spacing import load_costs

STEPS = 1000, 500, 250, 100, 50, 25
IMAGES = {"cifar10": 300, "cifar10_unet": 50, "mnist_dense": 500}  # test images for K
DENOISED = {"cifar10": 12, "mnist_dense": 40}  # test images for posterior samples
DRAWS = 4  # steps t an image, in each of two replicates


def costs_of(experiment: str) -> StepCosts:
    costs = load_costs(ROOT / "models" / f"{experiment}.safetensors")
    if costs is None:
        raise SystemExit(
            f"error: the costs of steps are not there; `nonequilibrium spacing {experiment}` measures them"
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
    """(kernel, reverse) of the chain that keeps these levels; the model's own where it keeps all."""
    kernel = model.kernel()
    reverse = model.reverse(kernel)
    return (kernel, reverse) if len(kept) == kernel.T else thin(kernel, reverse, kept)


def lost(pairs: Tensor, kept) -> float:
    """What all steps of a chain cost K by the table that ``spacing`` measured, nats per image."""
    return sum(float(pairs[s, t]) for s, t in itertools.pairwise((0, *kept)))


@torch.no_grad()
def bounds(model: ImageModel, experiment: str, its: Settings) -> list[dict]:
    """K of each chain on the same test images, and what it loses against all T steps, image by image."""
    pairs = costs_of(experiment).pairs(model.kernel())
    x0 = test_images(model, 50 if its.small else IMAGES[experiment])
    pixels, whole, rows = x0[0, 0].numel(), torch.zeros(len(x0)), []
    for n, way, kept in chains(model, experiment, STEPS):
        # An image's KL_t hardly differs from its mean, so that what a step costs says how often its t should be drawn.
        cost = torch.stack([pairs[s, t] for s, t in itertools.pairwise(kept)])
        proposal = proposal_from(torch.cat([torch.zeros(2), cost.square()]), floor=0.1)
        bound = sampled_bound(*chain_of(model, kept), x0, torch.Generator().manual_seed(3), DRAWS, proposal, block=100)
        each = bits(bound.per_example) / pixels
        whole = each if way == "all" else whole
        loss = whole - each
        rows.append(
            {"steps": n, "spacing": way, "K": float(each.mean()), "K_mc_se": bits(bound.mc_se) / pixels}
            | {
                "predicted": bits(lost(pairs, kept) - lost(pairs, range(1, len(pairs)))) / pixels,
                "loss": float(loss.mean()),
                "loss_se": float(loss.std()) / len(loss) ** 0.5,
            }
        )
    return rows


@torch.no_grad()
def denoised(model: ImageModel, experiment: str, its: Settings) -> list[dict]:
    """PSNR of posterior samples given noise of the data's variance (SNR 1), by chains of each length; the same seeds for all."""
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
    """Seconds for one sample of the U-Net by 50 steps with optimal spacing, beside as many evaluations of the network."""
    model = trained("cifar10_unet")
    kernel, n = model.kernel(), 10 if its.small else 50
    chain = chain_of(model, costs_of("cifar10_unet").best(kernel, [n])[n][0])
    x = torch.randn(1, *model.network.shape)

    def network():
        for t in range(n, 1, -1):
            model.network.z(kernel, x, t)

    ways = {"bare network": network, "a sample": lambda: sample_each(*chain, 1, model.network.shape, 0)}
    times = in_turn(ways, its, 3 if its.small else 5)
    return times | {"steps": n, "parameters": sum(p.numel() for p in model.network.parameters())}


def same_K(rows: list[dict]) -> list[dict]:
    """For each evenly spaced chain the steps that the optimal spacing needs for the same predicted loss, interpolated in log n.

    Predicted, because the table has the same images and noise for all chains, so that their difference has little error.
    """
    points = sorted((row["steps"], row["predicted"]) for row in rows if row["spacing"] in ("optimal", "all"))
    found = []
    for row in (row for row in rows if row["spacing"] == "even"):
        for (few, high), (many, low) in itertools.pairwise(points):  # from the fewest steps on
            if low <= row["predicted"] <= high:
                share = (row["predicted"] - low) / (high - low)
                steps = many ** (1 - share) * few**share
                found.append({"even": row["steps"], "optimal": steps, "ratio": steps / row["steps"]})
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
