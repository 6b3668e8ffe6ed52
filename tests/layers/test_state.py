from functools import partial

import pytest
import torch

from attendgen.layers.attention import GeneralAttention
from attendgen.layers.state import (
    AttentionWindow,
    EmptyMemory,
    LanguageModelState,
    LSTMState,
    Memory,
    count_rows,
    fill_tokens,
    get_device,
    get_mask,
    iterate_tensors,
    map_tensors,
    take_rows,
    to_float32,
)
from attendgen.models.ensemble import Ensemble
from attendgen.models.lm.context import ContextLanguageModel

ROWS = 3


def language_model_state(layers: int = 2) -> LanguageModelState:
    lstm = LSTMState(torch.randn(ROWS, layers, 4), torch.randn(ROWS, layers, 4))
    window = AttentionWindow(torch.randn(ROWS, 5, 2), torch.randn(ROWS, 5, 2), torch.rand(ROWS, 5) < 0.5)
    return LanguageModelState(lstm, window, torch.randint(9, (ROWS, 2)))


def memory(mask: torch.Tensor | None = None) -> Memory:
    return Memory(torch.randn(ROWS, 6, 3), torch.randn(ROWS, 6, 4), mask)


TREES = {
    "tensor": lambda: torch.randn(ROWS, 2),
    "named tuple": lambda: LSTMState(torch.randn(ROWS, 4), torch.randn(ROWS, 4)),
    "without a mask": memory,
    "nested": language_model_state,
    "ensemble": lambda: (
        language_model_state(1),
        (memory(torch.rand(ROWS, 6) < 0.5), EmptyMemory(torch.ones(ROWS, 0))),
    ),
    "list": lambda: [torch.randn(ROWS), None, [torch.randn(ROWS, 1)]],
}


@pytest.fixture(params=TREES)
def tree(request):
    return TREES[request.param]()


def assert_same_structure(one, other):
    assert type(one) is type(other)
    if isinstance(one, tuple | list):
        for parts in zip(one, other, strict=True):
            assert_same_structure(*parts)


@pytest.mark.parametrize("rows", [[2, 0], [1, 1, 1, 0], []], ids=["reorder", "repeat", "none"])
def test_take_rows_indexes_every_tensor_and_keeps_the_structure(tree, rows):
    chosen = take_rows(tree, torch.tensor(rows, dtype=torch.long))
    assert_same_structure(tree, chosen)
    for before, after in zip(iterate_tensors(tree), iterate_tensors(chosen), strict=True):
        assert after.dtype == before.dtype
        assert torch.equal(after, before[rows])


def test_map_tensors_applies_a_function_to_corresponding_tensors(tree):
    other = map_tensors(torch.zeros_like, tree)
    assert_same_structure(tree, other)
    joined = map_tensors(lambda one, two: torch.cat([one, two]), tree, other)
    assert_same_structure(tree, joined)
    assert len(list(iterate_tensors(joined))) > 0
    for before, after in zip(iterate_tensors(tree), iterate_tensors(joined), strict=True):
        assert torch.equal(after[:ROWS], before)
        assert not after[ROWS:].any()


def test_map_tensors_refuses_trees_of_different_structure():
    state = language_model_state()
    with pytest.raises(ValueError, match="zip"):
        map_tensors(torch.add, state, (state.lstm, state.window))


def test_iterate_tensors_yields_every_tensor_in_order():
    state = language_model_state()
    lstm, window, recent = state
    expected = [lstm.hidden, lstm.cell, window.keys, window.values, window.seen, recent]
    found = list(iterate_tensors((state, None, [recent])))
    assert [id(part) for part in found] == [id(part) for part in (*expected, recent)]


def test_rows_and_device_are_those_of_the_tensors(tree):
    assert count_rows(tree) == ROWS
    assert get_device(tree) == torch.device("cpu")
    tokens = fill_tokens(tree, 7)
    assert tokens.tolist() == [7] * ROWS
    assert tokens.dtype == torch.long


def test_to_float32_converts_floating_point_tensors_only():
    half = map_tensors(lambda part: part.bfloat16() if part.is_floating_point() else part, language_model_state())
    single = to_float32(half)
    for before, after in zip(iterate_tensors(half), iterate_tensors(single), strict=True):
        assert after.dtype == (torch.float32 if before.is_floating_point() else before.dtype)
        assert torch.equal(after, before.to(after.dtype))


def test_the_mask_is_that_of_the_first_memory():
    mask = torch.rand(ROWS, 6) < 0.5
    assert get_mask(memory(mask)) is mask
    assert get_mask((memory(mask), memory())) is mask
    assert get_mask(memory()) is None
    assert get_mask(EmptyMemory(torch.zeros(ROWS, 0))) is None
    assert get_mask(()) is None


def test_the_rows_of_an_ensemble_step_are_chosen_with_those_of_its_states():
    makers = [partial(ContextLanguageModel, attention=GeneralAttention, hidden=hidden) for hidden in (4, 6)]
    model = Ensemble(makers, vocab_size=9).eval()
    context, tokens, rows = torch.randint(1, 9, (ROWS, 5)), torch.tensor([3, 4, 5]), torch.tensor([2, 0, 2, 1])
    memories, states = model.encode(context)
    _, _, after = model.step(tokens, states, memories)
    _, _, found = model.step(tokens[rows], take_rows(states, rows), take_rows(memories, rows))
    torch.testing.assert_close(list(iterate_tensors(found)), list(iterate_tensors(take_rows(after, rows))))
