"""Products that are made once give the steps of the decoder's equations."""

from functools import partial

import pytest
import torch
from torch import nn

from attendgen.layers.attention import AdditiveAttention, GeneralAttention, MeanAttention
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.hard_attention import INFERENCE_ATTENTION
from attendgen.layers.past_attention import CoverageAttention
from attendgen.layers.prepared import PreparedDecoder, WordTable, can_prepare, find_distinct
from attendgen.layers.state import Memory, take_rows

WORDS, INPUTS, HIDDEN, MEMORY, SOURCE, BATCH = 11, 5, 6, 7, 4, 3
ATTENTIONS = {
    "additive": partial(AdditiveAttention, dim=5),
    "general": GeneralAttention,
    "mean": MeanAttention,
    "coverage": CoverageAttention,
}


class OwnStep(BahdanauDecoder):
    """A decoder with an `attend_step` of its own."""

    def attend_step(self, *arguments, **options):
        return super().attend_step(*arguments, **options)


def make_memory(decoder: BahdanauDecoder) -> Memory:
    values = torch.randn(BATCH, SOURCE, MEMORY)
    mask = torch.arange(SOURCE) < torch.tensor([[4], [2], [3]])
    return Memory(decoder.keys(values), values, mask)


@pytest.mark.parametrize("sampler", ["soft", "argmax"])
@pytest.mark.parametrize("gate", ["none", "scalar", "vector"])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("tokens", [0, 1000], ids=["few tokens", "many tokens"])
@torch.no_grad()
def test_steps_equal_those_of_the_equations(attention: str, gate: str, tokens: int, sampler: str) -> None:
    decoder = BahdanauDecoder(INPUTS, HIDDEN, MEMORY, ATTENTIONS[attention], gate).eval()
    assert can_prepare(decoder)
    embedding, readout = nn.Embedding(WORDS, INPUTS), torch.randn(9, MEMORY)
    memory = make_memory(decoder)
    state = decoder.initial_state(torch.randn(BATCH, 1, HIDDEN), torch.randn(BATCH, 1, HIDDEN), memory)
    for matrix in (None, readout):
        prepared = PreparedDecoder(decoder, embedding, memory, tokens, matrix)
        own, other = state, state
        for rows in ([0, 0, 1, 1, 2, 2], [1, 1, 3, 2, 4, 4], [0, 1, 2, 2, 5, 5]):  # as a beam of two chooses them
            words = torch.randint(WORDS, (len(own.hidden),))
            own, attended = decoder.attend_step(embedding(words), own, memory, INFERENCE_ATTENTION[sampler])
            read = (other, prepared.memory, INFERENCE_ATTENTION[sampler])
            step = prepared.step(words, *read)
            other = step.state
            expected = attended.gated if matrix is None else attended.gated @ matrix.T
            torch.testing.assert_close(step.expand(step.context), expected)
            torch.testing.assert_close(step.expand(step.hidden), own.hidden)
            torch.testing.assert_close(step.weights, attended.weights)
            torch.testing.assert_close(tuple(other.state)[:2], tuple(own)[:2])
            own, other = (take_rows(part, torch.tensor(rows)) for part in (own, other))


def test_memory_is_multiplied_if_that_saves_time() -> None:
    additive = BahdanauDecoder(INPUTS, HIDDEN, MEMORY, AdditiveAttention).eval()
    of_vectors = BahdanauDecoder(INPUTS, HIDDEN, MEMORY, AdditiveAttention, "vector").eval()
    words = nn.Embedding(WORDS, INPUTS)
    for decoder, tokens, width in (
        (additive, 0, MEMORY),
        (additive, 100, 4 * HIDDEN + MEMORY),
        (of_vectors, 100, MEMORY),
    ):
        assert PreparedDecoder(decoder, words, make_memory(decoder), tokens).memory.values.size(2) == width


def test_decoders_with_steps_of_their_own_or_in_training_are_not_prepared() -> None:
    decoder = BahdanauDecoder(INPUTS, HIDDEN, MEMORY, MeanAttention)
    assert not can_prepare(decoder)
    assert can_prepare(decoder.eval())
    decoder.attend_step = decoder.attend_step  # type: ignore[method-assign]
    assert not can_prepare(decoder)
    assert not can_prepare(OwnStep(INPUTS, HIDDEN, MEMORY, MeanAttention).eval())
    assert not can_prepare(BahdanauDecoder(INPUTS, HIDDEN, MEMORY, MeanAttention, fast=False).eval())


@torch.no_grad()
def test_word_table_multiplies_each_word_once() -> None:
    embedding, layer = nn.Embedding(WORDS, 3), nn.Linear(3, 2)
    table, rows = WordTable(embedding, layer), []
    layer.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    for tokens in ([1, 4, 4], [4, 1], [2, 9, 1, 2]):
        found = table(torch.tensor(tokens))
        torch.testing.assert_close(found, embedding.weight[tokens] @ layer.weight.T + layer.bias)
    assert rows == [2, 2]


def test_distinct_rows_stand_for_their_copies() -> None:
    origin = torch.tensor([7, 2, 7, 7, 5, 2])
    rows = find_distinct(origin)
    assert rows is not None
    assert origin[rows.first][rows.copy_of].tolist() == origin.tolist()
    assert len(rows.first) == 3
    assert find_distinct(torch.arange(6)) is None
