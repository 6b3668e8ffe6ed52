"""Checkpoints as sgrvinod's tutorial saves them, and its decoder by plain equations."""

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

WORDS = ("a", "dog", "runs", "over", "grass", "two", "men")
DIM, EMBEDDING, ATTENTION = 12, 6, 8
Weights = dict[str, Tensor]


def make_word_map(special: tuple[str, str, str, str] = ("<pad>", "<unk>", "<start>", "<end>")) -> dict[str, int]:
    """Return ids as the tutorial gives them: <pad> first, then words, then the other special words."""
    pad, unknown, start, end = special
    return {name: index for index, name in enumerate([pad, *WORDS, unknown, start, end])}


@contextmanager
def tutorial_modules(network: str = "resnet18") -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield an encoder and a decoder with the tutorial's attribute names, of classes of a module called `models`."""
    module = ModuleType("models")
    names = ("Encoder", "DecoderWithAttention", "Attention")
    kinds: dict[str, Any] = {name: type(name, (nn.Module,), {"__module__": "models"}) for name in names}
    vars(module).update(kinds)
    encoder, decoder, attention = (kinds[name]() for name in names)
    encoder.resnet = nn.Sequential(*list(torchvision.models.get_model(network, weights=None).children())[:-2])
    encoder.adaptive_pool = nn.AdaptiveAvgPool2d((14, 14))
    features = 512 if network in ("resnet18", "resnet34") else 2048
    attention.encoder_att = nn.Linear(features, ATTENTION)
    attention.decoder_att = nn.Linear(DIM, ATTENTION)
    attention.full_att = nn.Linear(ATTENTION, 1)
    attention.relu, attention.softmax = nn.ReLU(), nn.Softmax(dim=1)
    size = len(make_word_map())
    decoder.attention = attention
    decoder.embedding = nn.Embedding(size, EMBEDDING)
    decoder.dropout = nn.Dropout(p=0.5)
    decoder.decode_step = nn.LSTMCell(EMBEDDING + features, DIM, bias=True)
    decoder.init_h, decoder.init_c = nn.Linear(features, DIM), nn.Linear(features, DIM)
    decoder.f_beta, decoder.sigmoid, decoder.fc = nn.Linear(DIM, features), nn.Sigmoid(), nn.Linear(DIM, size)
    with torch.no_grad():
        # so that each word depends on the one before
        decoder.fc.weight.mul_(8)
        decoder.fc.bias.zero_()
        decoder.decode_step.weight_ih[:, :EMBEDDING].mul_(12)
        decoder.decode_step.weight_ih[:, EMBEDDING:].mul_(0.3)
        decoder.init_h.weight.mul_(0.1)
        decoder.init_c.weight.mul_(0.1)
    sys.modules["models"] = module
    try:
        yield encoder.eval(), decoder.eval()
    finally:
        del sys.modules["models"]


def save_tutorial(folder: Path, legacy: bool, network: str = "resnet18") -> Weights:
    """Write a checkpoint of whole modules, with an optimizer, and its word map; return the weights."""
    with tutorial_modules(network) as (encoder, decoder):
        optimizer = torch.optim.Adam(decoder.parameters())
        sum(parameter.sum() for parameter in decoder.parameters()).backward()
        optimizer.step()
        decoder.zero_grad()
        state = {"epoch": 3, "epochs_since_improvement": 0, "bleu-4": 0.2, "encoder": encoder, "decoder": decoder}
        state |= {"encoder_optimizer": None, "decoder_optimizer": optimizer}
        torch.save(state, folder / "BEST.pth.tar", _use_new_zipfile_serialization=not legacy)
        (folder / "WORDMAP.json").write_text(json.dumps(make_word_map()))
        parts = {"encoder": encoder.state_dict(), "decoder": decoder.state_dict()}
    return {f"{part}.{name}": value.clone() for part, values in parts.items() for name, value in values.items()}


def decode_plainly(
    weights: Weights, features: Tensor, steps: int, forced: Sequence[int] = ()
) -> tuple[list[int], list[Tensor], list[Tensor]]:
    """Return the greedy word, all log-probabilities and the attention of each step, by the tutorial's equations.

    Args:
        features: of one image [regions, dim].
        forced: the first words, in place of the greedy ones.
    """
    w = {name.removeprefix("decoder."): value for name, value in weights.items()}

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    mean = features.mean(dim=0)
    h, c = linear("init_h", mean), linear("init_c", mean)
    ids = make_word_map()
    word, words, log_probs, alphas = ids["<start>"], [], [], []
    for step in range(steps):
        scores = linear("attention.encoder_att", features) + linear("attention.decoder_att", h)
        alpha = linear("attention.full_att", scores.relu()).squeeze(1).softmax(dim=0)
        context = linear("f_beta", h).sigmoid() * (alpha @ features)
        read = torch.cat([w["embedding.weight"][word], context])
        gates = read @ w["decode_step.weight_ih"].T + w["decode_step.bias_ih"]
        i, f, g, o = (gates + h @ w["decode_step.weight_hh"].T + w["decode_step.bias_hh"]).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        scored = linear("fc", h).log_softmax(dim=0)
        allowed = scored.clone()
        allowed[[ids["<pad>"], ids["<start>"], ids["<unk>"]]] = -torch.inf
        word = forced[step] if step < len(forced) else int(allowed.argmax())
        words.append(word)
        log_probs.append(scored)
        alphas.append(alpha)
    return words, log_probs, alphas


def rank_plainly(weights: Weights, features: Tensor) -> list[tuple[float, tuple[int, ...]]]:
    """Return every caption of up to three tokens with its log-probability, best first; a longer one is cut there."""
    ids = make_word_map()
    words, end = [ids[word] for word in WORDS], ids["<end>"]
    found = {}
    for first, second in itertools.product(words, repeat=2):
        _, scored, _ = decode_plainly(weights, features, 3, (first, second))
        sums = [0.0, float(scored[0][first]), float(scored[0][first] + scored[1][second])]
        found[end,] = sums[0] + float(scored[0][end])
        found[first, end] = sums[1] + float(scored[1][end])
        found |= {(first, second, last): sums[2] + float(scored[2][last]) for last in (*words, end)}
    return sorted(((score, tokens) for tokens, score in found.items()), reverse=True)
