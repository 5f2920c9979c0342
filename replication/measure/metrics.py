"""The contract of reports/metrics, in bits, and the record of how a number was made."""

import time
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.bound.bound import Bound, bits, bits_per_dim, block_se, mean_se
from replication.files import commit, write_json
from replication.settings.registry import EXPERIMENTS


def seeded(seed: int) -> torch.Generator:
    """A generator for one quantity, so that no number depends on what else is measured."""
    return torch.Generator().manual_seed(seed)


def bootstrapped(name: str, values: Tensor, seed: int) -> dict[str, float]:
    """{name: mean of ``values`` (n,), "se", "low", "high"}; the last two are a bootstrap's 95 %."""
    n, ends = len(values), torch.tensor([0.025, 0.975], dtype=torch.float64)
    resampled = torch.randint(n, (1000, n), generator=seeded(seed))
    low, high = values[resampled].mean(1).quantile(ends).tolist()
    mean, error = mean_se(values)
    return {name: mean, "se": error, "low": low, "high": high}


def provenance(name: str, command: str, seed: int, began: float, reports: Path) -> None:
    """Record the command (with a stage of dvc.yaml), commit, seed and seconds of a number."""
    seconds = round(time.time() - began, 1)
    entry = {"command": command, "commit": commit(), "seed": seed, "seconds": seconds}
    write_json(reports / "provenance" / f"{name}.json", entry)


def metrics(experiment: str, bound: Bound, L_null: float, seed: int, **more) -> dict:
    """The contract of reports/metrics/<experiment>.json; bound and L_null in nats per unit."""
    K, register = bits(bound.K), EXPERIMENTS[experiment]
    return {
        "experiment": experiment,
        "unit": register.unit,
        "K": K,
        "K_se": bits(bound.se),
        "K_mc_se": bits(bound.mc_se),
        "L_null": bits(L_null),
        "K_minus_L_null": K - bits(L_null),
        "n_heldout": len(bound.rest),
        "seed": seed,
        "paper": register.paper,
        **more,
    }


def by_time_step(**terms: Tensor) -> dict[str, pd.DataFrame]:
    """The table of E KL_t at t = 2..T, in bits, from terms at t = 0..T."""
    T = len(next(iter(terms.values()))) - 1
    columns = {name: term[2:].numpy() for name, term in terms.items()}
    return {"K_by_time_step": pd.DataFrame({"t": range(2, T + 1), **columns})}


def of_model(model, numbers: dict) -> dict:
    """K of ``numbers`` in bits per dimension; σ, T and the number of parameters of the model."""
    channels, sigma = model.network.shape[0], model.scale.sigma
    return {
        "bits_per_dim": bits_per_dim(numbers["K"], channels, sigma),
        "bits_per_dim_se": numbers["K_se"] / channels,
        "sigma": sigma,
        "n_steps": model.params.n_steps,
        "parameters": sum(p.numel() for p in model.network.parameters()),
    }


def per_pixel(bound: Bound, pixels: int | Tensor) -> Bound:
    """The bound divided by the number of pixels, one for all images or one for each, (n,)."""
    return Bound((bound.kl.mT / pixels).mT, bound.rest / pixels, bound.replicates / pixels)


def image_metrics(experiment: str, model, bound: Bound, L_null: float, seed: int, **more) -> dict:
    """The contract of an image model in bits per pixel; bound and L_null in nats per image."""
    bound = per_pixel(bound, model.pixels)
    blocks = bits(block_se(bound.per_example))  # the order of the official file is not random
    result = metrics(experiment, bound, L_null / model.pixels, seed, K_se_blocks=blocks)
    return result | of_model(model, result) | more
