"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, arXiv:2409.11321).

It replaces SFO, the paper's quasi-Newton method: features under a readout are correlated, which
slows Adam down, and this method follows the correlations along each axis of a parameter.
"""

from collections import defaultdict

import torch
from torch import Tensor


class SOAP(torch.optim.Optimizer):
    """Adam in coordinates that rotate, along each axis of a parameter, every few steps."""

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


class BatchedSOAP(SOAP):
    """SOAP for a GPU, which is slow at many small operations and at eigenvectors.

    Parameters of one shape move together, the first having the state of all. A ``step`` waits for
    no number and may be recorded; ``between_steps`` must follow each.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """One step; the first only measures the axes. An absent gradient is one of zero."""
        for group in self.param_groups:
            for shape in dict.fromkeys(p.shape for p in group["params"]):
                params = [p for p in group["params"] if p.shape == shape]
                self._move(params, self.state[params[0]], group)

    @torch.no_grad()
    def between_steps(self) -> None:
        """New rotations where they are due."""
        for group in self.param_groups:
            states = [self.state[p] for p in group["params"] if p in self.state]
            if states[0]["step"] % group["every"] == 0:
                _rotate_axes(states, exactly=states[0]["step"] == 0)
            for state in states:
                state["step"] += 1

    def _move(self, params: list[Tensor], state: dict, group: dict) -> None:
        if not state:
            first, n = _weight(params[0]), len(params)
            sides = first.shape if first.dim() > 1 else ()
            axes = [side if 1 < side <= self.largest_axis else 0 for side in sides]
            for name in ("moments", "bases"):
                state[name] = [first.new_zeros(n, side, side) for side in axes]
            state["mean"], state["square"] = (first.new_zeros(n, *first.shape) for _ in range(2))
            state["step"] = 0  # as the program counts; the GPU counts in powers of the two betas
            state["powers"] = first.new_ones(2)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        grad = torch.stack([_weight(gradient) for gradient in gradients])
        for axis, moment in enumerate(state["moments"]):
            if moment.numel():
                moment.lerp_(_products(grad, axis), 1 - group["beta_axis"])
        if state["step"] == 0:
            return
        beta_1, beta_2 = group["betas"]
        powers, bases = state["powers"], state["bases"]
        for power, beta in zip(powers.unbind(), group["betas"], strict=True):
            power.mul_(beta)
        left_1, left_2 = (1 - powers).unbind()
        state["mean"].lerp_(grad, 1 - beta_1)
        rotated = _rotated(grad, bases)
        state["square"].mul_(beta_2).addcmul_(rotated, rotated, value=1 - beta_2)
        scale = (state["square"] / left_2).sqrt() + self.eps
        update = _rotated(_rotated(state["mean"], bases) / scale, [basis.mT for basis in bases])
        update *= group["lr"] / left_1
        torch._foreach_sub_([_weight(p) for p in params], list(update.unbind()))


def _weight(p: Tensor) -> Tensor:
    """A view of a parameter as (outputs, places, inputs), or (length,)."""
    if p.dim() < 2:
        return p
    return p[:, None] if p.dim() == 2 else p.movedim(1, -1).flatten(1, -2)


def _products(grad: Tensor, axis: int) -> Tensor:
    """Products of grad (n, outputs, places, inputs) along one axis, summed over the others."""
    if axis == 1:
        return (grad @ grad.mT).sum(1)
    rows = grad.flatten(1, 2).mT if axis else grad.flatten(2)
    return rows @ rows.mT


def _rotated(x: Tensor, bases: list[Tensor]) -> Tensor:
    """x (n, outputs, places, inputs) in the bases of its axes; an empty one leaves its axis."""
    if not bases:
        return x
    outputs, places, inputs = bases
    if outputs.numel():
        x = (outputs.mT @ x.flatten(2)).reshape(x.shape)
    if places.numel():
        x = places[:, None].mT @ x
    if inputs.numel():
        x = (x.flatten(1, 2) @ inputs).reshape(x.shape)
    return x


def _rotate_axes(states: list[dict], exactly: bool) -> None:
    """New bases for all axes, those of one length together."""
    pairs = defaultdict(list)
    for state in states:
        for moment, basis in zip(state["moments"], state["bases"], strict=True):
            pairs[basis.shape[-1]].append((moment, basis))
    for side in filter(None, pairs):
        moments, bases = zip(*pairs[side], strict=True)
        moment, basis = torch.cat(moments).double(), torch.cat(bases).double()
        exact = torch.linalg.eigh(moment)[1].flip(-1) if exactly else None
        turned = orthogonal_iteration(moment, basis) if exact is None else exact
        torch._foreach_copy_(list(bases), list(turned.split(list(map(len, bases)))))


def orthogonal_iteration(moments: Tensor, bases: Tensor) -> Tensor:
    """A step from ``bases`` towards eigenvectors of ``moments``, (n, k, k) float64, largest first;
    of too little rank for the Cholesky decompositions a moment leaves its basis.
    """
    turned = moments @ bases
    for _ in range(2):  # to make columns orthonormal, twice for exactness
        turned = turned / turned.norm(dim=-2, keepdim=True)
        root, _ = torch.linalg.cholesky_ex(turned.mT @ turned)
        turned = torch.linalg.solve_triangular(root, turned.mT, upper=False).mT
    unit = torch.eye(turned.shape[-1], dtype=turned.dtype, device=turned.device)
    off = (turned.mT @ turned - unit).abs().amax((1, 2), keepdim=True)
    return torch.where(off < 1e-6, turned, bases)  # NaN is not less
