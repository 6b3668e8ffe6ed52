from functools import partial

import pytest
import torch

from attendgen.layers.additive_kernel import ExponentialKeys
from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.layers.attention_protocol import prepare_keys
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.multi_head import MultiHeadAttention
from attendgen.layers.row_attention import RowAttention
from attendgen.testing import check_attention, check_decoder
from attendgen.utils.errors import UserError

ROWS = torch.tensor([[1, 1, 2, 3, 3, 3], [1, 2, 2, 2, 0, 0]])
MASK = ROWS > 0
UNEVEN = torch.tensor([[1, 1, 1, 1, 1, 2], [3, 1, 1, 2, 0, 0]])  # a grid of them would be mostly empty


@pytest.mark.parametrize("kind", [AdditiveAttention, GeneralAttention])
@pytest.mark.parametrize(("rows", "is_grid"), [(ROWS, True), (UNEVEN, False)])
def test_weights_are_those_of_the_row_times_those_within_it(kind, rows, is_grid):
    layer = RowAttention(5, 4, cells=partial(kind), rows=GeneralAttention)
    query, memory = torch.randn(2, 3, 5), torch.randn(2, 6, 4)
    keys = layer.keys(memory, rows)
    assert (keys.grid is not None) == is_grid
    context, alpha = layer(query, keys, memory, rows > 0)
    with torch.no_grad():
        prepared = prepare_keys(layer, layer.keys(memory, rows))
        assert isinstance(prepared.cells, ExponentialKeys) == (kind is AdditiveAttention)
        torch.testing.assert_close(layer(query, prepared, memory, rows > 0), (context, alpha))
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(2, 3))
    for b, row_of in enumerate(rows.tolist()):
        numbers = sorted(set(row_of) - {0})
        members = [[j for j, row in enumerate(row_of) if row == number] for number in numbers]
        means = torch.stack([memory[b, cells].mean(dim=0) for cells in members]).unsqueeze(0)
        beta = layer.rows(query[b : b + 1], layer.rows.keys(means), means)[1][0]  # query rows
        expected = torch.zeros(3, 6)
        for i, cells in enumerate(members):
            part = memory[b : b + 1, cells]
            within = layer.cells(query[b : b + 1], layer.cells.keys(part), part)[1][0]
            expected[:, cells] = beta[:, i : i + 1] * within
        torch.testing.assert_close(alpha[b], expected)
        torch.testing.assert_close(context[b], expected @ memory[b])


def test_the_order_and_the_numbers_of_rows_do_not_matter():
    layer = RowAttention(5, 4)
    query, memory = torch.randn(2, 3, 5), torch.randn(2, 6, 4)
    alpha = layer(query, layer.keys(memory, ROWS), memory, MASK)[1]
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    renamed = torch.tensor([0, 3, 1, 2])[ROWS]
    moved = memory[:, order]
    found = layer(query, layer.keys(moved, renamed[:, order]), moved, MASK[:, order])[1]
    torch.testing.assert_close(found, alpha[:, :, order])


def test_scores_far_below_those_of_another_row_keep_their_shares():
    layer = RowAttention(1, 1, cells=GeneralAttention)
    with torch.no_grad():
        layer.cells.key_proj.weight.fill_(1.0)
        layer.rows.key_proj.weight.zero_()
    memory = torch.tensor([[[300.0], [0.0], [1.0]]])
    rows = torch.tensor([[1, 2, 2]])
    alpha = layer(torch.ones(1, 1, 1), layer.keys(memory, rows), memory, rows > 0)[1]
    shares = torch.tensor([0.0, 1.0]).softmax(dim=0)
    torch.testing.assert_close(alpha[0, 0], torch.cat([torch.tensor([1.0]), shares]) / 2)


def test_it_is_an_attention_layer_and_serves_decoders():
    check_attention(RowAttention)
    check_decoder(BahdanauDecoder, attention=RowAttention)


def test_layers_without_scores_are_refused():
    with pytest.raises(UserError, match=r"model\.attention\.rows: MultiHeadAttention does not offer its scores"):
        RowAttention(4, 4, rows=partial(MultiHeadAttention, heads=2))
