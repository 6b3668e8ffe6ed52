"""Embeddings that serve as the output layer's weights, too."""

import torch
from torch import nn


def tie(output: nn.Linear, embedding: nn.Embedding) -> None:
    """Give both one weight (Press and Wolf 2017), such that the logits have unit variance at first."""
    nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)
    if embedding.padding_idx is not None:
        with torch.no_grad():
            embedding.weight[embedding.padding_idx] = 0.0
    output.weight = embedding.weight
