"""What the estimators of K refuse before any work: input of which the figure would be no bound."""

from numbers import Integral

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Kernel, P, Reverse
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.errors import BoundError

REAL = (torch.float32, torch.float64)


def check_examples(kernel: Kernel, x0: Tensor, least: int = 2) -> Tensor:
    """x0 (n, event), n ≥ ``least``, as data of this chain; bits of any dtype become real."""
    data, shape = "the held-out data", tuple(getattr(x0, "shape", ()))
    fits = isinstance(x0, Tensor) and len(shape) == kernel.event_dim + 1 and 0 not in shape
    if not fits or shape[0] < least:
        wanted = f"a tensor of at least {least} examples with {kernel.event_dim} axes each"
        raise BoundError(f"{data} is a {type(x0).__name__} of shape {shape}; it must be {wanted}")
    if not torch.isfinite(x0).all():
        raise BoundError(f"{data} holds NaN or infinite values; every value must be finite")
    binomial, real = isinstance(kernel, BinomialKernel), x0.dtype in REAL
    if binomial and not ((x0 == 0) | (x0 == 1)).all():  # all terms are linear in the bits
        between = f"from {x0.min().item():g} to {x0.max().item():g}"
        raise BoundError(f"{data} has values {between}; the binomial chain takes bits, 0 or 1")
    if not binomial and not real:  # a density of grey levels tells how fine their grid is
        wanted = "float32 or float64; grey levels need uniform noise of one level first"
        raise BoundError(f"{data} has dtype {x0.dtype}; the Gaussian chain takes {wanted}")
    return x0 if real else x0.double()


def check_count(name: str, value, least: int = 1) -> int:
    """``value``, which must be a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise BoundError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return int(value)


def noise_generator(generator, device: torch.device) -> torch.Generator:
    """The generator for data on the CPU, where t is drawn; one seeded by it for other devices."""
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise BoundError(f"the generator is {generator!r}; it must be a torch.Generator of the CPU")
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def _by_step(kernel: Kernel, name: str, values) -> Tensor:
    """``values`` as (T + 1,) float64 on the CPU, finite and zero at t < 2."""
    values = torch.as_tensor(values).detach().double().cpu()
    fits = values.shape == (kernel.T + 1,) and not values[:2].any()
    if not fits or not torch.isfinite(values).all():
        wanted = f"{kernel.T + 1} finite values, zero at t < 2"
        raise BoundError(f"{name} has shape {tuple(values.shape)}; it must hold {wanted}")
    return values


def check_proposal(kernel: Kernel, proposal) -> tuple[Tensor, Tensor]:
    """Weights by which t is drawn, of sum one, and about what KL_t is: (T + 1,) float64 each."""
    after = (torch.arange(kernel.T + 1) >= 2).double()
    weight, typical = proposal if isinstance(proposal, tuple) else (proposal, 0 * after)
    weight = _by_step(kernel, "the proposal", after if weight is None else weight)
    if not (weight[2:] > 0).all():
        raise BoundError("the proposal is not positive at some t ≥ 2, which would never be drawn")
    return weight / weight.sum(), _by_step(kernel, "typical", typical)


def check_control(kernel: Kernel[P], control) -> tuple[Reverse[P] | None, Tensor]:
    """(optimum, E KL* by step), the latter (T + 1,) float64; (None, zeros) for None."""
    optimum, expected = control or (None, torch.zeros(kernel.T + 1))
    other = getattr(optimum, "kernel", None)
    if isinstance(other, Kernel) and not torch.equal(other.beta, kernel.beta):
        raise BoundError("the optimum is that of another chain; it must have this chain's β")
    return optimum, _by_step(kernel, "the control's expectation", expected)


def check_chain(kernel: Kernel[P], reverse: Reverse[P], x0: Tensor, generator, least: int = 2):
    """A reverse that is ``checked``, the examples, and a generator on their device."""
    x0 = check_examples(kernel, x0, least)
    return checked(kernel, reverse), x0, noise_generator(generator, x0.device)


def checked(kernel: Kernel[P], reverse: Reverse[P]) -> Reverse[P]:
    """``reverse``, which refuses its own answer where it is no parameters of p(x^{t−1}|x^t)."""
    names = ("logit",) if isinstance(kernel, BinomialKernel) else ("mean", "var")

    def parameters(xt: Tensor, t: Tensor | int) -> P:
        p = reverse(xt, t)
        for name in names:
            _check_parameter(f"the reverse's {name}", getattr(p, name, None), xt, name == "var")
        return p

    return parameters


def _check_parameter(name: str, value, xt: Tensor, variance: bool) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise BoundError(f"{name} is {getattr(value, 'dtype', value)}; it must be a real tensor")
    # A variance may be shared by coordinates; any other shape would be broadcast in silence.
    shared = variance and value.dim() in (0, xt.dim())
    shared = shared and all(a in (1, b) for a, b in zip(value.shape, xt.shape, strict=False))
    if value.shape != xt.shape and not shared:
        raise BoundError(f"{name} has shape {tuple(value.shape)}; that of x^t is {tuple(xt.shape)}")
    least, most = value.detach().aminmax()  # one pass, and NaN goes through both
    if not ((0 if variance else -torch.inf) < least and most < torch.inf):
        wanted = "positive and finite" if variance else "finite"
        raise BoundError(f"{name} is from {least:g} to {most:g}; all of it must be {wanted}")
