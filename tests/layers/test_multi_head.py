import pytest
import torch

from attendgen.layers.multi_head import MultiHeadAttention
from helpers.errors import refusal


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "mask"])
def test_equals_torchs_layer_with_the_same_weights(heads, masked):
    layer = MultiHeadAttention(8, 8, heads)
    torchs = torch.nn.MultiheadAttention(8, heads, batch_first=True)
    projections = (layer.query_proj, layer.key_proj, layer.value_proj)
    with torch.no_grad():
        for projection in (*projections, layer.output):
            projection.bias.normal_()
        torchs.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        torchs.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
        torchs.out_proj.load_state_dict(layer.output.state_dict())
    query, memory = torch.randn(3, 2, 8), torch.randn(3, 5, 8)
    mask = torch.arange(5) < torch.tensor([5, 3, 1]).unsqueeze(1) if masked else None
    found = layer(query, layer.keys(memory), memory, mask)
    expected = torchs(query, memory, memory, key_padding_mask=None if mask is None else ~mask)
    torch.testing.assert_close(found, expected)


def test_a_number_of_heads_that_does_not_divide_the_size_is_refused():
    assert refusal(MultiHeadAttention, 8, 8, 3).startswith("model.attention.heads=3: expected a divisor of 8")
