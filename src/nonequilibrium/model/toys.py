"""The models of the toys: points of any law by the swiss roll's network, and the heartbeat."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from nonequilibrium.bound.bound import entropy_terms, full_bound, kl_terms
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import FixedSchedule, LearnedSchedule, schedule
from nonequilibrium.model.model import Model
from nonequilibrium.network.toys import MLPNetwork, RBFNetwork

TRAINING_SEQUENCES = 200_000  # of the heartbeat, so many that the offsets are equally frequent


class PointsModel(Model):
    """A law of points, in coordinates of unit variance; ``start`` numbers other initial centres.
    law: from σ to an object with a ``dim`` and ``sample(n, generator)``, (n, dim) float64.
    """

    defaults = (
        {"noise": 1e-3, "n_steps": 40, "beta_1": 1e-6, "alpha_bar_T": 0.03, "learn_beta": True}
        | {"starts": 1, "start_steps": 1500}  # short trainings of which the best goes on
        | {"train_steps": 15_000, "batch": 128, "learning_rate": 0.02, "seed": 0}
        | {"beta_learning_rate": 0.1}  # of logit β_t
    )

    def __init__(self, start: int = 0, *, law: Callable[[float], Any] = SwissRoll, **settings):
        super().__init__(RBFNetwork, settings)
        p, self.law = self.params, law(self.params.noise)
        beta = schedule("even_log_snr", p.n_steps, beta_1=p.beta_1, alpha_bar_T=p.alpha_bar_T)
        self.schedule = (LearnedSchedule if p.learn_beta else FixedSchedule)(beta)
        generator = Generator().manual_seed(p.seed + 1_000_003 * start)
        self.network = RBFNetwork(self.kernel(), self.law, generator, **self.sizes)

    def kernel(self) -> GaussianKernel:
        return GaussianKernel(self.schedule())

    def groups(self) -> list[dict]:
        groups = [{"params": list(self.network.parameters()), "lr": self.params.learning_rate}]
        beta = {"params": list(self.schedule.parameters()), "lr": self.params.beta_learning_rate}
        return [*groups, beta] if self.params.learn_beta else groups

    def objective(self, generator: Generator) -> Tensor:
        """One draw of K, nats: fresh points, each with frozen noise at every t (2.4.1)."""
        kernel = self.kernel()
        x0 = self.law.sample(self.params.batch, generator)
        t = torch.arange(2, kernel.T + 1)
        kl = kl_terms(kernel, self.reverse(kernel), x0.expand(len(t), *x0.shape), t, generator)
        return entropy_terms(kernel, x0).mean() - kl.sum(0).mean()

    @torch.no_grad()
    def score(self) -> float:
        """K in nats on held-out points, the same at each call, by which starts are compared."""
        random = Generator().manual_seed(self.params.seed)
        kernel = self.kernel()
        return full_bound(kernel, self.reverse(kernel), self.law.sample(4000, random), random).K


class HeartbeatModel(Model):
    """The heartbeat's law, schedule and network."""

    defaults = (
        {"n_steps": 2000, "pi": 0.2}  # T and the rate of ones in π
        | {"train_steps": 5000, "batch_t": 250, "batch": 32}  # steps t, and sequences per t
        | {"small_t": 0.3}  # part of the draws of t in proportion to 1/t, the rest uniform
        | {"learning_rate": 0.04, "seed": 0}
    )

    def __init__(self, **settings):
        super().__init__(MLPNetwork, settings)
        p, self.law = self.params, Heartbeat()
        self.schedule = FixedSchedule(schedule("inverse", p.n_steps))
        self._kernel = kernel = BinomialKernel(self.schedule(), p.pi)
        t = torch.arange(2, p.n_steps + 1)
        inverse = 1 / t.double()  # at small t flips are rare and cost most
        self._proposal = (1 - p.small_t) / len(t) + p.small_t * inverse / inverse.sum()
        generator = Generator().manual_seed(p.seed)
        data = self.law.sample(TRAINING_SEQUENCES, generator).float()
        self._sequences, counts = torch.unique(data, dim=0, return_counts=True)
        self._log_share = torch.log(counts / len(data))
        # Rate and entropy of q(x_i^{t−1}|x_i^t, x_i^0): (x_i^t, x_i^0, rate or entropy, t − 2).
        xt = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(len(t), 2)
        posteriors = [kernel.q_posterior(torch.full_like(xt, x0), xt, t) for x0 in (0.0, 1.0)]
        rate = torch.stack([posterior.rate for posterior in posteriors])
        entropy = torch.special.entr(rate) + torch.special.entr(1 - rate)
        self._posteriors = torch.stack([rate, entropy]).permute(3, 1, 0, 2).float()
        self.network = MLPNetwork(kernel, self.law.dim, generator, **self.sizes)

    def kernel(self) -> BinomialKernel:
        return self._kernel

    def groups(self) -> list[dict]:
        trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        return [{"params": trained, "lr": self.params.learning_rate}]

    def objective(self, generator: Generator) -> Tensor:
        """One draw of K, nats: steps t by systematic sampling, training sequences diffused afresh,
        and KL_t averaged over all x^0, weighted by q(x^0|x^t), for less noise (Rao and Blackwell).
        """
        kernel, p, sequences = self._kernel, self.params, self._sequences
        u = (torch.arange(p.batch_t) + torch.rand(p.batch_t, generator=generator)) / p.batch_t
        index = torch.searchsorted(self._proposal.cumsum(0), u.double()).clamp(max=kernel.T - 2)
        t, n, share = index + 2, p.batch_t * p.batch, self._log_share.exp()
        which = torch.multinomial(share, n, replacement=True, generator=generator)
        x0 = sequences[which].reshape(p.batch_t, p.batch, self.law.dim)
        xt = kernel.sample(kernel.q_marginal(x0, t), generator)
        # log q(x^t|x^0) is linear in the bits of x^t.
        logit = kernel.q_marginal(sequences.expand(len(t), *sequences.shape), t).logit
        log_likelihood = xt @ logit.mT + F.logsigmoid(-logit).sum(-1)[:, None]
        on = torch.softmax(log_likelihood + self._log_share, -1) @ sequences  # q(x_i^0 = 1|x^t)
        target, entropy = torch.zeros_like(xt), torch.zeros_like(xt)
        for bit, weight in enumerate((1 - on, on)):
            at_zero, at_one = self._posteriors[:, bit, :, index, None, None]
            of_rate, of_entropy = at_zero + xt * (at_one - at_zero)
            target, entropy = target + weight * of_rate, entropy + weight * of_entropy
        f_b = self.network(kernel, xt, t).logit
        cross_entropy = F.binary_cross_entropy_with_logits(f_b, target, reduction="none")
        kl = kernel.sum_event(cross_entropy - entropy)
        return entropy_terms(kernel, x0[0]).mean() - (kl.mean(1) / self._proposal[index]).mean()

    def finish(self) -> None:
        """Fold the shared part of the readouts into the readouts."""
        self.network.readout.fold()
