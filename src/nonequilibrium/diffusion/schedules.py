"""Noise schedules β_1..β_T, (T,) float64: by name, learned, or given. Index 0 holds β_1."""

import math
from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonequilibrium.errors import ParameterError
from nonequilibrium.settings import chosen


def inverse_schedule(T: int) -> Tensor:
    """β_t = 1/(T−t+1) (Table App.1, binomial): each step erases 1/T of the signal; β_T is 1."""
    return 1 / torch.arange(T, 0, -1, dtype=torch.float64)


def reference_schedule(T: int, beta_1: float = 1e-3) -> Tensor:
    """β_t of the authors' program: 1/linspace(T, 2), with ``beta_1`` added to the first."""
    beta = 1 / torch.linspace(T, 2, T, dtype=torch.float64)
    beta[0] += beta_1
    return beta


def even_log_snr_schedule(T: int, beta_1: float, alpha_bar_T: float) -> Tensor:
    """β_t that space log(ᾱ_t/(1−ᾱ_t)) evenly from ᾱ_1 = 1−beta_1 to ``alpha_bar_T``."""
    if not (0 < beta_1 and 0 < alpha_bar_T < 1 - beta_1):
        given = f"beta_1 is {beta_1} and alpha_bar_T is {alpha_bar_T}"
        raise ParameterError(f"{given}; both must be above 0 and their sum below 1")
    start, end = math.log((1 - beta_1) / beta_1), math.log(alpha_bar_T / (1 - alpha_bar_T))
    log_snr = torch.linspace(start, end, T, dtype=torch.float64)
    # 1−β_t = ᾱ_t/ᾱ_{t−1}; with log ᾱ = −softplus(−log SNR) nothing cancels where ᾱ is nearly 1.
    log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), -F.softplus(-log_snr)])
    return -torch.expm1(torch.diff(log_alpha_bar))


SCHEDULES: dict[str, Callable[..., Tensor]] = {"inverse": inverse_schedule}
SCHEDULES |= {"reference": reference_schedule, "even_log_snr": even_log_snr_schedule}


def schedule(name: str, T: int, **options) -> Tensor:
    """β_1..β_T by name, one of ``SCHEDULES``."""
    if not (isinstance(T, Integral) and T >= 2):
        raise ParameterError(f"the number of steps T is {T!r}; it must be a whole number from 2")
    return chosen("schedule", name, SCHEDULES)(int(T), **options)


class FixedSchedule(nn.Module):
    """β_1..β_T that training leaves alone."""

    beta: Tensor

    def __init__(self, beta: Tensor):
        super().__init__()
        self.register_buffer("beta", beta)

    def forward(self) -> Tensor:
        return self.beta


class LearnedSchedule(nn.Module):
    """β_2..β_T free in (0, 1) by ``logit``; a free β_1 would let the model overfit (2.4.1)."""

    beta_1: Tensor

    def __init__(self, beta: Tensor):
        super().__init__()
        self.register_buffer("beta_1", beta[:1].clone())
        self.logit = nn.Parameter(torch.logit(beta[1:]))

    def forward(self) -> Tensor:
        return torch.cat([self.beta_1, torch.sigmoid(self.logit)])
