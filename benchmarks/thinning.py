"""What a thinned chain loses: K and posterior quality against its number of steps, evenly spaced and spaced by what K loses."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.estimators import test_images
from benchmarks.steps import trained
from benchmarks.timing import Settings, in_turn
from nonequilibrium.bound.bound import bits, full_bound, pilot_proposal, sampled_bound
from nonequilibrium.diffusion.posterior import Denoise
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.diffusion.thinning import even, thin
from nonequilibrium.experiment.images import ImageModel
from nonequilibrium.files import ROOT
from nonequilibrium.measure.spacing import levels, load_costs

STEPS = 1000, 500, 250, 100, 50, 25
IMAGES = {"cifar10": 300, "cifar10_unet": 80, "mnist_dense": 500}  # test images for K
DENOISED = {"cifar10": 12, "mnist_dense": 40}  # test images for posterior samples
PILOT = 6  # images by which t is drawn afterwards


def spacings(model: ImageModel, experiment: str, n: int) -> dict[str, list[int]]:
    """The levels that a chain of n steps keeps, both ways."""
    costs = load_costs(ROOT / "models" / f"{experiment}.safetensors")
    if costs is None:
        raise SystemExit(
            f"error: the costs of steps are not there; `nonequilibrium spacing {experiment}` measures them"
        )
    return {"even": even(model.params.n_steps, n), "optimal": levels(model, costs, n)}


@torch.no_grad()
def bounds(model: ImageModel, experiment: str, its: Settings) -> list[dict]:
    """K of each chain on the same test images with the same seeds, and what it loses against all T steps, image by image."""
    kernel = model.kernel()
    x0 = test_images(model, 20 if its.small else IMAGES[experiment])
    pixels, whole, rows = x0[0, 0].numel(), None, []
    for n in (1000, 25) if its.small else STEPS:
        for way, kept in spacings(model, experiment, n).items() if n < kernel.T else [("all", None)]:
            chain = (kernel, model.reverse(kernel)) if kept is None else thin(kernel, model.reverse(kernel), kept)
            random = torch.Generator().manual_seed(3)
            if kept is None:
                proposal = model.proposal()
            else:
                proposal = pilot_proposal(full_bound(*chain, x0[:PILOT], random, block=60)) if n <= 100 else None
            if proposal is None:  # what training saw, gathered over each longer step
                sums = torch.cumsum(model.proposal(), 0)[torch.tensor([0, *kept])]
                proposal = torch.cat([torch.zeros(2), torch.diff(sums)[1:]])
            bound = sampled_bound(*chain, x0, random, 2, proposal, block=100)
            each = bits(bound.per_example) / pixels
            whole = each if kept is None else whole
            loss = whole - each
            rows.append(
                {"steps": n, "spacing": way, "K": float(each.mean()), "K_mc_se": bits(bound.mc_se) / pixels}
                | {"loss": float(loss.mean()), "loss_se": float(loss.std()) / len(loss) ** 0.5}
            )
    return rows


@torch.no_grad()
def denoised(model: ImageModel, experiment: str, its: Settings) -> list[dict]:
    """PSNR of posterior samples given noise of the data's variance (SNR 1), by chains of each length; the same seeds for all."""
    truth = test_images(model, 2 if its.small else DENOISED[experiment])
    noisy = truth + torch.randn(truth.shape, generator=torch.Generator().manual_seed(4))
    kernel, rows = model.kernel(), []

    def factor(part: Tensor, _) -> Denoise:
        return Denoise(noisy[part], 1.0)

    pixels = model.scale.to_pixels(truth).double()
    for n in (50, 25) if its.small else STEPS:
        for way, kept in spacings(model, experiment, n).items() if n < kernel.T else [("all", None)]:
            chain = (kernel, model.reverse(kernel)) if kept is None else thin(kernel, model.reverse(kernel), kept)
            drawn = model.scale.to_pixels(sample_each(*chain, len(truth), model.network.shape, 0, factor)).double()
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
    chain = thin(kernel, model.reverse(kernel), spacings(model, "cifar10_unet", n)["optimal"])
    x = torch.randn(1, *model.network.shape)

    def network():
        for t in range(n, 1, -1):
            model.network.z(kernel, x, t)

    ways = {"bare network": network, "a sample": lambda: sample_each(*chain, 1, model.network.shape, 0)}
    times = in_turn(ways, its, 3 if its.small else 5)
    return times | {"steps": n, "parameters": sum(p.numel() for p in model.network.parameters())}


def same_K(rows: list[dict]) -> list[dict]:
    """For each evenly spaced chain the steps that the optimal spacing needs for the same loss, interpolated in log n."""
    points = sorted((row["loss"], row["steps"]) for row in rows if row["spacing"] in ("optimal", "all"))
    found = []
    for row in (row for row in rows if row["spacing"] == "even"):
        for (low, many), (high, few) in zip(points, points[1:], strict=False):
            if low <= row["loss"] <= high:
                share = (row["loss"] - low) / (high - low)
                steps = many ** (1 - share) * few**share
                found.append({"even": row["steps"], "optimal": steps, "ratio": steps / row["steps"]})
    return found


def measured(its: Settings) -> dict:
    found: dict = {}
    for experiment in ["cifar10"] if its.small else IMAGES:
        model = trained(experiment)
        found[experiment] = {"K": bounds(model, experiment, its)}
        found[experiment]["same_K"] = same_K(found[experiment]["K"])
        if experiment in DENOISED:
            found[experiment]["denoising"] = denoised(model, experiment, its)
    return found | {"sample": speed(its)}
