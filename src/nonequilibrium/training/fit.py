"""Training that survives: maximise K by gradient ascent, with checkpoints from which a run
continues bit for bit.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm.auto import tqdm

from nonequilibrium.bound.bound import bits
from nonequilibrium.errors import ParameterError, TrainingError, one_line
from nonequilibrium.files import quiet
from nonequilibrium.training.checkpoint import read_state, write_state
from nonequilibrium.training.distributed import first, from_first
from nonequilibrium.training.optimiser import SOAP
from nonequilibrium.training.recorded import Recorded, own_stream, records

READ_EVERY = 20  # steps between looks at K where steps are replayed, as a GPU must be waited for


def fit(
    model: nn.Module,
    objective: Callable[[torch.Generator], Tensor],
    groups: list[dict],
    steps: int,
    seed: int,
    checkpoint: Path | None = None,
    identity: dict | None = None,
    every_seconds: float = 20.0,
    log_every: int = 100,
    max_norm: float = 100.0,
    label: str = "training",
    optimiser: Callable[[list[dict]], torch.optim.Optimizer] = SOAP,
    warmup: int = 0,
    average: tuple[nn.Module, float] | None = None,
    monitor: Callable[[], float] | None = None,
    unit: tuple[float, str] = (1.0, "bits"),
    recorded: tuple[Callable, Callable] | None = None,
) -> list[dict]:
    """Maximise ``objective``, K of (15) as a rule, over the parameters in ``groups``, the step size
    on a cosine down to a thousandth.

    objective: one unbiased draw of it for the current model, in nats, given a generator;
    differentiable.
    groups: the optimiser's parameter groups, each with its own ``lr``.
    checkpoint: file to save to at most every ``every_seconds`` and after the last step, and to
        continue from if it exists. A run that was killed and continued ends, on a CPU, with the
        same bits as one that was not. Whoever has the result removes it. Where it cannot be saved
        one sentence says so and training goes on.
    identity: what the result depends on, but for ``steps`` and ``seed``; a checkpoint with another
    one is not used.
    max_norm: longer gradients are shortened to this.
    optimiser: makes the optimiser from ``groups``. warmup: steps over which the step size first
    rises.
    average: (module, decay); at the end the module's parameters are their exponential moving
    average.
    monitor: measures K (in the unit below) on other data with the averaged module's weights in
        place; called at each entry of the curve, its time not counted.
    unit: (how many of them an example has, name) of K in the curve and the progress bar.
    recorded: (draws, estimate), whose estimate(*draws(generator)) is the objective, if the second
        does the same operations each time; a GPU then records a step and replays it.
    Returns the training curve: a list of {"step", "seconds", "K"} and "K_validation" where there is
    a monitor; K in bits per unit averaged over the last ``log_every`` draws. Seconds are left out
    where there is no monitor, so that equal runs give equal curves. Raises TrainingError, naming
    the step, when K or its gradient is not finite.
    """
    check_log_every(log_every)
    identity = (identity or {}) | {"steps": steps, "seed": seed}
    generator = torch.Generator().manual_seed(seed)
    device = groups[0]["params"][0].device
    replayed = recorded is not None and records(device)
    if replayed:  # what changes from step to step must be a tensor
        groups = [
            g | {"lr": torch.tensor(g["lr"], device=device), "capturable": True} for g in groups
        ]
    ascent = optimiser(groups)
    decay = torch.optim.lr_scheduler.LambdaLR(
        ascent,
        lambda step: (
            min(1.0, (step + 1) / (warmup + 1))
            * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        ),
    )
    curve: list[dict] = []
    recent: list[float] = []  # K since the last entry of the curve
    unread: list[
        tuple[Tensor, ...]
    ] = []  # K and the gradient's norm of steps that a GPU may still be computing
    start, spent = 0, 0.0
    parts: dict[str, Any] = {"model": model, "optimiser": ascent, "decay": decay}
    averaged = None
    if average is not None:
        averaged, towards = copy.deepcopy(average[0]), get_ema_multi_avg_fn(average[1])
        parts["averaged"] = averaged
    state = None if checkpoint is None else from_first(read_state, checkpoint, identity)
    if state is not None:
        try:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            for group in ascent.param_groups if replayed else []:  # a checkpoint is read to the CPU
                group["lr"] = group["lr"].to(device)
            generator.set_state(state["generator"])
            curve, recent, start, spent = (
                state["curve"],
                state["recent"],
                state["step"],
                state["seconds"],
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"{checkpoint} does not fit the model ({one_line(error)}); delete it"
            ) from None
    complained, began = False, time.monotonic()
    parameters = [p for group in ascent.param_groups for p in group["params"]]
    read_every = READ_EVERY if replayed else 1
    draws, estimate = recorded or (lambda generator: (generator,), objective)
    between_steps = getattr(ascent, "between_steps", lambda: None)

    def gradient(*inputs) -> tuple[Tensor, ...]:
        """K and the length of its gradient, before it was shortened."""
        ascent.zero_grad()
        value = estimate(*inputs)
        (-value).backward()
        return value.detach().double(), nn.utils.clip_grad_norm_(parameters, max_norm).double()

    def move() -> None:
        ascent.step()
        if average is not None and averaged is not None:
            with torch.no_grad():
                towards(list(averaged.parameters()), list(average[0].parameters()), None)

    def climb(*inputs) -> tuple[Tensor, ...]:
        found = gradient(*inputs)
        move()
        return found

    # Recorded, a step is whole. Else K is looked at before the step is taken.
    begun = Recorded(climb) if replayed else gradient

    def read(step: int) -> None:
        """Note K of the steps up to this one; raises TrainingError if it or a gradient is not
        finite.
        """
        for number, (value, norm) in enumerate(
            torch.stack([torch.stack(pair) for pair in unread]).tolist()
        ):
            if not (math.isfinite(value) and math.isfinite(norm)):
                kept = (
                    f"; {checkpoint.name} holds the last good state"
                    if checkpoint and checkpoint.exists()
                    else ""
                )
                at = step - len(unread) + 1 + number
                raise TrainingError(
                    f"{label}: K is {value} and its gradient's norm {norm} at step {at}{kept}"
                )
            recent.append(bits(value) / unit[0])
        unread.clear()

    def save(checkpoint: Path, step: int) -> None:
        nonlocal complained
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {
            "generator": generator.get_state(),
            "curve": curve,
            "recent": recent,
            "step": step,
        }
        state["seconds"] = spent + time.monotonic() - began
        try:
            write_state(checkpoint, identity, state)
            complained = False
        except OSError as error:
            if not complained:
                words = f"{label}: the checkpoint could not be saved ({one_line(error)}); training goes on"
                tqdm.write(words, file=sys.stderr)
            complained = True

    def entry(step: int) -> dict:
        """One line of the training curve."""
        row = {"step": step, "K": sum(recent) / len(recent)}
        if monitor is not None:
            nonlocal began
            paused = time.monotonic()
            row["seconds"] = round(spent + paused - began, 1)
            model.eval()  # a bound is of float32
            with exchanged(average and average[0], averaged):
                row["K_validation"] = monitor()
            model.train()
            began += time.monotonic() - paused
        return row

    saved = began
    model.train()
    with (
        own_stream(device),
        tqdm(total=steps, initial=start, desc=label, disable=quiet(), mininterval=1.0) as bar,
    ):
        for step in range(start + 1, steps + 1):
            unread.append(begun(*draws(generator)))
            due = (
                checkpoint is not None
                and first()
                and (time.monotonic() - saved > every_seconds or step == steps)
            )
            logged = step % log_every == 0 or step == steps
            if due or logged or step % read_every == 0:
                read(step)
            if not replayed:
                move()
            between_steps()
            decay.step()
            if average is not None and averaged is not None and step == 1:
                _copy(averaged, average[0].parameters())
            if logged:
                curve.append(entry(step))
                bar.set_postfix_str(
                    f"K = {curve[-1].get('K_validation', curve[-1]['K']):.3f} {unit[1]}"
                )
                recent = []
            bar.update()
            if checkpoint is not None and due:
                save(checkpoint, step)
                saved = time.monotonic()
    if average is not None and averaged is not None:
        average[0].load_state_dict(averaged.state_dict())
    model.eval()
    return curve


def check_log_every(log_every: int) -> None:
    """Raises ParameterError unless a point of the training curve every ``log_every`` steps is
    possible.
    """
    if not isinstance(log_every, int) or isinstance(log_every, bool) or log_every < 1:
        raise ParameterError(
            f"log_every is {log_every!r}; it must be a whole number of steps, at least 1"
        )


@contextlib.contextmanager
def exchanged(module: nn.Module | None, other: nn.Module | None):
    """Inside, ``module`` has the parameters of ``other``; does nothing if they are None."""
    if module is None or other is None:
        yield
        return
    kept = [p.detach().clone() for p in module.parameters()]
    try:
        _copy(module, other.parameters())
        yield
    finally:
        _copy(module, kept)


@torch.no_grad()
def _copy(module: nn.Module, values) -> None:
    for p, value in zip(module.parameters(), values, strict=True):
        p.copy_(value)
