"""The captioner as its equations read: what its speed and gradients are held against.

One step and one caption at a time: every caption has an image copy of its own; annotation vectors, words and logits are
projected within the loop over time.
"""

import torch
from torch import Tensor

from attendgen.models.captioner import Captioner


def teacher_forced(model: Captioner, annotations: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and alpha of each caption (batch captions time ...), with the model's own parameters.

    The model must have an additive attention of one layer, one-layer starts, a gate and deep output.
    """
    decoder, attention = model.decoder, model.decoder.attention
    copies = annotations.repeat_interleave(inputs.size(1), dim=0)  # rows regions dim
    words = inputs.flatten(0, 1)
    mean = model.feature_dim(copies).mean(dim=1)
    hidden, cell = torch.tanh(model.first_hidden(mean)), torch.tanh(model.first_cell(mean))
    logits, alphas = [], []
    for t in range(words.size(1)):
        word = model.embedding_dim(words[:, t])
        values = model.feature_dim(copies)
        scores = attention.score(torch.tanh(attention.map(values) + attention.query(hidden).unsqueeze(1)))
        alpha = scores.squeeze(-1).softmax(dim=-1)
        context = torch.sigmoid(decoder.gate(hidden)) * (alpha.unsqueeze(-1) * values).sum(dim=1)
        gates = decoder.keys(word) + decoder.recurrent(torch.cat([context, hidden], dim=-1))
        enter, forget, new, leave = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        deep = torch.tanh(word + model.deep_hidden(model.dropout(hidden)) + model.deep_context(context))
        logits.append(model.output(model.dropout(deep)))
        alphas.append(alpha)
    shape = (len(annotations), -1)
    return torch.stack(logits, dim=1).unflatten(0, shape), torch.stack(alphas, dim=1).unflatten(0, shape)
