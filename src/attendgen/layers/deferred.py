"""Gradients of what is multiplied at each step of a loop, in one product at the end.

Back-propagation step by step would compute a gradient of a weight's size at each step, and add them up. Where
pre-activations are a sum with a product, `p_t + W f_t`, the gradient of p_t is also that of the product. So a loop may
multiply with a detached weight and collect its factors f_t, and p carries the gradient to the weight.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def defer_weight(
    summands: Float[Tensor, "rows time outputs"], weight: Float[Tensor, "some factors"], factors: list[Tensor]
) -> Float[Tensor, "rows time outputs"]:
    """Return the summands, whose gradient reaches the weight, too.

    Args:
        summands: of the pre-activations of all steps; products with the weight are added to the first ones.
        factors: filled by the loop: each step's factors, `rows factors`, without a gradient.
    """
    return _DeferredWeight.apply(summands, weight, factors)


def defer_memory(
    summands: Float[Tensor, "rows time outputs"], memory: Float[Tensor, "batch source some"], weights: list[Tensor]
) -> Float[Tensor, "rows time outputs"]:
    """Return the summands, whose gradient reaches a memory of which each step adds a weighted sum, too.

    Args:
        weights: filled by the loop: each step's weights, `batch query source` for rows = batch x query.
    """
    return _DeferredMemory.apply(summands, memory, weights)


class Deferred:
    """A weight that each step of a loop multiplies, and whose gradient is one product for all steps."""

    def __init__(self, weight: Float[Tensor, "outputs factors"]) -> None:
        self.weight = weight
        self.factors: list[Tensor] = []
        self.detached = weight.detach().T

    def defer(self, summands: Float[Tensor, "rows time some"]) -> Float[Tensor, "rows time some"]:
        """Return what the products of all steps are added to."""
        self.detached = self.detached.to(summands.dtype)
        return defer_weight(summands, self.weight, self.factors)

    def add(
        self, summand: Float[Tensor, "rows outputs"], factor: Float[Tensor, "rows factors"]
    ) -> Float[Tensor, "rows outputs"]:
        """Return a step's summand plus its product."""
        self.factors.append(factor.detach())
        size = self.detached.size(1)
        if size == summand.size(1):
            return torch.addmm(summand, factor, self.detached)
        return torch.addmm(summand[:, :size], factor, self.detached)


class DeferredSums:
    """A memory of which each step of a loop adds weighted sums, and whose gradient is one product for all steps.

    Args:
        rows, time: of the loop; several rows may share one row of the memory.
    """

    def __init__(self, memory: Float[Tensor, "batch source some"], rows: int, time: int) -> None:
        self.weights: list[Tensor] = []
        self.memory = memory.detach()
        zeros = memory.new_zeros(()).expand(rows, time, memory.size(2))
        self.summands = iter(defer_memory(zeros, memory, self.weights).unbind(1))

    @property
    def dtype(self) -> torch.dtype:
        """That of the memory."""
        return self.memory.dtype

    def add_up(self, weights: Float[Tensor, "batch query source"]) -> Float[Tensor, "batch query some"]:
        """Return the sums of the next step."""
        self.weights.append(weights.detach())
        summand = next(self.summands).unflatten(0, (len(self.memory), -1))
        return torch.baddbmm(summand, weights, self.memory)


class _DeferredWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, summands: Tensor, weight: Tensor, factors: list[Tensor]) -> Tensor:
        ctx.factors, ctx.rows, ctx.dtype = factors, len(weight), weight.dtype
        return summands.view_as(summands)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        factors = torch.stack(ctx.factors, dim=1).flatten(0, 1)
        of_products = gradient[..., : ctx.rows].flatten(0, 1)
        return gradient, (of_products.T @ factors.to(gradient.dtype)).to(ctx.dtype), None


class _DeferredMemory(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, summands: Tensor, memory: Tensor, weights: list[Tensor]) -> Tensor:
        ctx.weights, ctx.shape, ctx.dtype = weights, memory.shape, memory.dtype
        return summands.view_as(summands)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        batch, _, size = ctx.shape
        weights = torch.stack(ctx.weights, dim=2).flatten(1, 2)  # batch, query x time, source
        of_sums = gradient[..., :size].reshape(batch, -1, size)
        return gradient, (weights.transpose(1, 2) @ of_sums).to(ctx.dtype), None
