"""From the parameters of an experiment to its data law, model, training and weights.

A model is everything that training changes: the schedule (learned or fixed) and the network. Its kernel is built
from the schedule when it is needed, so that gradients reach a learned β.
"""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nonequilibrium.bound import entropy_terms, kl_terms
from nonequilibrium.data import Heartbeat, SwissRoll
from nonequilibrium.diffusion import BinomialKernel, GaussianKernel, Kernel, LearnedSchedule, schedule
from nonequilibrium.network import MLPNetwork, RBFNetwork
from nonequilibrium.parameters import HeartbeatParams, ParameterError, SwissRollParams, check
from nonequilibrium.training import fingerprint, fit, save_atomically


class WeightsError(ValueError):
    """Weights that are missing or belong to something else."""


class FixedSchedule(nn.Module):
    """β_1..β_T that training leaves alone."""

    def __init__(self, beta: Tensor):
        super().__init__()
        self.register_buffer("beta", beta)

    def forward(self) -> Tensor:
        return self.beta


class SwissRollModel(nn.Module):
    """The swiss roll's law, schedule and RBF network, from its parameters."""

    def __init__(self, params: SwissRollParams):
        super().__init__()
        self.params, self.law = params, SwissRoll(params.noise)
        beta = schedule("even_log_snr", params.n_steps, beta_1=params.beta_1, alpha_bar_T=params.alpha_bar_T)
        self.schedule = LearnedSchedule(beta) if params.learn_beta else FixedSchedule(beta)
        generator = torch.Generator().manual_seed(params.seed)
        self.network = RBFNetwork(self.kernel(), params.units, self.law, params.width, generator)

    def kernel(self) -> GaussianKernel:
        return GaussianKernel(self.schedule())

    def groups(self) -> list[dict]:
        """Parameter groups for the optimiser."""
        groups = [{"params": list(self.network.parameters()), "lr": self.params.learning_rate}]
        if self.params.learn_beta:
            groups.append({"params": list(self.schedule.parameters()), "lr": self.params.beta_learning_rate})
        return groups

    def K(self, generator: torch.Generator) -> Tensor:
        """One draw of K, nats: fresh points, each with frozen noise of its own at every t (2.4.1)."""
        kernel = self.kernel()
        x0 = self.law.sample(self.params.batch, generator)
        t = torch.arange(2, kernel.T + 1)
        kl = kl_terms(kernel, self.reverse(kernel), x0.expand(len(t), *x0.shape), t, generator)
        return entropy_terms(kernel, x0).mean() - kl.sum(0).mean()

    def reverse(self, kernel: Kernel):
        """p(x^{t−1}|x^t) as a function of (x^t, t)."""
        return partial(self.network, kernel)

    def finish(self) -> None:
        """Nothing remains to be done after training."""


class HeartbeatModel(nn.Module):
    """The heartbeat's law, schedule and MLP, from its parameters."""

    def __init__(self, params: HeartbeatParams):
        super().__init__()
        self.params, self.law = params, Heartbeat()
        self.schedule = FixedSchedule(schedule("inverse", params.n_steps))
        self._kernel = BinomialKernel(self.schedule(), params.pi)
        # At small t flips are rare and cost most: part of the draws of t go there, in proportion to 1/t.
        inverse = 1 / torch.arange(2, params.n_steps + 1, dtype=torch.float64)
        self._proposal = (1 - params.small_t) / len(inverse) + params.small_t * inverse / inverse.sum()
        self._cumulative = torch.cumsum(self._proposal, 0)
        generator = torch.Generator().manual_seed(params.seed)
        data = self.law.sample(1000, generator)
        self.network = MLPNetwork(self._kernel, data, params.hidden, params.layers, params.knots, generator)

    def kernel(self) -> BinomialKernel:
        return self._kernel

    def groups(self) -> list[dict]:
        """Parameter groups for the optimiser: the shared layers and the part of the readouts that neighbours share."""
        trained = [*self.network.layers.parameters(), self.network.readout.shared]
        return [{"params": trained, "lr": self.params.learning_rate}]

    def K(self, generator: torch.Generator) -> Tensor:
        """One draw of K, nats: steps t by systematic sampling from ``proposal``, fresh sequences for each."""
        kernel, p = self._kernel, self.params
        u = (torch.arange(p.batch_t) + torch.rand(p.batch_t, generator=generator)) / p.batch_t
        t = torch.searchsorted(self._cumulative, u.double()).clamp(max=kernel.T - 2) + 2
        x0 = self.law.sample(p.batch_t * p.batch, generator).reshape(p.batch_t, p.batch, self.law.dim)
        kl = kl_terms(kernel, self.reverse(kernel), x0, t, generator).mean(1)
        return entropy_terms(kernel, x0[0]).mean() - (kl / self._proposal[t - 2]).mean()

    def reverse(self, kernel: Kernel):
        """p(x^{t−1}|x^t) as a function of (x^t, t)."""
        return partial(self.network, kernel)

    def finish(self) -> None:
        """Fold the shared part of the readouts into the readouts."""
        self.network.readout.fold()


MODELS = {"swiss_roll": SwissRollModel, "swiss_roll_wide": SwissRollModel, "heartbeat": HeartbeatModel}


def train(experiment: str, params, checkpoints: Path | None = None) -> tuple[nn.Module, list[dict]]:
    """Train ``experiment`` from nothing, or from the checkpoint that an interrupted run of the same settings left.

    checkpoints: directory for the checkpoint, one file a setting; none is written if None.
    Returns the model and its training curve.
    """
    # One thread: the networks are too small to gain from more, and the result then does not depend on how many there are.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = {"experiment": experiment, **dataclasses.asdict(params)}
    model = MODELS[experiment](params)
    checkpoint = checkpoints and Path(checkpoints) / f"{experiment}-{fingerprint(settings)}.pt"
    try:
        curve = fit(model, model.K, model.groups(), params.train_steps, params.seed, checkpoint, label=experiment)
    finally:
        torch.set_num_threads(threads)
    model.finish()
    return model, curve


def save_weights(model: nn.Module, experiment: str, path: Path) -> None:
    """Write the model's weights with its experiment and parameters to ``path`` (safetensors), atomically."""
    # One entry: safetensors writes several in no fixed order, and equal weights must give equal bytes.
    about = {"experiment": experiment, "params": dataclasses.asdict(model.params)}
    metadata = {"nonequilibrium": json.dumps(about, sort_keys=True)}
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def load_weights(path: Path | str, experiment: str) -> nn.Module:
    """The trained model of ``experiment`` from ``path``; raises WeightsError if the file is missing or foreign."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}; train them with `dvc repro train@{experiment}`")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("nonequilibrium", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from None
    if about.get("experiment") != experiment:
        raise WeightsError(f"{path} holds weights of {about.get('experiment')!r}, not of {experiment!r}")
    try:
        model = MODELS[experiment](check(experiment, about["params"]))
    except ParameterError as error:
        raise WeightsError(f"{path} was made with other parameters: {error}") from None
    model.finish()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the network of its own parameters: {error}") from None
    return model.eval()
