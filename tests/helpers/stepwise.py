"""The captioner by its equations, as an oracle for the loss and the gradients of the fast one.

It computes one step and one caption at a time. Every caption has its own copy of the image's features, and features,
words and logits are projected within the loop over time.
"""

import torch
from torch import Tensor

from attendgen.models.captioner import Captioner


def teacher_forced(model: Captioner, features: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and alpha of each caption (batch captions time ...), computed with the model's own parameters.

    The model must have an additive attention of one layer, initial states of one layer, a context gate and deep output.
    """
    decoder, attention = model.decoder, model.decoder.attention
    copies = features.repeat_interleave(inputs.size(1), dim=0)  # rows regions dim
    words = inputs.flatten(0, 1)
    mean = model.feature_proj(copies).mean(dim=1)
    hidden, cell = torch.tanh(model.first_hidden(mean)), torch.tanh(model.first_cell(mean))
    logits, alphas = [], []
    for t in range(words.size(1)):
        word = model.embedding(words[:, t])
        values = model.feature_proj(copies)
        total = attention.key_proj(values) + attention.query_proj(hidden).unsqueeze(1)
        alpha = attention.score(torch.tanh(total)).squeeze(-1).softmax(dim=-1)
        context = torch.sigmoid(decoder.context_gate(hidden)) * (alpha.unsqueeze(-1) * values).sum(dim=1)
        gates = decoder.input_gates(word) + decoder.recurrent_gates(torch.cat([context, hidden], dim=-1))
        i, f, g, o = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        deep = torch.tanh(word + model.deep_hidden(model.dropout(hidden)) + model.deep_context(context))
        logits.append(model.output(model.dropout(deep)))
        alphas.append(alpha)
    shape = (len(features), -1)
    return torch.stack(logits, dim=1).unflatten(0, shape), torch.stack(alphas, dim=1).unflatten(0, shape)
