"""Copying: a decoder says the word of a cell it attends to, or a word of its vocabulary.

p(w) = (1 - s) softmax(o)_w + s sum_{j: word of cell j = w} p_j, with a switch s and a distribution p over the cells
whose word is in the vocabulary. The two kinds differ in s and p.

Shapes: `batch` tables of `cells`; `query` positions of a table's texts, or its hypotheses.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.devices import is_on_gpu
from attendgen.utils.special_tokens import PAD

TINY = 1e-30  # a smaller probability counts as this one, so that its logarithm and its gradient are finite
NEVER = -1e4  # log-odds of a switch that never copies


class Switch(NamedTuple):
    """How likely a decoder copies, and what.

    Attributes:
        log_odds: log(s / (1 - s)).
        cells: p, which sums to 1 over the cells that can be copied, or to 0 if none of them is attended to.
    """

    log_odds: Float[Tensor, "batch query"]
    cells: Float[Tensor, "batch query cells"]


class MixtureCopy(nn.Module):
    """s = sigmoid(w . features + b), and p is the attention (Gulcehre et al. 2016, 3.3; See et al. 2017, 2.2).

    The attention weights of cells that cannot be copied are left out, and the rest is scaled to sum to 1.

    Args:
        features, memory: sizes of the decoder's features and of the memory's vectors.
    """

    def __init__(self, features: int, memory: int) -> None:
        super().__init__()
        self.switch = nn.Linear(features, 1)

    def keys(self, values: Float[Tensor, "batch cells memory"]) -> None:
        """Return None: the attention is used as it is."""
        return

    def forward(
        self,
        features: Float[Tensor, "batch query features"],
        alphas: Float[Tensor, "batch query cells"],
        logits: Float[Tensor, "batch query vocab"],
        keys: None,
        can_copy: Bool[Tensor, "batch 1 cells"],
    ) -> Switch:
        """Return the switch."""
        cells = alphas.float() * can_copy
        cells = cells / cells.sum(dim=-1, keepdim=True).clamp_min(TINY)
        return Switch(self.switch(features).squeeze(-1).float(), cells)


class JointCopy(nn.Module):
    """One softmax over the vocabulary and the cells (Gu et al. 2016, 3.2; Wiseman et al. 2017, 3.2).

    The score of a cell is tanh(W r_j) . V features. The softmax equals a mixture with
    log(s / (1 - s)) = logsumexp_j(scores) - logsumexp(logits) and p = softmax_j(scores).

    Args:
        features, memory: sizes of the decoder's features and of the memory's vectors.
    """

    def __init__(self, features: int, memory: int) -> None:
        super().__init__()
        self.key_proj = nn.Linear(memory, memory)
        self.query_proj = nn.Linear(features, memory)
        self.scale = 1 / math.sqrt(memory)

    def keys(self, values: Float[Tensor, "batch cells memory"]) -> Float[Tensor, "batch cells memory"]:
        """Return tanh(W r)."""
        return torch.tanh(self.key_proj(values))

    def forward(
        self,
        features: Float[Tensor, "batch query features"],
        alphas: Float[Tensor, "batch query cells"],
        logits: Float[Tensor, "batch query vocab"],
        keys: Float[Tensor, "batch cells memory"],
        can_copy: Bool[Tensor, "batch 1 cells"],
    ) -> Switch:
        """Return the switch."""
        query = self.query_proj(features) * self.scale
        scores = (query @ keys.to(query.dtype).transpose(1, 2)).float()
        scores = scores.masked_fill(~can_copy, NEVER)
        cells = scores.softmax(dim=-1) * can_copy
        return Switch(scores.logsumexp(dim=-1) - logits.float().logsumexp(dim=-1), cells)


class Copies(NamedTuple):
    """What can be copied from the cells of tables.

    Attributes:
        words: the different words of each table's cells, <pad> where it has fewer than others.
        belongs: which cells have each word.
    """

    words: Int[Tensor, "batch words"]
    belongs: Bool[Tensor, "batch cells words"]

    @property
    def can_copy(self) -> Bool[Tensor, "batch 1 cells"]:
        """Which cells have a word."""
        return self.belongs.any(dim=2).unsqueeze(1)


def mix_copies(
    logits: Float[Tensor, "batch query vocab"], switch: Switch, copies: Copies
) -> Float[Tensor, "batch query vocab"]:
    """Return log-probabilities of the words, in single precision.

    The words of cells are changed where they stand, so that nothing has the size of queries x cells x vocabulary.
    """
    # hard attention may have chosen a cell that cannot be copied
    log_odds = switch.log_odds.masked_fill(~switch.cells.any(dim=2), NEVER)
    # log(1 - s) softmax(o); the sum's gradient is that of the output, a difference's would be another copy of it
    log_probs = logits.float().log_softmax(dim=-1) + (-functional.softplus(log_odds)).unsqueeze(-1)
    words = copies.words
    copied = switch.cells @ copies.belongs.to(switch.cells.dtype)  # of each word, by all cells that have it
    log_copied = copied.clamp_min(TINY).log() - functional.softplus(-log_odds).unsqueeze(-1)
    where = words.unsqueeze(1).expand_as(log_copied)
    # log(e^a + e^b) - a
    increase = functional.softplus(log_copied - log_probs.gather(2, where))
    return log_probs.scatter_add(2, where, increase * (words != PAD).unsqueeze(1))


def find_copies(copies: Int[Tensor, "batch cells"]) -> Copies:
    """Return what can be copied, given the id of each cell's word; <pad> if it has none."""
    ordered = copies.sort(dim=1).values
    is_new = torch.cat([ordered[:, :1] != PAD, ordered[:, 1:] != ordered[:, :-1]], dim=1)
    # a GPU is not asked for their number, which would make the host wait
    number = copies.size(1) if is_on_gpu(copies) else max(1, int(is_new.sum(dim=1).max()))
    words = ordered.masked_fill(~is_new, PAD).sort(dim=1, descending=True).values[:, :number]
    return Copies(words, (copies.unsqueeze(2) == words.unsqueeze(1)) & (words != PAD).unsqueeze(1))


def find_copied(outputs: Int[Tensor, "batch time"], copies: Int[Tensor, "batch cells"]) -> Bool[Tensor, "batch time"]:
    """Return where an output is the word of a cell: where the switch of Wiseman et al. (2017) is observed."""
    return ((outputs.unsqueeze(2) == copies.unsqueeze(1)) & (copies != PAD).unsqueeze(1)).any(dim=2)
