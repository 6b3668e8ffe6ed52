"""A tiny model of every family that decodes by itself, and the modes of decoding."""

from functools import partial
from typing import Any

import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.protocol import Decoded
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.state import map_tensors
from attendgen.models.ensemble import CaptionerEnsemble, Ensemble, StatefulEnsemble
from helpers.families import FAMILIES, TABLES, Family, Training, make_captioner, make_table, move


def make_ensemble(kind: type[Ensemble], *names: str, **settings: Any) -> Training:
    """Return the training of the first of two families, with an ensemble of both models."""
    trainings = [FAMILIES[name](**settings) for name in names]
    members = [lambda model=training.task.model, **sizes: model for training in trainings]
    first: Any = trainings[0].task
    shared = {"encoder": first.model.encoder} if kind is CaptionerEnsemble else {}
    first.model = kind(members=members, weights=[0.7, 0.3], **shared, **first.vocabulary.sizes()).train()
    return trainings[0]


# families and modes of decoding with outputs of their own
DECODED: dict[str, Family] = {
    **{name: family for name, family in FAMILIES.items() if "captioner, " not in name},
    "captioner, transformer": FAMILIES["captioner, transformer"],
    "captioner, hard": partial(make_captioner, inference_attention="argmax"),
    "table, hard": partial(make_table, partial(TABLES, decoder=BahdanauDecoder, inference_attention="argmax")),
    "ensemble of captioners": partial(make_ensemble, CaptionerEnsemble, "captioner", "captioner, transformer"),
    "ensemble of translators": partial(make_ensemble, Ensemble, "seq2seq, luong", "seq2seq, bahdanau"),
    "ensemble of language models": partial(make_ensemble, StatefulEnsemble, "lm, lstm", "lm, transformer"),
}

MODES = {
    "greedy": DecodingConfig(max_length=8),
    "beam": DecodingConfig(max_length=8, beam_size=5, n_best=2, length_penalty=0.7, coverage_penalty=0.1),
    "sampling": DecodingConfig(max_length=8, temperature=0.8, top_p=0.9, n_best=3, seed=3),
    "mbr": DecodingConfig(max_length=8, beam_size=4, mbr_samples=6, seed=3),
    "rules": DecodingConfig(max_length=8, beam_size=3, min_length=3, no_repeat_ngram_size=2),
}


def decode_peaked(training: Training, config: DecodingConfig, device: str) -> Decoded:
    """Return what a model with enlarged weights, in which few tokens are nearly as probable, decodes for a batch."""
    task, batch = move(training, device)
    task.eval().decoding = config
    with torch.no_grad():
        for weight in task.parameters():
            weight.mul_(3)
        return map_tensors(lambda part: part.cpu(), task.generate(batch))


def bound_waits(name: str, mode: str, length: int) -> float:
    """Return how often the host may wait for outputs of so many tokens: once in four tokens of each search."""
    members = 2 if "ensemble" in name and mode == "mbr" else 1  # which search one after the other
    return (2 if mode == "mbr" else 1) * members * length / 4  # a beam, and its samples
