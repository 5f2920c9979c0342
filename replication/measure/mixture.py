"""The MCGSM beside which dead leaves are measured, doubled for as long as that helps."""

import argparse
import dataclasses
import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nonequilibrium.bound.bound import bits, mean_se
from nonequilibrium.data.leaves import leaves_pictures
from nonequilibrium.errors import WeightsError
from nonequilibrium.files import save_contents
from nonequilibrium.model.textures import LeavesModel
from nonequilibrium.model.weights import check_card
from replication.files import ROOT, commit, to_json
from replication.measure.mcgsm import MCGSM, Draw, drawn_from, fit, per_image
from replication.measure.metrics import seeded
from replication.settings.params import LeavesLaw, MCGSMParams
from replication.settings.settings import load

ASIDE = 20  # training images by which sizes are compared, at most a fifth of all
DIM = 40  # pixels of a neighbourhood of 9×9
WEIGHTS = ROOT / "models" / "mcgsm.safetensors"
LAW = ("noise", "smallest", "largest", "size", "n_train")  # of the leaves that it is trained on


def drawing(model: LeavesModel, images: list[Tensor]) -> Draw:
    """Draws of scaled pixels and their neighbourhoods, with fresh noise on noiseless images."""
    draw_clean, scale, noise = drawn_from(torch.stack(images)), model.scale, model.params.noise

    def draw(n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        y, x = (v + noise * torch.randn(v.shape, generator=random) for v in draw_clean(n, random))
        return (y - scale.mean) / scale.sigma, (x - scale.mean) / scale.sigma

    return draw


def grown(model: LeavesModel, train: list[Tensor], sizes: MCGSMParams) -> tuple[MCGSM, list[dict]]:
    """The best MCGSM of a row of sizes, each double the last, until one gains under least_gain.

    Sizes are compared on training images set aside. Returns also a row per size.
    """
    cut = len(train) - min(ASIDE, len(train) // 5)
    draw, aside = drawing(model, train[:cut]), torch.stack(train[cut:])
    aside, rows, best = model.x0(aside, seeded(sizes.seed + 1)), [], -math.inf
    for doubling in range(sizes.doublings + 1):
        random, C, N = seeded(sizes.seed), sizes.components << doubling, sizes.features << doubling
        mixture = MCGSM(DIM, C, sizes.scales, N, random)
        mixture.whiten(*draw(200_000, random))
        fit(mixture, draw, random, sizes.steps)
        value, error = mean_se(bits(per_image(mixture, aside)))
        row = {"components": C, "scales": sizes.scales, "features": N}
        rows.append(row | {"bits_per_pixel": value, "se": error})
        gain = value - best
        if gain > 0:
            chosen, best = mixture, value
        if gain < sizes.least_gain:
            break
    return chosen, rows


def save_mixture(mixture: MCGSM, rows: list, params: LeavesLaw, path: Path, card: dict) -> None:
    """Write the MCGSM with its leaves and the sizes tried, and a card with the entries ``card``."""
    law = {name: getattr(params, name) for name in LAW}
    about = json.dumps({"mcgsm": law, "sizes": rows}, sort_keys=True)
    raw = save(mixture.state_dict(), {"nonequilibrium": about})
    card = card | {"sha256": hashlib.sha256(raw).hexdigest(), "law": law, "sizes": rows}
    save_contents({path: raw, path.with_suffix(".json"): to_json(card).encode()})


def load_mixture(params: LeavesLaw, path: Path = WEIGHTS) -> tuple[MCGSM, list[dict]]:
    """Read what ``save_mixture`` wrote; raises WeightsError unless it belongs to these leaves."""
    remedy = "`dvc repro --force --single-item mcgsm` trains it"
    if path.is_file():
        check_card(path)
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["nonequilibrium"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        law, rows, (C, S) = about["mcgsm"], about["sizes"], tensors["alpha"].shape
        mixture = MCGSM(DIM, C, S, len(tensors["b"]), seeded(0))
        mixture.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError):
        raise WeightsError(f"{path} holds no MCGSM of dead leaves; {remedy}") from None
    for name in LAW:
        if (value := getattr(params, name)) != law.get(name):
            reason = f"was trained on dead leaves with {name} = {law.get(name)}, not {value}"
            raise WeightsError(f"{path} {reason}; {remedy} on these")
    return mixture, rows


def run(options: argparse.Namespace) -> None:
    """Train the MCGSM on the leaves of params.yaml and write it: half an hour on one core."""
    began, sizes, params = time.time(), load("mcgsm"), load("dead_leaves")
    data: Any = leaves_pictures(params)
    mixture, rows = grown(LeavesModel(data, **vars(params)), data.train, sizes)
    card: dict = {"params": dataclasses.asdict(sizes), "commit": commit()}
    card["seconds"] = round(time.time() - began, 1)
    save_mixture(mixture, rows, params, options.out, card)
    for row in rows:
        cost = f"{row['bits_per_pixel']:.4f} ± {row['se']:.4f} bits per pixel"
        print(f"{row['components']} components: {cost}, on images set aside")
