"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321).

It replaces SFO, the paper's quasi-Newton method: features under a readout are correlated, which
slows Adam down, and this method follows the correlations along each axis of a parameter.
"""

from __future__ import annotations

import torch
from torch import Tensor


class SOAP(torch.optim.Optimizer):
    """Adam in slowly rotating coordinates, one rotation for each axis of each parameter.

    beta_axis: decay of the gradient's second moment along an axis. every: steps between rotations.
    """

    largest_axis, eps = 512, 1e-8  # longer axes keep their coordinates

    def __init__(self, params, lr=0.01, betas=(0.9, 0.99), beta_axis=0.99, every=10):
        super().__init__(params, {"lr": lr, "betas": betas, "beta_axis": beta_axis, "every": every})

    @torch.no_grad()
    def step(self, closure=None):
        """One step on the gradients at hand; the first only measures the axes."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, self.state[p], group)

    def _update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        if not state:
            axes = [n if 1 < n <= self.largest_axis else 0 for n in p.shape]
            state["moments"], state["bases"] = ([p.new_zeros(n, n) for n in axes] for _ in "mb")
            state |= {"mean": torch.zeros_like(p), "square": torch.zeros_like(p), "count": 0}
        count, moments, bases = state["count"], state["moments"], state["bases"]
        for axis, moment in enumerate(moments):
            if len(moment):
                unfolded = grad.movedim(axis, 0).flatten(1) if grad.dim() > 1 else grad[:, None]
                moment.lerp_(unfolded @ unfolded.T, 1 - group["beta_axis"])
        if count > 0:
            beta_1, beta_2 = group["betas"]
            state["mean"].lerp_(grad, 1 - beta_1)
            rotated = _rotate(grad, bases)
            state["square"].mul_(beta_2).addcmul_(rotated, rotated, value=1 - beta_2)
            scale = (state["square"] / (1 - beta_2**count)).sqrt() + self.eps
            update = _rotate(state["mean"], bases) / (1 - beta_1**count) / scale
            p.sub_(_rotate(update, [basis.T for basis in bases]), alpha=group["lr"])
        if count % group["every"] == 0:
            # The largest eigenvalue first: the order of the axes is stable between rotations.
            for axis, moment in enumerate(moments):
                if len(moment):
                    bases[axis] = torch.linalg.eigh(moment.double())[1].flip(1).to(moment.dtype)
        state["count"] += 1


def _rotate(x: Tensor, bases: list[Tensor]) -> Tensor:
    """x with each axis expressed in its basis (columns); an empty basis leaves its axis."""
    for basis in bases:
        # Contracting the first axis and appending the result cycles through all axes in order.
        x = torch.tensordot(x, basis, dims=([0], [0])) if len(basis) else x.movedim(0, -1)
    return x
