"""Attention weights over sliding windows as weights over a text."""

import torch
from jaxtyping import Float
from torch import Tensor


def spread_over_text(alphas: Float[Tensor, "length window"], read: int) -> Float[Tensor, "length text"]:
    """Return the weights of each output's window as weights over the text: `read` tokens, then the outputs.

    The first output is predicted from the state after the last token that was read.
    """
    length, window = alphas.shape
    slots = torch.arange(window, device=alphas.device)
    positions = read - 1 - window + torch.arange(length, device=alphas.device).unsqueeze(1) + slots
    text = alphas.new_zeros(length, read + length)
    return text.scatter_add(1, positions.clamp(min=0), alphas.masked_fill(positions < 0, 0.0))
