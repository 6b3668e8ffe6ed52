"""Comparisons with `torch.nn.TransformerEncoderLayer` and `TransformerDecoderLayer`, with the same weights."""

import pytest
import torch
from torch import nn

from attendgen.layers.transformer import (
    CrossAttention,
    FeedForward,
    SelfAttention,
    TokenEmbedding,
    TransformerDecoder,
    TransformerEncoder,
)
from attendgen.layers.transformer_attention import MultiHeadAttention
from helpers.errors import refusal

DIM, HEADS, LAYERS, HIDDEN = 8, 2, 2, 12
BATCH, SOURCE, TIME = 3, 5, 4
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def copy_attention(ours: MultiHeadAttention, torchs: nn.MultiheadAttention) -> None:
    """Copy the weights of one attention layer."""
    query, key, value = torchs.in_proj_weight.chunk(3)
    biases = torchs.in_proj_bias.chunk(3)
    for layer, weight, bias in zip((ours.query, ours.key, ours.value), (query, key, value), biases, strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    ours.output.load_state_dict(torchs.out_proj.state_dict())


def copy_feed_forward(ours: FeedForward, torchs: nn.Module, norm: nn.LayerNorm) -> None:
    ours.norm.load_state_dict(norm.state_dict())
    ours.inner.load_state_dict(torchs.linear1.state_dict())
    ours.outer.load_state_dict(torchs.linear2.state_dict())


def randomize(module: nn.Module) -> nn.Module:
    """Set all weights at random: torch's biases start at zero, and norms at one."""
    for parameter in module.parameters():
        parameter.data.normal_(std=0.5)
    return module.eval()


@pytest.fixture
def encoders() -> tuple[TransformerEncoder, nn.TransformerEncoder]:
    """An encoder without positions, and torch's."""
    layer = nn.TransformerEncoderLayer(DIM, HEADS, HIDDEN, 0.5, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(DIM), enable_nested_tensor=False)
    randomize(theirs)
    ours = TransformerEncoder(DIM, HEADS, LAYERS, HIDDEN, dropout=0.5, rotary=False).eval()
    with torch.no_grad():
        for attention, feed_forward, layer in zip(ours.attentions, ours.feed_forwards, theirs.layers, strict=True):
            attention.norm.load_state_dict(layer.norm1.state_dict())
            copy_attention(attention.attention, layer.self_attn)
            copy_feed_forward(feed_forward, layer, layer.norm2)
    ours.norm.load_state_dict(theirs.norm.state_dict())
    return ours, theirs


@pytest.fixture
def decoders() -> tuple[TransformerDecoder, nn.TransformerDecoder]:
    """A decoder without positions, and torch's."""
    layer = nn.TransformerDecoderLayer(DIM, HEADS, HIDDEN, 0.5, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerDecoder(layer, LAYERS, nn.LayerNorm(DIM))
    randomize(theirs)
    ours = TransformerDecoder(DIM, HEADS, LAYERS, HIDDEN, dropout=0.5, rotary=False).eval()
    stack = (ours.self_attentions, ours.cross_attentions, ours.feed_forwards, theirs.layers)
    with torch.no_grad():
        for look_back, look_at, feed_forward, layer in zip(*stack, strict=True):
            look_back.norm.load_state_dict(layer.norm1.state_dict())
            copy_attention(look_back.attention, layer.self_attn)
            look_at.norm.load_state_dict(layer.norm2.state_dict())
            copy_attention(look_at.attention, layer.multihead_attn)
            copy_feed_forward(feed_forward, layer, layer.norm3)
    ours.norm.load_state_dict(theirs.norm.state_dict())
    return ours, theirs


@pytest.fixture
def mask() -> torch.Tensor:
    """Which positions of the sources are real."""
    return torch.arange(SOURCE) < torch.tensor([[SOURCE], [2], [1]])


def test_the_encoder_equals_torchs(encoders, mask):
    ours, theirs = encoders
    inputs = torch.randn(BATCH, SOURCE, DIM)
    expected = theirs(inputs, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(inputs, mask)[mask], expected[mask], **CLOSE)


def test_the_decoder_equals_torchs(decoders, mask):
    ours, theirs = decoders
    inputs, values = torch.randn(BATCH, TIME, DIM), torch.randn(BATCH, SOURCE, DIM)
    found, _, _ = ours(inputs, ours.initial_state(BATCH), ours.project(values, mask))
    causal = nn.Transformer.generate_square_subsequent_mask(TIME)
    expected = theirs(inputs, values, tgt_mask=causal, tgt_is_causal=True, memory_key_padding_mask=~mask)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_the_attention_is_the_last_layers_averaged_over_its_heads(decoders, mask):
    ours, theirs = decoders
    inputs, values = torch.randn(BATCH, TIME, DIM), torch.randn(BATCH, SOURCE, DIM)
    last, asked = theirs.layers[-1].multihead_attn, []
    hook = last.register_forward_pre_hook(lambda module, arguments: asked.extend(arguments))
    causal = nn.Transformer.generate_square_subsequent_mask(TIME)
    theirs(inputs, values, tgt_mask=causal, memory_key_padding_mask=~mask)
    hook.remove()
    expected = last(*asked, key_padding_mask=~mask, need_weights=True)[1]
    _, alphas, _ = ours(inputs, ours.initial_state(BATCH), ours.project(values, mask))
    torch.testing.assert_close(alphas, expected, **CLOSE)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("sizes", [(1,) * TIME, (2, 2), (1, 3)])
def test_the_cache_gives_what_a_whole_pass_gives(mask, rotary, sizes):
    decoder = randomize(TransformerDecoder(DIM, HEADS, LAYERS, HIDDEN, rotary=rotary))
    inputs, memory = torch.randn(BATCH, TIME, DIM), decoder.project(torch.randn(BATCH, SOURCE, DIM), mask)
    expected = decoder(inputs, decoder.initial_state(BATCH), memory)
    state, features, alphas = decoder.initial_state(BATCH), [], []
    for part in inputs.split(sizes, dim=1):
        feature, alpha, state = decoder(part, state, memory)
        features.append(feature)
        alphas.append(alpha)
    torch.testing.assert_close((torch.cat(features, 1), torch.cat(alphas, 1)), expected[:2], **CLOSE)
    for found, whole in zip(state.layers, expected[2].layers, strict=True):
        torch.testing.assert_close(tuple(found), tuple(whole), **CLOSE)


def test_rows_of_one_memory_equal_rows_with_copies_of_it(mask):
    layer = randomize(CrossAttention(DIM, HEADS, 0.0))
    values, inputs = torch.randn(BATCH, SOURCE, DIM), torch.randn(2 * BATCH, TIME, DIM)
    shared = layer(inputs, layer.attention.project(values), mask, report=True)
    copies, masks = values.repeat_interleave(2, dim=0), mask.repeat_interleave(2, dim=0)
    torch.testing.assert_close(shared, layer(inputs, layer.attention.project(copies), masks, report=True))


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_fused_kernel_equals_the_reported_weights_path(is_causal):
    layer = randomize(SelfAttention(DIM, HEADS, 0.0))
    inputs = torch.randn(BATCH, TIME, DIM)
    fused, no_alpha, _ = layer(inputs, is_causal=is_causal)
    plain, alpha, _ = layer(inputs, is_causal=is_causal, report=True)
    torch.testing.assert_close(fused, plain, **CLOSE)
    assert no_alpha is None
    assert bool(alpha.triu(1).any()) != is_causal


@pytest.mark.parametrize("report", [False, True])
def test_attention_to_nothing_adds_the_bias_alone(report):
    layer = randomize(CrossAttention(DIM, HEADS, 0.0))
    inputs, memory = torch.randn(1, TIME, DIM), layer.attention.project(torch.randn(1, SOURCE, DIM))
    outputs, alpha = layer(inputs, memory, torch.zeros(1, SOURCE, dtype=torch.bool), report)
    torch.testing.assert_close(outputs, inputs + layer.attention.output.bias)
    assert alpha is None or not alpha.any()


def test_learned_positions_are_added_and_end():
    embedding = TokenEmbedding(9, DIM, positions=3)
    tokens = torch.tensor([[4, 5]])
    expected = DIM**0.5 * embedding.weight[[4, 5]] + embedding.positions[1:3]
    torch.testing.assert_close(embedding(tokens, start=1)[0], expected)
    assert "model.learned_positions=3: a sequence has 4 tokens" in refusal(embedding, tokens, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 9, "heads": 2}, "model.dim=9: not a multiple of model.heads=2"),
        ({"dim": 8, "heads": 0}, "model.dim=8: not a multiple of model.heads=0"),
        ({"dim": 6, "heads": 2}, "model.dim=6: heads of 3 numbers"),
        ({"dim": 8, "heads": 2, "layers": 0}, "model.layers=0: a decoder needs 1 or more"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    assert message in refusal(TransformerDecoder, **{"layers": 1, "feed_forward": 4, **options})
