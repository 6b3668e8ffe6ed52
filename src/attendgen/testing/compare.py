"""Comparisons whose messages say what differs, in which part, and by how much."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attendgen.layers.state import iterate_tensors
from attendgen.utils.errors import UserError


@contextmanager
def fixed_seed() -> Iterator[None]:
    """Draw the same random numbers at each use, and leave the caller's stream of them as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def explain_errors(what: str) -> Iterator[None]:
    """Say what was asked of a part that raises an error.

    Raises:
        AssertionError: the part raised another error; a `UserError` speaks for itself.
    """
    try:
        yield
    except (AssertionError, UserError):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise AssertionError(f"{what}: {type(error).__name__}: {reason}") from error


def in_eval(module: Any) -> Any:
    """Return a copy of a module in evaluation mode."""
    module = copy.deepcopy(module)
    return module.eval() if isinstance(module, nn.Module) else module


def require_close(
    what: str, found: Sequence[Any], expected: Sequence[Any], names: Sequence[str], tolerance: float
) -> None:
    """Compare trees of tensors.

    Args:
        what: the requirement, which begins the message.
        names: of the trees.
        tolerance: of the difference, relative where the expected number is above 1.

    Raises:
        AssertionError: they differ.
    """
    for name, left, right in zip(names, found, expected, strict=True):
        pairs = list(iterate_tensors(left)), list(iterate_tensors(right))
        if len(pairs[0]) != len(pairs[1]):
            raise AssertionError(f"{what}: {name} has {len(pairs[0])} tensors, expected {len(pairs[1])}")
        for number, (one, other) in enumerate(zip(*pairs, strict=True)):
            part = name if len(pairs[0]) == 1 else f"{name}, tensor {number},"
            _require_tensors_close(f"{what}: {part}", one, other, tolerance)


def _require_tensors_close(what: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    require_shape(what, found, expected.shape)
    if found.numel() == 0:
        return
    left, right = found.detach().double(), expected.detach().double()
    excess = ((left - right).abs() / right.abs().clamp(min=1.0)).nan_to_num(torch.inf)
    excess = excess.masked_fill(left == right, 0.0)  # both may be infinite
    if excess.max() > tolerance:
        worst = int(excess.argmax())
        place = tuple(int(index) for index in torch.unravel_index(torch.tensor(worst), excess.shape))
        raise AssertionError(
            f"{what} differs by {float((left - right).flatten()[worst].abs()):.3g} at {place}: "
            f"{float(left.flatten()[worst]):.6g} instead of {float(right.flatten()[worst]):.6g}"
        )


def require_shape(what: str, found: Tensor, shape: Sequence[int]) -> None:
    """Compare the shape of a tensor.

    Raises:
        AssertionError: it is another.
    """
    if tuple(found.shape) != tuple(shape):
        raise AssertionError(f"{what} has the shape {tuple(found.shape)}, expected {tuple(shape)}")


def require_finite(what: str, tree: Any) -> None:
    """Check that no number is infinite or not a number.

    Raises:
        AssertionError: one is.
    """
    for tensor in iterate_tensors(tree):
        wrong = int((~tensor.isfinite()).sum())
        if wrong:
            raise AssertionError(f"{what}: {wrong} of {tensor.numel()} numbers are infinite or NaN")


def require_distribution(
    what: str, alpha: Float[Tensor, "batch query source"], mask: Bool[Tensor, "batch source"], tolerance: float
) -> None:
    """Check that weights are zero at masked positions, and sum to 1 where a position is real.

    Raises:
        AssertionError: they are not.
    """
    alpha = alpha.detach()
    padded = alpha.masked_fill(mask.unsqueeze(1), 0.0).abs()
    if padded.numel() and padded.max() > 0:
        raise AssertionError(
            f"{what}: a masked position has the attention weight {float(padded.max()):.3g}, expected 0"
        )
    if alpha.numel() and alpha.min() < 0:
        raise AssertionError(f"{what}: an attention weight is {float(alpha.min()):.3g}, below 0")
    totals = mask.any(dim=-1, keepdim=True).to(alpha.dtype).expand(alpha.shape[:2])
    require_close(what, [alpha.sum(dim=-1)], [totals], ["sum of the attention weights"], tolerance)


def require_gradients(
    what: str, module: Any, outputs: Sequence[Tensor], inputs: Sequence[Tensor] = (), all_used: bool = False
) -> None:
    """Check that the gradients of a sum of outputs are finite.

    Args:
        all_used: each parameter that is to be trained must have one.

    Raises:
        AssertionError: one is not, or a parameter has none.
    """
    parameters = module.named_parameters() if isinstance(module, nn.Module) else ()
    named: dict[str, Tensor] = {name: parameter for name, parameter in parameters if parameter.requires_grad}
    named |= {f"input {number}": tensor for number, tensor in enumerate(inputs)}
    loss = torch.stack([output.float().sum() for output in outputs]).sum()
    if not (named and loss.requires_grad):
        return
    gradients: Sequence[Tensor | None] = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    reached = {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}
    for name in named if all_used else ():
        if name not in reached and not name.startswith("input "):
            raise AssertionError(f"{what}: {name} has none, so it is not trained: it is not used, or detached")
    for name, gradient in zip(named, gradients, strict=True):
        require_finite(f"{what}: gradient of {name}", gradient)
