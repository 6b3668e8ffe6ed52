import pytest
import torch

from attendgen.layers.records import ContentSelection, RecordEncoder
from attendgen.layers.state import map_tensors
from attendgen.layers.tables import Cells
from attendgen.utils.errors import UserError

SIZES = {"kind_vocab_size": 6, "entity_vocab_size": 5, "value_vocab_size": 9, "place_vocab_size": 4}


def make_cells() -> Cells:
    kinds = torch.tensor([[2, 2, 3, 5], [4, 3, 0, 0]])
    mask = (kinds > 0).long()
    entities = torch.tensor([[2, 2, 3, 0], [4, 0, 0, 0]])
    return Cells(kinds, entities, torch.randint(2, 9, (2, 4)) * mask, mask, mask, mask)


def test_records_are_the_relu_of_a_linear_map_of_four_embeddings():
    encoder, cells = RecordEncoder(**SIZES, dim=6, embedding_dim=3), make_cells()
    records, mask = encoder(cells)
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]
    parts = (cells.kinds, cells.entities, cells.values, cells.places)
    tables = [embedding.weight for embedding in encoder.embeddings]
    whole = torch.cat([table[part[0, 2]] for table, part in zip(tables, parts, strict=True)])
    expected = (encoder.projection.weight @ whole + encoder.projection.bias).clamp(min=0)
    torch.testing.assert_close(records[0, 2], expected)


@pytest.mark.parametrize("content_selection", [False, True])
def test_records_do_not_depend_on_the_order_of_cells(content_selection):
    encoder, cells = RecordEncoder(**SIZES, dim=6, content_selection=content_selection), make_cells()
    order = torch.tensor([2, 0, 3, 1])
    moved = map_tensors(lambda part: part[:, order], cells)
    torch.testing.assert_close(
        encoder(moved)[0][cells.mask[:, order]], encoder(cells)[0][:, order][cells.mask[:, order]]
    )


@pytest.mark.parametrize("options", [{"content_selection": True}, {"recurrent": True}])
def test_padding_has_no_influence(options):
    encoder, cells = RecordEncoder(**SIZES, dim=6, **options), make_cells()
    alone = map_tensors(lambda part: part[1:, :2], cells)
    torch.testing.assert_close(encoder(cells)[0][1:, :2], encoder(alone)[0])


def test_content_selection_follows_its_equations():
    layer, records = ContentSelection(4), torch.randn(1, 3, 4)
    found = layer(records, torch.ones(1, 3, dtype=torch.bool))
    for j, record in enumerate(records[0]):
        others = [k for k in range(3) if k != j]
        scores = torch.stack([layer.score.weight @ record @ records[0, k] for k in others]) / 2  # sqrt(4)
        context = scores.softmax(dim=0) @ records[0, others]
        gate = torch.sigmoid(layer.gate.weight @ torch.cat([context, record]) + layer.gate.bias)
        torch.testing.assert_close(found[0, j], record * gate)


def test_an_odd_size_cannot_be_read_in_both_directions():
    with pytest.raises(UserError, match=r"model\.encoder\.dim=7"):
        RecordEncoder(**SIZES, dim=7, recurrent=True)
