"""Training that survives: maximise K by gradient ascent, with checkpoints from which a run continues bit for bit."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from nonequilibrium.bound import bits
from nonequilibrium.optimiser import SOAP


class TrainingError(RuntimeError):
    """Training cannot go on; the last good checkpoint is kept."""


def quiet() -> bool:
    """True in CI and under nbval, where a progress bar would only make noise."""
    return bool(os.environ.get("CI") or os.environ.get("NONEQUILIBRIUM_QUIET"))


def save_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a temporary file beside ``path`` and rename it: ``path`` is whole or absent at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(settings: dict) -> str:
    """A short hash of everything a run depends on, by which a checkpoint knows whose it is."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def fit(
    model: nn.Module,
    K: Callable[[torch.Generator], Tensor],
    groups: list[dict],
    steps: int,
    seed: int,
    checkpoint: Path | None = None,
    every_seconds: float = 20.0,
    log_every: int = 100,
    max_norm: float = 100.0,
    label: str = "training",
) -> list[dict]:
    """Maximise K (15) over the parameters in ``groups``, the step size on a cosine down to a thousandth.

    K: one unbiased draw of the bound for the current model, in nats, given a generator; differentiable.
    groups: the optimiser's parameter groups, each with its own ``lr``.
    checkpoint: file to save to at most every ``every_seconds`` and to continue from if it exists. A run that was
        killed and continued ends, on a CPU, with the same bits as one that was not.
    max_norm: longer gradients are shortened to this.
    Returns the training curve: a list of {"step", "K"}, K in bits averaged over the last ``log_every`` draws.
    Raises TrainingError, naming the step, when K or its gradient is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = SOAP(groups)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    curve, recent, start = [], [], 0
    parts = {"model": model, "optimiser": optimiser, "decay": decay}
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        generator.set_state(state["generator"])
        curve, recent, start = state["curve"], state["recent"], state["step"]

    def save(step: int) -> None:
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"generator": generator.get_state(), "curve": curve, "recent": recent, "step": step}
        save_atomically(checkpoint, lambda path: torch.save(state, path))

    saved = time.monotonic()
    with tqdm(total=steps, initial=start, desc=label, disable=quiet(), mininterval=1.0) as bar:
        for step in range(start + 1, steps + 1):
            value = K(generator)
            optimiser.zero_grad()
            (-value).backward()
            norm = nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], max_norm)
            if not (torch.isfinite(value) and torch.isfinite(norm)):
                kept = f"; {checkpoint.name} holds the last good state" if checkpoint and checkpoint.exists() else ""
                raise TrainingError(
                    f"{label}: K is {float(value.detach())} and its gradient's norm {float(norm)} at step {step}{kept}"
                )
            optimiser.step()
            decay.step()
            recent.append(bits(float(value.detach())))
            if step % log_every == 0 or step == steps:
                curve.append({"step": step, "K": sum(recent) / len(recent)})
                bar.set_postfix_str(f"K = {curve[-1]['K']:.3f} bits")
                recent = []
            bar.update()
            if checkpoint is not None and (time.monotonic() - saved > every_seconds or step == steps):
                save(step)
                saved = time.monotonic()
    return curve
