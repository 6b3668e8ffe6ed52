import pytest
import torch

from attendgen.layers.copying import JointCopy, MixtureCopy, Switch, find_copied, find_copies, mix_copies

VOCAB, PAD = 9, 0
COPIES = torch.tensor([[4, 7, 4, 0, 5], [8, 0, 0, 0, 0], [0, 0, 0, 0, 0]])


def enumerate_words(logits, switch, copies):
    """Return p(w) by its definition, word by word and cell by cell."""
    expected = torch.zeros_like(logits)
    for b, cells in enumerate(copies.tolist()):
        for q in range(logits.size(1)):
            share = torch.sigmoid(switch.log_odds[b, q]) if any(cells) else torch.tensor(0.0)
            generated = logits[b, q].softmax(dim=0)
            for word in range(logits.size(2)):
                copied = sum(switch.cells[b, q, j] for j, copy in enumerate(cells) if copy == word and copy != PAD)
                expected[b, q, word] = (1 - share) * generated[word] + share * copied
    return expected


def make_case(kind):
    layer = kind(features=6, memory=4)
    features, values = torch.randn(3, 2, 6), torch.randn(3, 5, 4)
    alphas, logits = torch.rand(3, 2, 5).softmax(dim=-1), torch.randn(3, 2, VOCAB, requires_grad=True)
    return layer, features, alphas, logits, layer.keys(values)


def test_mixture_puts_the_attention_on_the_right_words():
    layer, features, alphas, logits, keys = make_case(MixtureCopy)
    can_copy = (COPIES != PAD).unsqueeze(1)
    switch = layer(features, alphas, logits, keys, can_copy)
    torch.testing.assert_close(switch.cells.sum(dim=-1), torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(switch.cells[0, 0, 1] / switch.cells[0, 0, 0], alphas[0, 0, 1] / alphas[0, 0, 0])
    found = mix_copies(logits, switch, find_copies(COPIES))
    torch.testing.assert_close(found.exp(), enumerate_words(logits, switch, COPIES))


def test_joint_is_one_softmax_over_words_and_cells():
    layer, features, alphas, logits, keys = make_case(JointCopy)
    can_copy = (COPIES != PAD).unsqueeze(1)
    found = mix_copies(logits, layer(features, alphas, logits, keys, can_copy), find_copies(COPIES)).exp()
    scores = torch.einsum("bqd,bcd->bqc", layer.query_proj(features), keys) / 2  # sqrt(4)
    both = torch.cat([logits, scores.masked_fill(~can_copy, -torch.inf)], dim=-1).softmax(dim=-1)
    expected = both[..., :VOCAB].clone()
    for b in range(3):
        for j, word in enumerate(COPIES[b].tolist()):
            expected[b, :, word] += both[b, :, VOCAB + j]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("odds", [-60.0, 0.0, 60.0])
def test_gradients_equal_those_of_the_definition(odds):
    torch.manual_seed(0)
    logits = torch.randn(3, 2, VOCAB, dtype=torch.double, requires_grad=True)
    odds = torch.full((3, 2), odds, requires_grad=True)
    cells = torch.rand(3, 2, 5, requires_grad=True)
    switch = Switch(odds, cells.softmax(dim=-1) * (COPIES != PAD).unsqueeze(1))
    words = torch.tensor([4, 8, 3])
    loss = mix_copies(logits, switch, find_copies(COPIES))[[0, 1, 2], 0, words].sum()
    expected = enumerate_words(logits, Switch(odds.double(), switch.cells.double()), COPIES)
    found = torch.autograd.grad(loss, (logits, odds, cells), retain_graph=True)
    assert all(torch.isfinite(gradient).all() for gradient in found)
    if not odds[0, 0]:  # the definition cannot be computed where a share vanishes
        other = torch.autograd.grad(expected[[0, 1, 2], 0, words].log().sum(), (logits, odds, cells))
        torch.testing.assert_close(found, other, check_dtype=False, atol=1e-5, rtol=1e-4)


def test_an_output_is_copied_if_a_cell_has_its_word():
    outputs = torch.tensor([[4, 6, 0], [8, 5, 4], [3, 0, 0]])
    expected = [[True, False, False], [True, False, False], [False, False, False]]
    assert find_copied(outputs, COPIES).tolist() == expected
