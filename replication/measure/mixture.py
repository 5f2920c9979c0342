"""The MCGSM beside which dead leaves are measured: trained on the same images, and doubled for as
long as that helps.

    nonequilibrium train mcgsm

trains it, half an hour on one core, and writes it to models/ with a card. Measuring reads it from
there.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nonequilibrium.bound.bound import bits
from nonequilibrium.data.leaves import leaves_pictures
from nonequilibrium.errors import Refusal
from nonequilibrium.files import save_contents
from nonequilibrium.model.leaves import LeavesModel
from nonequilibrium.model.weights import check_card
from replication.files import ROOT, check_writable, commit
from replication.measure.mcgsm import MCGSM, drawn_from, fit, per_image
from replication.measure.metrics import seeded
from replication.settings.evaluation import MCGSMParams
from replication.settings.params import LeavesLaw
from replication.settings.settings import load

SIDE = 9  # of a neighbourhood
ASIDE = 20  # training images by which sizes are compared, at most a fifth of all
WEIGHTS = ROOT / "models" / "mcgsm.safetensors"
LAW = (
    "noise",
    "smallest",
    "largest",
    "size",
    "n_train",
)  # what it was trained on, in words of ``LeavesLaw``


class MixtureError(Refusal, ValueError):
    """There is no MCGSM of these leaves."""


def drawing(
    model: LeavesModel, images: list[Tensor]
) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    """Pixels y (n,) and their neighbourhoods x (n, d) at random places of images without noise,
    each with fresh noise, scaled.
    """
    draw_clean, scale, noise = (
        drawn_from(torch.stack(images), SIDE),
        model.scale,
        model.params.noise,
    )

    def draw(n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        y, x = (v + noise * torch.randn(v.shape, generator=random) for v in draw_clean(n, random))
        return (y - scale.mean) / scale.sigma, (x - scale.mean) / scale.sigma

    return draw


def grown(model: LeavesModel, train: list[Tensor], its: MCGSMParams) -> tuple[MCGSM, list[dict]]:
    """The best MCGSM of a row of sizes, each twice the one before, until a doubling gains less than
    ``its.least_gain``.

    Sizes are compared on training images set aside. Returns it and a row a size: {"components",
    "scales", "features", "bits_per_pixel", "se"}, an image being the unit of the error.
    """
    cut = len(train) - min(ASIDE, len(train) // 5)
    draw, aside = (
        drawing(model, train[:cut]),
        model.x0(torch.stack(train[cut:]), seeded(its.seed + 1)),
    )
    best, rows = None, []
    for doubling in range(its.doublings + 1):
        random, C, N = seeded(its.seed), its.components << doubling, its.features << doubling
        mixture = MCGSM(SIDE**2 // 2, C, its.scales, N, random)
        mixture.whiten(*draw(200_000, random))
        fit(mixture, draw, random, its.steps)
        value = bits(per_image(mixture, aside, SIDE))
        row = {"components": C, "scales": its.scales, "features": N}
        rows.append(
            row
            | {"bits_per_pixel": float(value.mean()), "se": float(value.std()) / len(value) ** 0.5}
        )
        gain = rows[-1]["bits_per_pixel"] - max(
            (row["bits_per_pixel"] for row in rows[:-1]), default=-float("inf")
        )
        if gain > 0:
            best = mixture
        if gain < its.least_gain:
            break
    assert best is not None, "the first size gains over nothing"
    return best, rows


def law_of(params: LeavesLaw) -> dict:
    """Which leaves these are."""
    return {name: getattr(params, name) for name in LAW}


def save_mixture(
    mixture: MCGSM, rows: list[dict], params: LeavesLaw, path: Path, card: dict
) -> None:
    """Write it to ``path`` with its leaves and the sizes that were tried, and a card beside it, of
    which ``card`` is a part.
    """
    about = {"mcgsm": law_of(params), "sizes": rows}
    raw = save(mixture.state_dict(), {"nonequilibrium": json.dumps(about, sort_keys=True)})
    card = card | {"sha256": hashlib.sha256(raw).hexdigest(), "law": law_of(params), "sizes": rows}
    save_contents(
        {path: raw, path.with_suffix(".json"): (json.dumps(card, indent=2) + "\n").encode()}
    )


def load_mixture(params: LeavesLaw, path: Path = WEIGHTS) -> tuple[MCGSM, list[dict]]:
    """What ``save_mixture`` wrote; raises MixtureError, with the remedy, unless it is whole and was
    trained on these leaves.
    """
    remedy = "`dvc repro --force --single-item mcgsm` trains it"
    if not path.is_file():
        raise MixtureError(f"there is no MCGSM at {path}; {remedy}")
    check_card(path)
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["nonequilibrium"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        law, rows = about["mcgsm"], about["sizes"]
        (C, dim), S, N = tensors["a"].shape, tensors["alpha"].shape[1], tensors["b"].shape[0]
        mixture = MCGSM(dim, C, S, N, seeded(0))
        mixture.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError):
        raise MixtureError(f"{path} holds no MCGSM of dead leaves; {remedy}") from None
    for name, value in law_of(params).items():
        if law.get(name) != value:
            told = f"{path} was trained on dead leaves with {name} = {law.get(name)}, not {value}"
            raise MixtureError(f"{told}; {remedy} on these")
    return mixture, rows


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium mcgsm``."""
    parser.add_argument(
        "--out", type=Path, default=WEIGHTS, help="default: models/mcgsm.safetensors"
    )


def run(options: argparse.Namespace) -> None:
    """Train it on the leaves of params.yaml and write it."""
    check_writable(options.out, options.out.with_suffix(".json"))
    began, its, params = time.time(), load("mcgsm"), load("dead_leaves")
    data: Any = leaves_pictures(params)
    mixture, rows = grown(LeavesModel(data, **vars(params)), data.train, its)
    about = {
        "params": dataclasses.asdict(its),
        "commit": commit(),
        "seconds": round(time.time() - began, 1),
    }
    save_mixture(mixture, rows, params, options.out, about)
    for row in rows:
        print(
            f"{row['components']} components: {row['bits_per_pixel']:.4f} ± {row['se']:.4f} bits/pixel, images set aside"
        )
