"""The models of the toys: points of any law under the swiss roll's network, and the heartbeat."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.bound.bound import entropy_terms, full_bound, kl_terms
from nonequilibrium.data.toys import Heartbeat, PointLaw, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import FixedSchedule, LearnedSchedule, schedule
from nonequilibrium.model.model import Model
from nonequilibrium.network.toys import MLPNetwork, RBFNetwork
from nonequilibrium.settings import completed

TRAINING_SEQUENCES = 200_000  # of the heartbeat: a fixed training set, large enough that the offsets are equally frequent


class PointsModel(Model):
    """A law of points, schedule and RBF network, from their settings; ``start`` picks other centres
    to begin with.

    law: makes the law from its noise. Lengths are in coordinates of unit variance.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "noise": 1e-3,  # σ of the law
        "n_steps": 40,  # T
        "beta_1": 1e-6,
        "alpha_bar_T": 0.03,  # of the schedule at the start
        "learn_beta": True,
        "units": 16,  # radial basis functions
        "width": 1.5,  # their width at the start
        "centres": "points",  # or "k_means"
        "starts": 1,  # short trainings of which the best goes on
        "start_steps": 1500,
        "train_steps": 15_000,
        "batch": 128,  # points a step; every point is used at every t
        "learning_rate": 0.02,
        "beta_learning_rate": 0.1,  # of logit β_t
        "seed": 0,
    }
    network: RBFNetwork

    def __init__(self, start: int = 0, *, law: Callable[[float], PointLaw] = SwissRoll, **settings):
        super().__init__()
        self.params = params = completed(self.defaults, settings)
        self.law = law(params.noise)
        beta = schedule(
            "even_log_snr", params.n_steps, beta_1=params.beta_1, alpha_bar_T=params.alpha_bar_T
        )
        self.schedule = LearnedSchedule(beta) if params.learn_beta else FixedSchedule(beta)
        generator = torch.Generator().manual_seed(params.seed + 1_000_003 * start)
        self.network = RBFNetwork(
            self.kernel(), params.units, self.law, params.width, generator, params.centres
        )

    def kernel(self) -> GaussianKernel:
        return GaussianKernel(self.schedule())

    def groups(self) -> list[dict]:
        """Parameter groups for the optimiser."""
        groups = [{"params": list(self.network.parameters()), "lr": self.params.learning_rate}]
        if self.params.learn_beta:
            groups.append(
                {"params": list(self.schedule.parameters()), "lr": self.params.beta_learning_rate}
            )
        return groups

    def objective(self, generator: torch.Generator) -> Tensor:
        """One draw of K, nats: fresh points, each with frozen noise of its own at every t (2.4.1)."""
        kernel = self.kernel()
        x0 = self.law.sample(self.params.batch, generator)
        t = torch.arange(2, kernel.T + 1)
        kl = kl_terms(kernel, self.reverse(kernel), x0.expand(len(t), *x0.shape), t, generator)
        return entropy_terms(kernel, x0).mean() - kl.sum(0).mean()

    @torch.no_grad()
    def score(self) -> float:
        """K in nats on points of its own, the same at each call, by which starts are compared."""
        random = torch.Generator().manual_seed(self.params.seed)
        kernel = self.kernel()
        return full_bound(kernel, self.reverse(kernel), self.law.sample(4000, random), random).K


class HeartbeatModel(Model):
    """The heartbeat's law, schedule and MLP, from its parameters."""

    defaults: ClassVar[dict[str, Any]] = {
        "n_steps": 2000,  # T
        "pi": 0.2,  # rate of ones in π
        "hidden": 50,  # sigmoid units a layer
        "layers": 3,
        "knots": 32,  # of the part of the readouts that neighbouring t share while training
        "train_steps": 5000,
        "batch_t": 250,  # steps t in a training step, stratified over 2..T
        "batch": 32,  # sequences for each of them
        "small_t": 0.3,  # part of the draws of t in proportion to 1/t, the rest uniform
        "learning_rate": 0.04,
        "seed": 0,
    }
    network: MLPNetwork

    def __init__(self, **settings):
        super().__init__()
        self.params = params = completed(self.defaults, settings)
        self.law = Heartbeat()
        self.schedule = FixedSchedule(schedule("inverse", params.n_steps))
        self._kernel = BinomialKernel(self.schedule(), params.pi)
        # At small t flips are rare and cost most: part of the draws of t go there, in proportion to
        # 1/t.
        inverse = 1 / torch.arange(2, params.n_steps + 1, dtype=torch.float64)
        self._proposal = (1 - params.small_t) / len(
            inverse
        ) + params.small_t * inverse / inverse.sum()
        self._cumulative = torch.cumsum(self._proposal, 0)
        generator = torch.Generator().manual_seed(params.seed)
        data = self.law.sample(TRAINING_SEQUENCES, generator).float()
        self._sequences, counts = torch.unique(data, dim=0, return_counts=True)
        self._log_share = torch.log(counts / len(data))
        # Rate and entropy of q(x_i^{t−1}|x_i^t, x_i^0): (x_i^t, x_i^0, rate or entropy, t).
        steps, bits_ = (
            torch.arange(2, params.n_steps + 1),
            torch.tensor([0.0, 1.0], dtype=torch.float64),
        )
        self._posteriors = torch.zeros(2, 2, 2, params.n_steps + 1)
        for now, then in itertools.product((0, 1), repeat=2):
            xt, x0 = (bits_[i].expand(len(steps), 1) for i in (now, then))
            rate = self._kernel.q_posterior(x0, xt, steps).rate[:, 0]
            self._posteriors[now, then, :, 2:] = torch.stack(
                [rate, torch.special.entr(rate) + torch.special.entr(1 - rate)]
            )
        self.network = MLPNetwork(
            self._kernel, self.law.dim, params.hidden, params.layers, params.knots, generator
        )

    def kernel(self) -> BinomialKernel:
        return self._kernel

    def groups(self) -> list[dict]:
        """Parameter groups for the optimiser: the shared layers and the part of the readouts that
        neighbours share.
        """
        trained = [*self.network.layers.parameters(), self.network.readout.shared]
        return [{"params": trained, "lr": self.params.learning_rate}]

    def objective(self, generator: torch.Generator) -> Tensor:
        """One draw of K, nats: steps t by systematic sampling from ``proposal``, training sequences
        diffused afresh for each.

        The divergence at each x^t is averaged over which training sequence x^0 it came from, with
        the weights q(x^0|x^t), instead of keeping the one that it did come from: the same
        expectation with less noise (Rao and Blackwell).
        """
        kernel, p = self._kernel, self.params
        u = (torch.arange(p.batch_t) + torch.rand(p.batch_t, generator=generator)) / p.batch_t
        t = torch.searchsorted(self._cumulative, u.double()).clamp(max=kernel.T - 2) + 2
        which = torch.multinomial(
            self._log_share.exp(), p.batch_t * p.batch, replacement=True, generator=generator
        )
        x0 = self._sequences[which].reshape(p.batch_t, p.batch, self.law.dim)
        xt = kernel.sample(kernel.q_marginal(x0, t), generator)
        on = self._posterior_rate(xt, t)
        target, entropy = torch.zeros_like(xt), torch.zeros_like(xt)
        for bit, share in ((0, 1 - on), (1, on)):
            at_zero, at_one = self._posteriors[
                :, bit, :, t, None, None
            ]  # rate and entropy of q(x_i^{t−1}|x_i^t, x_i^0 = bit)
            rate, its_entropy = at_zero + xt * (at_one - at_zero)
            target, entropy = target + share * rate, entropy + share * its_entropy
        logit = self.network(kernel, xt, t).logit
        kl = kernel.sum_event(
            F.binary_cross_entropy_with_logits(logit, target, reduction="none") - entropy
        )
        return entropy_terms(kernel, x0[0]).mean() - (kl.mean(1) / self._proposal[t - 2]).mean()

    def _posterior_rate(self, xt: Tensor, t: Tensor) -> Tensor:
        """q(x_i^0 = 1|x^t) for every bit, x^0 being one of the training sequences: (b, n, dim) bits
        to (b, n, dim).
        """
        each = self._sequences.expand(len(t), *self._sequences.shape)
        logit = self._kernel.q_marginal(
            each, t
        ).logit  # log q(x^t|x^0) is linear in the bits of x^t
        log_likelihood = xt @ logit.mT + F.logsigmoid(-logit).sum(-1)[:, None]
        return torch.softmax(log_likelihood + self._log_share, -1) @ self._sequences

    def finish(self) -> None:
        """Fold the shared part of the readouts into the readouts."""
        self.network.readout.fold()
