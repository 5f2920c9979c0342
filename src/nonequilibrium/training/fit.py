"""Training that survives: K is maximised by gradient ascent, and continues bit for bit."""

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nonequilibrium.distributed import collected, first, rank, synchronised
from nonequilibrium.errors import ParameterError, TrainingError, one_line
from nonequilibrium.files import bar, say
from nonequilibrium.training.checkpoint import Checkpoint, read_state, write_state
from nonequilibrium.training.devices import RECORDING, Recorded, own_stream
from nonequilibrium.training.optimiser import SOAP

READ_EVERY = 20  # steps between looks at K where steps are replayed, as a GPU must be waited for


class Ascent(NamedTuple):
    """How K is climbed."""

    optimiser: Callable[[list[dict]], torch.optim.Optimizer] = SOAP
    warmup: int = 0  # steps over which the step size first rises
    max_norm: float = 100.0  # longer gradients are shortened
    average: tuple[nn.Module, float] | None = None  # whose parameters end as their average; decay
    # (draws, estimate): estimate(*draws(generator)) is the objective, and a GPU may record it
    recorded: tuple[Callable, Callable] | None = None


class Watch(NamedTuple):
    """How K is watched."""

    label: str = "training"
    log_every: int = 100  # steps between rows of the curve
    unit: tuple[float, str] = (1.0, "bits")  # number in an example, name
    monitor: Callable[[], float] | None = None  # K of other data, by the averaged parameters


def fit(
    model: nn.Module,
    objective: Callable[[torch.Generator], Tensor],
    groups: list[dict],
    steps: int,
    seed: int,
    ascent: Ascent = Ascent(),  # noqa: B008
    watch: Watch = Watch(),  # noqa: B008
    checkpoint: Checkpoint | None = None,
) -> list[dict]:
    """Maximise ``objective``, one unbiased draw of K (15) in nats, over the parameters ``groups``,
    whose ``lr`` falls on a cosine to a thousandth. It goes on from ``checkpoint``, on a CPU with
    the same bits; whoever has the result removes the file. Raises TrainingError when K or its
    gradient is not finite, and when a signal asks it to end, after it saved.

    Returns the training curve, rows of "step", "K" (the mean of the draws since the last row, at
    most those of the last tenth) and with a monitor "seconds", without its own, and "K_validation".
    """
    check_log_every(watch.log_every)
    run = _Run(model, groups, steps, seed, ascent, watch, checkpoint)
    draws, estimate = ascent.recorded or (lambda generator: (generator,), objective)

    def climb(*inputs) -> tuple[Tensor, ...]:
        """K, and the length of its gradient before it is shortened."""
        run.optimiser.zero_grad()
        value = estimate(*inputs)
        (-value).backward()
        synchronised(run.parameters)
        norm = nn.utils.clip_grad_norm_(run.parameters, ascent.max_norm)
        if run.replayed:
            run.move()
        return value.detach().double(), norm.double()

    begun = Recorded(climb) if run.replayed else climb
    shown = bar(total=steps, initial=run.step, desc=watch.label, mininterval=1.0)
    model.train()
    with own_stream(run.device), shown, signals(checkpoint is not None) as asked:
        while run.step < steps:
            run.step += 1
            run.unread.append(begun(*draws(run.generator)))
            logged, due = run.step % watch.log_every == 0 or run.step == steps, run.due(asked)
            if due or logged or not run.replayed or run.step % READ_EVERY == 0:
                run.read()
            if not run.replayed:  # K is looked at before the step is taken
                run.move()
            run.after()
            if logged:
                shown.set_postfix_str(f"K = {run.log():.3f} {watch.unit[1]}")
            shown.update()
            if due:
                run.save()
            if due and asked and checkpoint:
                words = f"{watch.label}: {signal.Signals(asked[0]).name} after step {run.step}"
                raise TrainingError(f"{words}; {checkpoint.path} holds the training")
    run.exchange()
    model.eval()
    return run.curve


@contextmanager
def signals(caught: bool) -> Iterator[list[int]]:
    """Inside, what would end the process (Ctrl-C, a cluster's warning) is noted if ``caught``."""
    asked, here = list[int](), threading.current_thread() is threading.main_thread()
    ending = "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"
    names = ending if caught and here else ()
    with ExitStack() as former:
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, lambda number, _: asked.append(number))
                former.callback(signal.signal, number, handler)
        yield asked


class _Run:
    """All of a training that a checkpoint holds, and what is done with it at each step."""

    def __init__(self, model, groups, steps, seed, ascent: Ascent, watch: Watch, checkpoint):
        self.model, self.steps, self.ascent, self.watch = model, steps, ascent, watch
        self.device = groups[0]["params"][0].device
        self.replayed = ascent.recorded is not None and self.device.type in RECORDING
        if self.replayed:  # what changes from step to step must be a tensor
            lr = [torch.tensor(g["lr"], device=self.device) for g in groups]
            groups = [g | {"lr": x, "capturable": True} for g, x in zip(groups, lr, strict=True)]
        self.optimiser = ascent.optimiser(groups)

        def height(step: int) -> float:
            fallen = 0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * step / steps))
            return min(1.0, (step + 1) / (ascent.warmup + 1)) * fallen

        self.decay = LambdaLR(self.optimiser, height)
        self.parameters = [p for g in groups for p in g["params"]]
        self.parts = {"model": model, "optimiser": self.optimiser, "decay": self.decay}
        self.pairs = []  # a parameter and its average
        if ascent.average is not None:
            module, decay = ascent.average
            self.parts["averaged"] = averaged = copy.deepcopy(module)
            self.pairs = list(zip(module.parameters(), averaged.parameters(), strict=True))
            self.towards = get_ema_multi_avg_fn(decay)
        self.generator = torch.Generator().manual_seed(seed)
        self.step, self.curve = 0, list[dict]()
        self.recent: list[float] = []  # K since the last row of the curve
        self.unread: list[tuple[Tensor, ...]] = []  # of steps that a GPU may still be computing
        self.began = self.saved = time.monotonic()
        self.checkpoint, self.complained = checkpoint, False
        if checkpoint is not None:
            self.identity = checkpoint.identity | {"steps": steps, "seed": seed}
            read = read_state(checkpoint.path, self.identity) if rank() == 0 else None
            state = collected({rank(): read})[0]  # in all processes, what the first has read
            if state is not None:
                self.restore(state)

    def restore(self, state: dict) -> None:
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.generator.set_state(state["generator"])
            self.step, self.curve, self.recent = (state[x] for x in ("step", "curve", "recent"))
            self.began -= state["seconds"]
            if self.step not in range(1, self.steps + 1):
                raise ValueError(f"it is of step {self.step!r}")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            words = f"does not fit the model ({one_line(error)}); delete it"
            raise TrainingError(f"{self.checkpoint.path} {words}") from None
        for group in self.optimiser.param_groups if self.replayed else ():
            group["lr"] = group["lr"].to(self.device)  # it was read to the CPU

    def due(self, asked: list[int]) -> bool:
        """Whether this process saves the state after this step, as where it is asked to end."""
        if self.checkpoint is None or not first():
            return False
        late = time.monotonic() - self.saved > self.checkpoint.every_seconds
        return late or self.step == self.steps or bool(asked)

    def read(self) -> None:
        """Note K of the steps up to this one."""
        values = torch.stack([torch.stack(pair) for pair in self.unread]).tolist()
        for step, (value, norm) in enumerate(values, self.step - len(values) + 1):
            if not (math.isfinite(value) and math.isfinite(norm)):
                path = self.checkpoint and self.checkpoint.path
                kept = f"; {path.name} holds the last good state" if path and path.exists() else ""
                words = f"{self.watch.label}: K is {value} and its gradient's norm {norm}"
                raise TrainingError(f"{words} at step {step}{kept}")
            self.recent.append(value / math.log(2) / self.watch.unit[0])
        self.unread.clear()

    @torch.no_grad()
    def move(self) -> None:
        """The step itself, and that of the average."""
        self.optimiser.step()
        if self.pairs:
            now, averaged = map(list, zip(*self.pairs, strict=True))
            self.towards(averaged, now, None)

    @torch.no_grad()
    def after(self) -> None:
        """The part of a step that is never recorded."""
        getattr(self.optimiser, "between_steps", lambda: None)()
        self.decay.step()
        for p, average in self.pairs if self.step == 1 else ():
            average.copy_(p)

    def exchange(self) -> None:
        """Exchange the parameters and their averages."""
        for p, average in self.pairs:
            p.data, average.data = average.data, p.data

    def log(self) -> float:
        """Add a row to the curve; returns its K, that of the monitor where there is one."""
        last = self.recent[-max(1, self.steps // 10) :]
        row = {"step": self.step, "K": sum(last) / len(last)}
        if self.watch.monitor is not None:
            paused = time.monotonic()
            row["seconds"] = round(paused - self.began, 1)
            self.model.eval()  # a bound is of float32
            self.exchange()
            row["K_validation"] = self.watch.monitor()
            self.exchange()
            self.model.train()
            self.began += time.monotonic() - paused
        self.recent = []
        self.curve.append(row)
        return row.get("K_validation", row["K"])

    def save(self) -> None:
        """Save the state; where that fails one sentence says so and training goes on."""
        self.saved = time.monotonic()
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {name: getattr(self, name) for name in ("step", "curve", "recent")}
        state |= {"generator": self.generator.get_state(), "seconds": self.saved - self.began}
        try:
            write_state(self.checkpoint.path, self.identity, state)
        except OSError as error:
            words = f"{self.watch.label}: the checkpoint could not be saved ({one_line(error)})"
            if not self.complained:
                say(f"{words}; training goes on")
            self.complained = True


def check_log_every(log_every: int) -> None:
    """Refuse a curve that cannot have a row every ``log_every`` steps."""
    if isinstance(log_every, bool) or not isinstance(log_every, int) or log_every < 1:
        raise ParameterError(f"log_every is {log_every!r}; it must be a whole number, at least 1")
