"""The image experiments' model: data constants, schedule and network, from their parameters, and
one draw of its bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from nonequilibrium.bound.bound import bits, entropy_terms, kl_terms, sampled_bound
from nonequilibrium.bound.proposals import in_proportion, proposal_from
from nonequilibrium.data.images import ImageSet, Scale
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.schedules import FixedSchedule, LearnedSchedule, schedule
from nonequilibrium.diffusion.thinning import even, thin
from nonequilibrium.errors import ParameterError
from nonequilibrium.model.model import Model
from nonequilibrium.network.image import ImageNetwork, SplitNetwork
from nonequilibrium.network.precision import is_dense, loses_digits
from nonequilibrium.network.unet import UNet
from nonequilibrium.settings import completed
from nonequilibrium.training.batched import BatchedSOAP
from nonequilibrium.training.distributed import gathered, of_batch, rows, world
from nonequilibrium.training.fit import Ascent, Watch
from nonequilibrium.training.optimiser import SOAP

OPTIMISERS: dict[str, Callable] = {
    "adam": partial(torch.optim.Adam, betas=(0.9, 0.99)),
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.99),
    "soap": SOAP,
    "batched_soap": BatchedSOAP,
}
VALIDATION = 1000  # training images set aside to watch training with
SHAPES = {
    "mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "digits": (1, 8, 8),
    "photographs": (3, 32, 32),
}


class ImageModel(Model):
    """An image data set's constants, schedule and network, from its parameters.

    images: what to train on; not needed for a model whose weights are loaded. The constants that
    scale the data are part of the weights. settings: those of ``defaults``, and those of the
    network: a ``UNet`` where they name ``levels``, a ``SplitNetwork`` where they name ``split``,
    the paper's ``ImageNetwork`` otherwise.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "data": "mnist",  # a key of ``SHAPES``
        "n_steps": 1000,  # T
        "schedule": "even_log_snr",  # or "reference", or "learned"
        "beta_1": 1e-6,
        "alpha_bar_T": 1e-4,
        "mean": "velocity",  # how z^μ and z^Σ give μ and Σ
        "precision": "bfloat16",  # of the dense layers and the convolutions after the first, in training
        "flip": False,  # train on mirror images too
        "train_steps": 10_000,
        "batch": 32,  # images a training step, one t each
        "optimiser": "soap",
        "learning_rate": 6e-3,
        "dense_learning_rate": 1e-3,  # of the dense path, whose layers are wide
        "emphasis": 0.0,  # of large noise in training
        "ema": 0.999,  # decay of the average of the weights that is kept
        "stored_in": "float32",  # on disk, weights that may lose digits
        "seed": 0,
    }
    params: SimpleNamespace
    network: UNet | SplitNetwork | ImageNetwork
    images: Tensor | None  # the training images, uint8
    validation: Tensor  # those that were set aside
    constants: Tensor
    square: Tensor

    def __init__(self, images: ImageSet | None = None, **settings):
        super().__init__()
        network = (
            UNet if "levels" in settings else SplitNetwork if "split" in settings else ImageNetwork
        )
        self.params = params = completed(network.defaults | self.defaults, settings)
        self.images = None
        self._fixed: tuple[Tensor, int, GaussianKernel] | None = (
            None  # a fixed schedule, its version, and its kernel
        )
        options: dict = (
            {}
            if params.schedule == "reference"
            else {"beta_1": params.beta_1, "alpha_bar_T": params.alpha_bar_T}
        )
        name = "even_log_snr" if params.schedule == "learned" else params.schedule
        beta = schedule(name, params.n_steps, **options)
        self.schedule = (
            LearnedSchedule(beta) if params.schedule == "learned" else FixedSchedule(beta)
        )
        shape = self.shape
        self.register_buffer("constants", torch.zeros(2, dtype=torch.float64))
        # Mean square of KL_t as seen in training, by which the next steps t are drawn: many terms
        # are small, few large.
        self.register_buffer("square", torch.ones(params.n_steps + 1, dtype=torch.float64))
        self.square[:2] = 0
        generator = torch.Generator().manual_seed(params.seed)
        pixels = torch.zeros(1, shape[0])
        if images is not None:
            pixels = self.take(images, generator).movedim(1, -1).reshape(-1, shape[0])
        sizes = {name: getattr(params, name) for name in network.defaults}
        if network is UNet:
            self.network = UNet(shape, generator, self.constants, **sizes)
        else:
            self.network = network(shape, pixels, generator, **sizes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the network is trained on."""
        if self.params.data not in SHAPES:
            raise ParameterError(
                f"data is {self.params.data!r}; it must be one of {', '.join(SHAPES)}"
            )
        return SHAPES[self.params.data]

    def take(self, images: ImageSet, generator: torch.Generator) -> Tensor:
        """Keep the images to train on, set some aside, and return x^0 of a few of them, (n, c, h,
        w).
        """
        self.constants.copy_(torch.tensor(Scale.of(images.train)))
        self.images = (
            images.train[:-VALIDATION] if len(images.train) > 10 * VALIDATION else images.train
        )
        self.validation = images.train[-VALIDATION:]
        some = self.images[torch.randint(len(self.images), (2000,), generator=generator)]
        return self.x0(some, generator)

    def x0(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """x^0 of stored images (n, c, h, w): with the noise that makes them continuous, shifted and
        scaled.
        """
        return Scale(*cast(Any, self.constants)).dequantise(
            images, generator
        )  # tensors, for which no GPU is waited

    @property
    def scale(self) -> Scale:
        """The constants of the training set, stored with the weights."""
        return Scale(*self.constants.tolist())

    def kernel(self) -> GaussianKernel:
        beta = self.schedule()
        if isinstance(self.schedule, LearnedSchedule):
            return GaussianKernel(beta, event_dim=3)
        if self._fixed is None or self._fixed[0] is not beta or self._fixed[1] != beta._version:
            self._fixed = beta, beta._version, GaussianKernel(beta, event_dim=3)
        return self._fixed[2]

    def groups(self) -> list[dict]:
        """Parameter groups for the optimiser."""
        named = list(self.network.named_parameters())
        dense = [p for name, p in named if is_dense(name)]
        groups = [
            {
                "params": [p for name, p in named if not is_dense(name)],
                "lr": self.params.learning_rate,
            }
        ]
        if dense:
            groups.append({"params": dense, "lr": self.params.dense_learning_rate})
        if self.params.schedule == "learned":
            groups.append(
                {"params": list(self.schedule.parameters()), "lr": self.params.learning_rate}
            )
        return groups

    def proposal(self, floor: float = 0.1) -> Tensor:
        """Weights by which t is drawn, (T + 1,): what training saw of KL_t serves as the pilot run."""
        return proposal_from(self.square, floor)

    def training_weights(self, kernel: GaussianKernel) -> tuple[Tensor, Tensor]:
        """How often KL_t counts in training, and weights by which its t are drawn: two (T + 1,)
        tensors.

        It counts once, so that K is maximised, or ᾱ_t^−emphasis times. Where there are two networks
        each gets half of the draws.
        """
        counts = kernel.alpha_bar.detach() ** -self.params.emphasis
        proposal = in_proportion(self.square * counts**2, floor=0.3)
        if isinstance(self.network, SplitNetwork) and self.network.is_split:
            above = self.network.above(kernel)
            if 0 < proposal[above].sum() < 1:
                for part in (above, ~above):
                    proposal[part] *= 0.5 / proposal[part].sum()
        return counts, proposal

    def drawn(self, generator: torch.Generator) -> Tensor:
        """Stored images for one training step, (params.batch, c, h, w)."""
        if self.images is None:
            raise ValueError("the model has no images to train on")
        drawn = torch.randint(len(self.images), (self.params.batch,), generator=generator)
        return self.images[drawn.to(self.images.device, non_blocking=True)]

    def batch(self, generator: torch.Generator) -> Tensor:
        """The same, half of them mirrored where params.flip."""
        batch = self.drawn(generator)
        if self.params.flip:
            mirrored = torch.nonzero(torch.rand(len(batch), generator=generator) < 0.5)[:, 0]
            mirrored = mirrored.to(batch.device, non_blocking=True)
            batch[mirrored] = batch[mirrored].flip(-1)
        return batch

    def objective(self, generator: torch.Generator) -> Tensor:
        """One draw of what training maximises, nats per image: K, but that large noise may count
        more.
        """
        return self.estimate(*self.draws(generator))

    def draws(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """All that is random in it: x^0 of a batch, noise like it, and (batch,) numbers that say
        which t. No GPU is waited for.
        """
        p, device = self.params, self.constants.device
        batch = self.batch(generator).to(device, non_blocking=True)
        u = (torch.arange(p.batch) + torch.rand(p.batch, generator=generator).double()) / p.batch
        # Noise on the device that uses it: seeded by the one generator, so that a run is
        # reproducible on its machine.
        noise = torch.Generator(device).manual_seed(
            int(torch.randint(2**62, (), generator=generator))
        )
        x0 = self.x0(batch, noise)
        return (
            x0,
            torch.randn(x0.shape, generator=noise, device=device),
            u.to(device, non_blocking=True),
        )

    def estimate(self, x0: Tensor, frozen: Tensor, u: Tensor) -> Tensor:
        """K from these draws, nats per image: one step t an image, stratified over the batch."""
        p, kernel = self.params, self.kernel()
        counts, proposal = self.training_weights(kernel)
        t = torch.searchsorted(torch.cumsum(proposal, 0), u, right=True).clamp(2, p.n_steps)
        # Several processes draw the same batch, steps and noise; the network sees the rows that are
        # this one's.
        own = rows()
        kl = kl_terms(kernel, self.reverse(kernel), x0[own], t[own], noise=frozen[own])
        self._learn_proposal(t, gathered(kl.detach(), p.batch))
        weight = (counts / proposal)[t[own]]
        value = entropy_terms(kernel, x0[own]).mean() - (kl * weight.to(kl.dtype)).mean()
        return of_batch(value, len(kl) / p.batch)

    @torch.no_grad()
    def _learn_proposal(self, t: Tensor, kl: Tensor, width: int = 10) -> None:
        """Move ``square`` towards the KL² just seen, shared among ``width`` neighbours of t."""
        near = (t[:, None] + torch.arange(-width, width + 1, device=t.device)).clamp(
            2, self.params.n_steps
        )
        seen = kl.double().square()[:, None].expand(-1, near.shape[1]).reshape(-1)
        near = near.reshape(-1)
        total, count = torch.zeros_like(self.square), torch.zeros_like(self.square)
        total.index_add_(0, near, seen)
        count.index_add_(0, near, torch.ones_like(seen))
        moved = torch.lerp(self.square, total / count, 0.05)
        self.square.copy_(torch.where(count > 0, moved, self.square))

    def validate(self, n: int = 300, draws: int = 8) -> float:
        """K in bits per pixel on ``n`` training images that were set aside; the same noise at each
        call.
        """
        generator = torch.Generator(self.constants.device).manual_seed(1)
        x0 = self.x0(self.validation[:n].to(self.constants.device), generator)
        with torch.no_grad():
            kernel = self.kernel()
        bound = sampled_bound(
            kernel,
            self.reverse(kernel),
            x0,
            torch.Generator().manual_seed(2),
            draws,
            self.proposal().cpu(),
            block=100,
        )
        return bits(bound.K) / self.pixels

    @property
    def pixels(self) -> int:
        """Pixels of an image; a pixel is all its channels."""
        return math.prod(self.network.shape[1:])

    def thinned(self, n_steps: int) -> tuple[GaussianKernel, Reverse[Normal]]:
        """A chain of ``n_steps`` of the T steps, evenly spaced, with this model's network: (kernel,
        reverse).

        The noise levels are kept and the steps between them are longer, see
        ``diffusion.thinning.thin``. It is a model of its own, whose bound can be measured: a faster
        and somewhat worse one. With n_steps = T it is this model.
        """
        T = self.params.n_steps
        if not 2 <= n_steps <= T:
            raise ValueError(
                f"n_steps is {n_steps}; a chain of T = {T} steps can be thinned to 2..{T}"
            )
        with torch.no_grad():
            full = self.kernel()
        if n_steps == T:
            return full, self.reverse(full)
        return thin(full, self.reverse(full), even(T, n_steps))

    def finish(self) -> None:
        """Round the weights to what they are stored in, so that they are measured as they will be
        read.
        """
        self.load_state_dict(self.stored())

    def stored(self) -> dict[str, Tensor]:
        """The state as it is written to disk: in half precision, where params.stored_in says so,
        what ``loses_digits``.
        """
        state = super().stored()
        if self.params.stored_in == "float32":
            return state
        unet = isinstance(self.network, UNet)
        return {
            name: value.half() if loses_digits(name, unet) else value
            for name, value in state.items()
        }

    @property
    def recordable(self) -> bool:
        """Whether a training step does the same operations whatever is drawn, so that a GPU can
        record it once and replay it.
        """
        split = isinstance(self.network, SplitNetwork) and self.network.is_split
        same = isinstance(self.schedule, FixedSchedule) and not split
        return same and self.params.optimiser != "soap" and world() == 1

    def fit_options(self) -> dict[str, Any]:
        """How ``training.fit`` is to train it: warm-up, average of the weights, a bound to watch."""
        pixels = float(math.prod(self.network.shape))  # gradients are those of nats per image
        recorded = (self.draws, self.estimate) if self.recordable else None
        average, optimiser = (self.network, self.params.ema), OPTIMISERS[self.params.optimiser]
        ascent = Ascent(optimiser, 100, pixels, average, recorded)
        return {
            "ascent": ascent,
            "watch": Watch(unit=(self.pixels, "bits/pixel"), monitor=self.validate),
        }
