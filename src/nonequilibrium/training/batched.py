"""SOAP for a GPU: parameters of one shape move together, and a step waits for no number.

A GPU is slow at many small operations and at eigenvectors. A weight has three axes here: outputs,
places of a convolution's kernel, inputs. All axes of one length get new rotations at once.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from nonequilibrium.training.optimiser import SOAP


class BatchedSOAP(SOAP):
    """SOAP whose ``step`` may be recorded; ``between_steps`` must follow each.

    The first parameter of a shape has the state of all.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """One step; the first only measures the axes. An absent gradient is one of zero."""
        for group in self.param_groups:
            for params in _by_shape(group["params"]):
                self._move(params, self.state[params[0]], group)

    @torch.no_grad()
    def between_steps(self) -> None:
        """New rotations where they are due."""
        for group in self.param_groups:
            states = [self.state[params[0]] for params in _by_shape(group["params"])]
            if states[0]["step"] % group["every"] == 0:
                _rotate_axes(states, exactly=states[0]["step"] == 0)
            for state in states:
                state["step"] += 1

    def _begin(self, params: list[Tensor], state: dict) -> None:
        first, n = _weight(params[0]), len(params)
        sides = first.shape if first.dim() > 1 else ()
        axes = [side if 1 < side <= self.largest_axis else 0 for side in sides]
        for name in ("moments", "bases"):
            state[name] = [first.new_zeros(n, side, side) for side in axes]
        state["mean"], state["square"] = (first.new_zeros(n, *first.shape) for _ in range(2))
        state["step"] = 0  # as the program counts; the GPU counts in powers of the two betas
        state["powers"] = first.new_ones(2)

    def _move(self, params: list[Tensor], state: dict, group: dict) -> None:
        if not state:
            self._begin(params, state)
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


def _by_shape(params: list[Tensor]) -> list[list[Tensor]]:
    groups = defaultdict(list)
    for p in params:
        groups[p.shape].append(p)
    return list(groups.values())


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
        if exactly:
            turned = torch.linalg.eigh(moment)[1].flip(-1)
        else:
            turned = orthogonal_iteration(moment, basis)
        for old, new in zip(bases, turned.split([len(basis) for basis in bases]), strict=True):
            old.copy_(new)


def orthogonal_iteration(moments: Tensor, bases: Tensor) -> Tensor:
    """A step from ``bases`` towards eigenvectors of ``moments``, (n, k, k) float64, largest first.

    Columns are made orthonormal by Cholesky decompositions of their products, twice for exactness.
    Where a moment has too little rank for that, its basis stays.
    """
    turned = moments @ bases
    for _ in range(2):
        turned = turned / turned.norm(dim=-2, keepdim=True)
        root, _ = torch.linalg.cholesky_ex(turned.mT @ turned)
        turned = torch.linalg.solve_triangular(root, turned.mT, upper=False).mT
    unit = torch.eye(turned.shape[-1], dtype=turned.dtype, device=turned.device)
    off = (turned.mT @ turned - unit).abs().amax((1, 2), keepdim=True)
    return torch.where(off < 1e-6, turned, bases)  # NaN is not less
