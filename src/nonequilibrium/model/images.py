"""The model of the image experiments: data constants, schedule and network, and a draw of K."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from nonequilibrium.bound.bound import bits, entropy_terms, kl_terms, sampled_bound
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.data.images import ImageSet, Scale
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.schedules import FixedSchedule, LearnedSchedule, schedule
from nonequilibrium.diffusion.thinning import even, thin
from nonequilibrium.distributed import gathered, of_batch, rows, world
from nonequilibrium.model.model import Model
from nonequilibrium.network.image import ImageNetwork, SplitNetwork
from nonequilibrium.network.precision import is_dense, loses_digits
from nonequilibrium.network.unet import UNet
from nonequilibrium.settings import chosen
from nonequilibrium.training.fit import Ascent, Watch
from nonequilibrium.training.optimiser import SOAP, BatchedSOAP

OPTIMISERS: dict[str, Callable] = {"soap": SOAP, "batched_soap": BatchedSOAP} | {
    "adam": partial(torch.optim.Adam, betas=(0.9, 0.99)),
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.9),  # as in the authors' program
}
VALIDATION = 1000  # training images set aside to watch training with
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "digits": (1, 8, 8)}
SHAPES["photographs"] = SHAPES["cifar10"]


class ImageModel(Model):
    """Its network is a ``UNet`` where the settings name ``levels``, a ``SplitNetwork`` where they
    name ``split``, else the paper's ``ImageNetwork``. images: only to train on.
    """

    defaults = (
        {"data": "mnist", "schedule": "even_log_snr", "n_steps": 1000}
        | {"beta_1": 1e-6, "alpha_bar_T": 1e-4}
        | {"train_steps": 10_000, "batch": 32, "flip": False, "optimiser": "soap", "seed": 0}
        | {"learning_rate": 6e-3, "dense_learning_rate": 1e-3, "ema": 0.999}
        | {"emphasis": 0.0}  # of large noise: KL_t is weighted by ᾱ_t^−emphasis in training
        | {"stored_in": "float32"}  # on disk, weights that may lose digits
    )
    constants: Tensor
    square: Tensor

    def __init__(self, images: ImageSet | None = None, **settings):
        split = SplitNetwork if "split" in settings else ImageNetwork
        network: Any = UNet if "levels" in settings else split
        super().__init__(network, settings)
        p, learned = self.params, self.params.schedule == "learned"
        ends = {"beta_1": p.beta_1, "alpha_bar_T": p.alpha_bar_T}
        name = "even_log_snr" if learned else p.schedule
        beta = schedule(name, p.n_steps, **({} if name == "reference" else ends))
        self.schedule = (LearnedSchedule if learned else FixedSchedule)(beta)
        self._fixed: Any = None, 0, None  # a fixed schedule, its version and its kernel
        self.images: Any = None  # to train on, uint8
        self.register_buffer("constants", torch.zeros(2, dtype=torch.float64))
        # Mean square of KL_t in training, by which the next t are drawn: few terms are large.
        self.register_buffer("square", (torch.arange(p.n_steps + 1) >= 2).double())
        generator, channels = Generator().manual_seed(p.seed), self.shape[0]
        x0 = torch.zeros(1, channels, 1, 1) if images is None else self.take(images, generator)
        given = self.constants if network is UNet else x0.movedim(1, -1).reshape(-1, channels)
        self.network = network(self.shape, generator, given, **self.sizes)
        self._is_split = getattr(self.network, "is_split", False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the network is trained on."""
        return chosen("data", self.params.data, SHAPES)

    @property
    def pixels(self) -> int:
        """Pixels of an image; a pixel is all its channels."""
        return math.prod(self.network.shape[1:])

    @property
    def scale(self) -> Scale:
        """The constants of the training set, stored with the weights."""
        return Scale(*self.constants.tolist())

    def take(self, images: ImageSet, generator: Generator) -> Tensor:
        """Keep the images to train on, set some aside, and return x^0 of a few, (n, c, h, w)."""
        self.constants.copy_(torch.tensor(Scale.of(images.train)))
        aside = len(images.train) > 10 * VALIDATION
        self.images = images.train[:-VALIDATION] if aside else images.train
        self.validation = images.train[-VALIDATION:]
        some = self.images[torch.randint(len(self.images), (2000,), generator=generator)]
        return self.x0(some, generator)

    def x0(self, images: Tensor, generator: Generator) -> Tensor:
        """x^0 of stored images (n, c, h, w): with noise, shifted and scaled."""
        constants: Any = self.constants  # as tensors, for which no GPU is waited
        return Scale(*constants).dequantise(images, generator)

    def kernel(self) -> GaussianKernel:
        beta = self.schedule()
        if isinstance(self.schedule, LearnedSchedule):
            return GaussianKernel(beta, event_dim=3)
        if self._fixed[0] is not beta or self._fixed[1] != beta._version:
            self._fixed = beta, beta._version, GaussianKernel(beta, event_dim=3)
        return self._fixed[2]

    def groups(self) -> list[dict]:
        named, rate = list(self.network.named_parameters()), self.params.learning_rate
        parts = [
            ([weight for name, weight in named if not is_dense(name)], rate),
            ([weight for name, weight in named if is_dense(name)], self.params.dense_learning_rate),
            (list(self.schedule.parameters()), rate),
        ]
        return [{"params": weights, "lr": rate} for weights, rate in parts if weights]

    def proposal(self, floor: float = 0.1) -> Tensor:
        """Weights by which t is drawn, (T + 1,), with the KL_t of training as the pilot run."""
        return proposal_from(self.square, floor)

    def training_weights(self, kernel: GaussianKernel) -> tuple[Tensor, Tensor]:
        """Weights of KL_t in training, and of the draws of t, half of them for each network."""
        weights = kernel.alpha_bar.detach() ** -self.params.emphasis
        proposal = proposal_from(self.square * weights**2, floor=0.3)
        if self._is_split:
            above = self.network.above(kernel)
            if 0 < proposal[above].sum() < 1:
                for part in (above, ~above):
                    proposal[part] *= 0.5 / proposal[part].sum()
        return weights, proposal

    def drawn(self, generator: Generator) -> Tensor:
        """Stored images for one training step, (params.batch, c, h, w)."""
        drawn = torch.randint(len(self.images), (self.params.batch,), generator=generator)
        return self.images[drawn.to(self.images.device, non_blocking=True)]

    def objective(self, generator: Generator) -> Tensor:
        """One draw of what training maximises, nats per image: K, but for ``emphasis``."""
        return self.estimate(*self.draws(generator))

    def draws(self, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """x^0 of a batch, noise like it, and (batch,) numbers that choose t. No GPU is awaited."""
        p, device, batch = self.params, self.constants.device, self.drawn(generator)
        if p.flip:
            some = torch.nonzero(torch.rand(p.batch, generator=generator) < 0.5)[:, 0]
            some = some.to(batch.device, non_blocking=True)
            batch[some] = batch[some].flip(-1)
        u = (torch.arange(p.batch) + torch.rand(p.batch, generator=generator).double()) / p.batch
        random = Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        x0 = self.x0(batch.to(device, non_blocking=True), random)
        noise = torch.randn(x0.shape, generator=random, device=device)
        return x0, noise, u.to(device, non_blocking=True)

    def estimate(self, x0: Tensor, noise: Tensor, u: Tensor) -> Tensor:
        """K from these draws, nats per image: one t per image, stratified over the batch."""
        p, kernel = self.params, self.kernel()
        weights, proposal = self.training_weights(kernel)
        t = torch.searchsorted(torch.cumsum(proposal, 0), u, right=True).clamp(2, p.n_steps)
        own = rows()  # several processes have the same draws, and each computes its rows
        kl = kl_terms(kernel, self.reverse(kernel), x0[own], t[own], noise=noise[own])
        # The proposal learns: squares move towards the KL² just seen, shared among neighbours of t.
        near = (t[:, None] + torch.arange(-10, 11, device=t.device)).clamp(2, p.n_steps)
        seen = gathered(kl.detach(), p.batch).double().square()[:, None].expand_as(near)
        mean = (near.flatten(), seen.flatten(), "mean")
        self.square.lerp_(self.square.scatter_reduce(0, *mean, include_self=False), 0.05)
        weight = (weights / proposal)[t[own]]
        value = entropy_terms(kernel, x0[own]).mean() - (kl * weight.to(kl.dtype)).mean()
        return of_batch(value, len(kl) / p.batch)

    def validate(self, n: int = 300, draws: int = 8) -> float:
        """K in bits per pixel of images that were set aside, with the same noise at each call."""
        generator = Generator(self.constants.device).manual_seed(1)
        x0 = self.x0(self.validation[:n].to(self.constants.device), generator)
        kernel, reverse = self.thinned(self.params.n_steps)
        random, proposal = Generator().manual_seed(2), self.proposal().cpu()
        bound = sampled_bound(kernel, reverse, x0, random, draws, proposal, block=100)
        return bits(bound.K) / self.pixels

    def thinned(self, n_steps: int) -> tuple[GaussianKernel, Reverse[Normal]]:
        """(kernel, reverse) of ``n_steps`` evenly spaced ones of the T steps, see ``thin``."""
        with torch.no_grad():
            kernel = self.kernel()
        whole = kernel, self.reverse(kernel)
        return whole if n_steps == kernel.T else thin(*whole, even(kernel.T, n_steps))

    def finish(self) -> None:
        """Round the weights to what is stored, so that they are measured as they will be read."""
        self.load_state_dict(self.stored())

    def stored(self) -> dict[str, Tensor]:
        state, unet = super().stored(), isinstance(self.network, UNet)
        half = self.params.stored_in == "float16"
        return {n: v.half() if half and loses_digits(n, unet) else v for n, v in state.items()}

    @property
    def recordable(self) -> bool:
        """Whether every training step does the same operations, so that a GPU can replay one."""
        same = isinstance(self.schedule, FixedSchedule) and not self._is_split
        return same and self.params.optimiser != "soap" and world() == 1

    def fit_options(self) -> dict[str, Any]:
        optimiser = chosen("optimiser", self.params.optimiser, OPTIMISERS)
        pixels = float(math.prod(self.network.shape))  # a gradient is that of nats per image
        recorded = (self.draws, self.estimate) if self.recordable else None
        ascent = Ascent(optimiser, 100, pixels, (self.network, self.params.ema), recorded)
        watch = Watch(unit=(self.pixels, "bits/pixel"), monitor=self.validate)
        return {"ascent": ascent, "watch": watch}
