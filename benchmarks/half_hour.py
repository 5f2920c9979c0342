"""CIFAR-10 from nothing in half an hour: what two libraries reach with their own U-Nets and their
own training, in bits/dim.

    python -m benchmarks.half_hour diffusers python -m benchmarks.half_hour
    denoising_diffusion_pytorch python -m benchmarks.half_hour ours          # seconds a step of our
    own trainings, whose curves are there

Each is trained as its own example trains it: noise or velocity by the mean square, all t alike,
Adam or AdamW at a rate of 1e-4, mirrored images, float32. The number of parameters is about that of
our U-Net, 4 millions, and a training step has 32 images, as ours. Bits/dim is the adapters', with
the decoder of the later papers; the better of the last weights and of their average is taken on
images set aside from training, which is in the libraries' favour. The result is the part half_hour
of reports/benchmarks.json; the report draws it beside our own trainings' curves.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nonequilibrium import adapters
from nonequilibrium.files import bar, say
from replication.data.images import load_images
from replication.files import ROOT, write_json
from replication.settings.settings import load
from replication.training.train import train as train_ours

BATCH, RATE, DECAY = 32, 1e-4, 0.99
ASIDE, WATCHED, TEST = (
    1000,
    100,
    500,
)  # images set aside from training; of them watched; test images of the last number
MARKS = 6  # entries of the curve, each after twice the steps of the one before


class DenoisingDiffusionPytorch:
    """``GaussianDiffusion`` at its defaults: T = 1000, a sigmoid schedule, v predicted."""

    name = "denoising_diffusion_pytorch"

    def __init__(self):
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet

        self.network = Unet(40, dim_mults=(1, 2, 4))
        self.diffusion = GaussianDiffusion(self.network, image_size=32)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=RATE, betas=(0.9, 0.99))

    def loss(self, x0: Tensor) -> Tensor:
        """x0 (n, 3, 32, 32) on [−1, 1]; its own forward wants [0, 1]."""
        return self.diffusion((x0 + 1) / 2)

    def model(self, network: nn.Module):
        diffusion = copy.copy(self.diffusion)
        diffusion._modules = self.diffusion._modules | {"model": network}
        return adapters.from_denoising_diffusion_pytorch(diffusion)


class Diffusers:
    """``UNet2DModel`` and ``DDPMScheduler`` as in the library's example of unconditional training:
    T = 1000, β linear.
    """

    name = "diffusers"

    def __init__(self):
        from diffusers import DDPMScheduler, UNet2DModel

        self.network = UNet2DModel(
            sample_size=32,
            block_out_channels=(32, 64, 128),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
        self.scheduler = DDPMScheduler()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=RATE, betas=(0.95, 0.999), weight_decay=1e-6
        )

    def loss(self, x0: Tensor) -> Tensor:
        noise, step = torch.randn_like(x0), torch.randint(len(self.scheduler.betas), (len(x0),))
        return nn.functional.mse_loss(
            self.network(self.scheduler.add_noise(x0, noise, step), step).sample, noise
        )

    def model(self, network: nn.Module):
        return adapters.from_diffusers(network, self.scheduler)


LIBRARIES = {library.name: library for library in (DenoisingDiffusionPytorch, Diffusers)}


def measured(
    library, networks: dict[str, nn.Module], images: Tensor, draws: int
) -> tuple[str, adapters.Cost]:
    """Which of the networks needs fewest bits for ``images``, uint8, and how many."""
    costs = {
        name: adapters.bits_per_dim(library.model(network), images, draws=draws)
        for name, network in networks.items()
    }
    best = min(costs, key=lambda name: costs[name].bits_per_dim)
    return best, costs[best]


def training_step(library, x0: Tensor) -> None:
    """One training step on images x0 (n, 3, 32, 32) on [−1, 1]."""
    library.optimiser.zero_grad()
    library.loss(x0).backward()
    nn.utils.clip_grad_norm_(library.network.parameters(), 1.0)
    library.optimiser.step()


def train(library, steps: int, draws: int) -> dict:
    """Train for ``steps`` steps; returns the curve, seconds a step, and bits/dim of test images."""
    torch.manual_seed(0)
    data = load_images("cifar10")
    train, aside = data.train[:-ASIDE], data.train[-ASIDE:][:WATCHED]
    average = AveragedModel(library.network, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    networks = {"last weights": library.network, "their average": average.module}
    marks = {max(1, round(steps / 2**k)) for k in range(MARKS)}
    curve, seconds = [], []
    for step in bar(range(1, steps + 1), desc=library.name):
        start = time.perf_counter()
        x0 = train[torch.randint(len(train), (BATCH,))].float() / 127.5 - 1
        mirrored = torch.rand(BATCH) < 0.5
        training_step(library, torch.where(mirrored[:, None, None, None], x0.flip(-1), x0))
        average.update_parameters(library.network)
        seconds.append(time.perf_counter() - start)
        if step in marks:
            which, cost = measured(library, networks, aside, max(1, draws // 2))
            curve.append(
                {"step": step, "bits_per_dim": cost.bits_per_dim, "se": cost.se, "of": which}
            )
            say(f"{step} {cost} {which}")
    cost = adapters.bits_per_dim(
        library.model(networks[curve[-1]["of"]]), data.test[:TEST], draws=draws
    )
    return {
        "parameters": sum(p.numel() for p in library.network.parameters()),
        "steps": steps,
        "batch": BATCH,
        "seconds_a_step_here": float(torch.tensor(seconds).median()),
        "curve": curve,
        "test": {
            "bits_per_dim": cost.bits_per_dim,
            "se": cost.se,
            "mc_se": cost.mc_se,
            "images": TEST,
        },
    }


def step_time(library, repeats: int = 20) -> float:
    """Seconds a training step, the median; for a machine that does nothing else."""
    seconds = []
    for _ in range(repeats + 3):
        x0 = torch.rand(BATCH, 3, 32, 32) * 2 - 1
        start = time.perf_counter()
        training_step(library, x0)
        seconds.append(time.perf_counter() - start)
    return float(torch.tensor(seconds[3:]).median())


def keep(path: Path, name: str, result: dict) -> None:
    """Write a result into the part half_hour of the benchmarks."""
    whole = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, whole | {"half_hour": whole.get("half_hour", {}) | {name: result}})


def our_step_times(steps: dict[str, int]) -> dict[str, float]:
    """Seconds a training step of ours, by experiment. steps: how many are trained; the second half
    is timed.
    """
    found = {}
    for name, n in steps.items():
        _, curve = train_ours(name, load(name, {"train_steps": n}), log_every=n // 2)
        found[name] = (curve[1]["seconds"] - curve[0]["seconds"]) / (n // 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", choices=[*sorted(LIBRARIES), "ours"])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument(
        "--seconds-a-step", type=float, help="as measured before on a machine that did nothing else"
    )
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "benchmarks.json")
    parser.add_argument(
        "--only-time", action="store_true", help="print the seconds a step and stop"
    )
    arguments = parser.parse_args()
    if arguments.library == "ours":
        keep(arguments.out, "ours", our_step_times({"cifar10": 60, "cifar10_unet": 8}))
        return
    library = LIBRARIES[arguments.library]()
    seconds = arguments.seconds_a_step or step_time(library)
    print(
        f"{arguments.library}: {seconds:.3f} s a step on {torch.get_num_threads()} threads",
        flush=True,
    )
    if arguments.only_time:
        return
    library = LIBRARIES[arguments.library]()
    result = {"library": arguments.library, "seconds_a_step": seconds}
    result |= train(library, round(60 * arguments.minutes / seconds), arguments.draws)
    for entry in result["curve"]:
        entry["minutes"] = entry["step"] * seconds / 60
    keep(arguments.out, arguments.library, result)


if __name__ == "__main__":
    main()
