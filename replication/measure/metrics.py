"""The contract of reports/metrics, and the record of how a number was made."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from nonequilibrium.bound.bound import Bound, bits, bits_per_dim, block_se
from nonequilibrium.model.images import ImageModel
from replication.files import commit, write_json
from replication.settings.registry import EXPERIMENTS


def provenance(name: str, command: str, seed: int, began: float, reports: Path) -> None:
    """Record how a number was made (command, commit, seed, seconds) in
    ``reports``/provenance/<name>.json.

    command: what a reader types to make it again, with the name of the stage as dvc.yaml has it.
    """
    entry = {
        "command": command,
        "commit": commit(),
        "seed": seed,
        "seconds": round(time.time() - began, 1),
    }
    write_json(reports / "provenance" / f"{name}.json", entry)


def metrics(experiment: str, bound: Bound, L_null: float, seed: int, **more) -> dict:
    """The contract of reports/metrics/<experiment>.json, in bits per unit of the register. L_null
    in nats.
    """
    K, its = bits(bound.K), EXPERIMENTS[experiment]
    return {
        "experiment": experiment,
        "unit": its.unit,
        "K": K,
        "K_se": bits(bound.se),
        "K_mc_se": bits(bound.mc_se),
        "L_null": bits(L_null),
        "K_minus_L_null": K - bits(L_null),
        "n_heldout": len(bound.rest),
        "seed": seed,
        "paper": its.paper,
        **more,
    }


def seeded(seed: int) -> torch.Generator:
    """A generator of its own for one thing that is drawn, so that no number depends on what else
    was measured.
    """
    return torch.Generator().manual_seed(seed)


def thinning(whole: Bound, thin: Bound, pixels: int) -> dict:
    """What a thinned chain loses against the whole one on the same images, image by image, in bits
    per pixel.
    """
    loss = bits(whole.per_example - thin.per_example) / pixels
    return {
        "K_thinned": bits(thin.K) / pixels,
        "K_same_images": bits(whole.K) / pixels,
        "thinning_loss": float(loss.mean()),
        "thinning_loss_se": float(loss.std()) / len(loss) ** 0.5,
    }


def baseline_metrics(costs: dict) -> dict:
    """Bits per dimension of baselines with their errors, for the contract; costs: {name: bits per
    dimension of each image}.
    """
    return {
        name: {
            "bits_per_dim": float(each.mean()),
            "se": float(each.std()) / len(each) ** 0.5,
            "se_blocks": block_se(each),
        }
        for name, each in costs.items()
    }


def image_metrics(
    experiment: str, model: ImageModel, bound: Bound, L_null: float, seed: int, **more
) -> dict:
    """The same contract for an image model, in bits per pixel, with bits per dimension beside it.
    L_null in nats per image.
    """
    pixels, channels, sigma = model.pixels, model.network.shape[0], model.scale.sigma
    per_pixel = Bound(bound.kl / pixels, bound.rest / pixels, bound.replicates / pixels)
    # The images stand as in the official file, whose order says something about them.
    order = {"K_se_blocks": bits(per_pixel.se_blocks)}
    result = metrics(experiment, per_pixel, L_null / pixels, seed, **order)
    return result | {
        "bits_per_dim": bits_per_dim(result["K"], channels, sigma),
        "bits_per_dim_se": result["K_se"] / channels,
        "sigma": sigma,
        "n_steps": model.params.n_steps,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        **more,
    }


def warn_unless(right: bool, sentence: str) -> None:
    """Print a warning where a result is not as expected, though the parameters that gave it are
    legal.
    """
    if not right:
        print(f"warning: {sentence}")
