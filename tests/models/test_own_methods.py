"""Whatever a subclass, a replaced layer or a hook changes in a model's parts is what the model decodes and trains with.

Decoding is compared with a loop over the model's own `step`, and teacher forcing with the same steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from attendgen.data.batch import pad
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.layers.attention import AdditiveAttention, DotAttention, GeneralAttention
from attendgen.layers.attention_unit import AttentionUnit
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.past_attention import CoverageAttention
from attendgen.layers.records import RecordEncoder
from attendgen.layers.row_attention import RowAttention
from attendgen.layers.state import map_tensors, repeat_rows
from attendgen.layers.tables import Cells
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.ensemble import Ensemble
from attendgen.models.seq2seq import Seq2Seq
from attendgen.models.table_to_text import TableToText
from attendgen.utils.special_tokens import PAD, SOS

WORDS, TIME = 17, 5
SMALL: dict[str, Any] = {"embedding_dim": 5, "hidden": 6}


class Peaked(DotAttention):
    """A weighted sum whose weights are not the softmax of the layer's scores."""

    context_is_weighted_sum = True

    def forward(self, query, keys, memory, mask=None):
        return super().forward(2 * query, keys, memory, mask)


def make_translator(**settings: Any) -> Seq2Seq:
    return Seq2Seq(12, WORDS, **{"attention": AdditiveAttention, **SMALL, **settings})


def make_captioner(**settings: Any) -> Captioner:
    encoder = SmallCNN((4, 6), size=8)
    return Captioner(WORDS, encoder, **{"attention": AdditiveAttention, **SMALL, **settings})


def make_writer(**settings: Any) -> TableToText:
    sizes = {f"{name}_vocab_size": 12 for name in ("kind", "entity", "value", "place")}
    encoder = partial(RecordEncoder, dim=6, embedding_dim=4)
    return TableToText(
        **sizes, target_vocab_size=WORDS, encoder=encoder, **{"attention": AdditiveAttention, **SMALL, **settings}
    )


MODELS: dict[str, Callable[[], Any]] = {
    "translator": make_translator,
    "translator, tied": partial(make_translator, attention=GeneralAttention, tied=True),
    "translator, luong": partial(make_translator, decoder=LuongDecoder),
    "translator, parallel": partial(make_translator, decoder=partial(LuongDecoder, input_feeding=False)),
    "translator, coverage": partial(make_translator, attention=CoverageAttention),
    "captioner": make_captioner,
    "captioner, shallow": partial(make_captioner, deep_output=False, context_gate="vector"),
    "writer": make_writer,
    "writer, one look": partial(make_writer, attention=GeneralAttention, decoder=partial(AttentionUnit, looks=1)),
    "writer, rows": partial(make_writer, attention=RowAttention),
    "writer, bahdanau": partial(make_writer, decoder=BahdanauDecoder),
    "writer, own sum": partial(make_writer, attention=Peaked),
}


def make_inputs(model: Any) -> Any:
    if isinstance(model, Captioner):
        return torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ids = pad([[4, 5, 6, 7, 8, 9, 10], [4], [8, 7, 6, 5]])
    if isinstance(model, TableToText):
        return Cells(*(torch.where(ids > 0, part, 0) for part in (ids, 3, ids, 2, (ids + 3) // 4, ids + 2)))
    return ids


def make_model(name: str) -> Any:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    return model


def decode_by_steps(model: Any, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the greedy tokens and their log-probabilities."""
    memory, state = model.encode(inputs)
    tokens, chosen = [torch.full((3,), SOS)], []
    for _ in range(TIME):
        log_probs, _, state = model.step(tokens[-1], state, memory)
        log_probs[:, [PAD, SOS]] = -torch.inf
        best = log_probs.max(dim=1)
        tokens.append(best.indices)
        chosen.append(best.values)
    return torch.stack(tokens[1:], 1), torch.stack(chosen, 1)


def score_by_steps(model: Any, inputs: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of all words after each of `tokens`, row by row."""
    memory, state = model.encode(inputs)
    state, found = repeat_rows(state, len(tokens) // 3), []
    for word in tokens.unbind(1):
        log_probs, _, state = model.step(word, state, memory)
        found.append(log_probs)
    return torch.stack(found, dim=1)


def force(model: Any, inputs: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(inputs, tokens.unsqueeze(1) if isinstance(model, Captioner) else tokens)[0]
    return logits.reshape(len(tokens), TIME, -1).log_softmax(dim=-1)


@torch.no_grad()
def check(name: str, change: Callable[[Any], None], trains: bool = True) -> None:
    """Compare all ways in which a changed model is used.

    Args:
        trains: compare teacher forcing, too.
    """
    plain, model = make_model(name), make_model(name)
    change(model)
    inputs = make_inputs(model)
    tokens = torch.randint(4, 12, (3, TIME))
    steps = score_by_steps(model, inputs, tokens)
    assert not steps.allclose(score_by_steps(plain, inputs, tokens), atol=1e-3), "the change has no effect"
    if trains:
        torch.testing.assert_close(force(model, inputs, tokens), steps, rtol=1e-4, atol=1e-4)
    expected, scores = decode_by_steps(model, inputs)
    greedy = decode(model, *model.encode(inputs), DecodingConfig(max_length=TIME), eos_id=None)
    assert greedy.tokens[:, 0].equal(expected)
    torch.testing.assert_close(greedy.log_probs[:, 0], scores, rtol=1e-4, atol=1e-4)
    beam = DecodingConfig(max_length=TIME, beam_size=3, n_best=3)  # products are made once for many hypotheses
    for config in (beam, DecodingConfig(max_length=TIME, temperature=1.0, n_best=3, seed=1)):
        found = decode(model, *model.encode(inputs), config, eos_id=None)
        shifted = torch.cat([torch.full((9, 1), SOS), found.tokens.flatten(0, 1)[:, :-1]], dim=1)
        given = score_by_steps(model, inputs, shifted).gather(2, found.tokens.flatten(0, 1).unsqueeze(2))
        torch.testing.assert_close(found.log_probs.flatten(0, 1), given.squeeze(2), rtol=1e-3, atol=1e-3)


def scale(tree: Any) -> Any:
    return map_tensors(lambda part: 1.3 * part if part.is_floating_point() else part, tree)


def override(path: str, method: str) -> Callable[[Any], None]:
    """Return what makes a part an instance of a subclass with another method."""

    def change(model: Any) -> None:
        part = model.get_submodule(path)

        def changed(self: Any, *arguments: Any, **options: Any) -> Any:
            return scale(getattr(super(kind, self), method)(*arguments, **options))

        kind = type("Own", (type(part),), {method: changed})
        part.__class__ = kind

    return change


STEPS = {"step", "initial_state", "keys"}
DECODER_METHODS = {
    "translator": STEPS | {"attend_step", "attend", "update"},
    "translator, tied": {"step", "update"},
    "translator, luong": STEPS,
    "translator, parallel": STEPS,
    "translator, coverage": {"step", "attend"},
    "captioner": {"attend_step", "attend", "update", "initial_state", "keys"},
    "captioner, shallow": {"attend", "update"},
    "writer": STEPS | {"attend_step", "attend_mapped"},
    "writer, one look": {"step", "attend_step"},
    "writer, rows": {"attend_mapped"},
    "writer, bahdanau": {"step", "attend"},
}
METHODS = [(name, "decoder", method) for name, methods in DECODER_METHODS.items() for method in sorted(methods)]
METHODS += [(name, "", "logits") for name in MODELS if "writer" not in name]
METHODS += [(name, "", "predict") for name in MODELS if "writer" in name]
METHODS += [("captioner", "", "read_out")]
OWN_ATTENTION = ("translator", "translator, luong", "captioner, shallow", "writer, one look", "writer, rows")
METHODS += [(name, "decoder.attention", method) for name in OWN_ATTENTION for method in ("forward", "keys")]
METHODS += [
    (name, "decoder.attention", "score_keys") for name in ("translator", "translator, tied", "writer, one look")
]
METHODS += [("writer, own sum", "decoder", "initial_state")]
METHODS += [("writer, rows", "decoder.attention.cells", method) for method in ("keys", "score_keys")]


@pytest.mark.parametrize(("name", "path", "method"), METHODS)
def test_a_method_of_a_subclass_is_what_is_trained_and_decoded_with(name: str, path: str, method: str) -> None:
    check(name, override(path, method))


@pytest.mark.parametrize("name", ["translator", "captioner", "writer"])
def test_a_models_own_step_is_decoded_with(name: str) -> None:
    def change(model: Any) -> None:
        step = model.step
        model.step = lambda *given: (step(*given)[0].mul(2).log_softmax(-1), *step(*given)[1:])

    check(name, change, trains=False)


class Adapted(nn.Module):
    """A linear layer with a low-rank addition, which looks like a linear layer."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.weight, self.bias, self.out_features = base.weight, base.bias, base.out_features
        self.down, self.up = nn.Linear(base.in_features, 2), nn.Linear(2, base.out_features)

    def forward(self, inputs):
        return self.base(inputs) + self.up(self.down(inputs))


def replace(path: str, make: Callable[[Any], nn.Module]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        parent, _, name = path.rpartition(".")
        torch.manual_seed(1)
        setattr(model.get_submodule(parent), name, make(model.get_submodule(path)))

    return change


def hook(path: str) -> Callable[[Any], None]:
    return lambda model: model.get_submodule(path).register_forward_hook(lambda _module, _inputs, output: scale(output))


LAYERS = {
    "translator": ["decoder.input_gates", "decoder.recurrent_gates", "decoder.attention.query_proj", "output"],
    "translator, tied": ["readout"],
    "translator, luong": ["decoder.combine"],
    "translator, coverage": ["decoder.attention.coverage"],
    "captioner": ["decoder.context_gate", "deep_context", "deep_hidden", "decoder.recurrent_gates", "output"],
    "writer": ["decoder.input_maps", "decoder.hidden_gates", "decoder.context_gates", "decoder.candidate", "output"],
    "writer, rows": ["decoder.attention.cells.query_proj", "decoder.attention.rows.score"],
}
PAIRS = [(name, path) for name, paths in LAYERS.items() for path in paths]


@pytest.mark.parametrize(("name", "path"), PAIRS)
def test_replaced_layers_and_hooks_are_what_is_trained_and_decoded_with(name: str, path: str) -> None:
    check(name, replace(path, Adapted))
    check(name, replace(path, lambda layer: nn.Sequential(layer, nn.Tanh())))
    check(name, hook(path))


@pytest.mark.parametrize("path", ["decoder.recurrent_gates", "decoder.attention.query_proj", "output"])
def test_a_linear_layer_may_get_or_lose_its_bias(path: str) -> None:
    def make(layer: nn.Linear) -> nn.Linear:
        return nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is None)

    check("translator", replace(path, make))


@pytest.mark.parametrize(
    ("name", "path"), [("translator", "target_embedding"), ("captioner", "embedding"), ("writer", "embedding")]
)
def test_hooks_of_embeddings_change_decoding(name: str, path: str) -> None:
    check(name, hook(path))


@pytest.mark.parametrize("name", ["translator", "writer"])
def test_another_layer_in_place_of_dropout_is_called(name: str) -> None:
    check(name, replace("dropout", lambda _: nn.Tanh()))


@pytest.mark.parametrize("name", ["translator", "captioner", "writer"])
@torch.no_grad()
def test_dropout_that_is_left_on_changes_what_is_decoded(name: str) -> None:
    model = make_model(name)
    model.dropout.p = 0.5
    model.dropout.train()
    inputs, config = make_inputs(model), DecodingConfig(max_length=TIME)
    scores = [decode(model, *model.encode(inputs), config).scores for _ in range(2)]
    assert not scores[0].equal(scores[1])


def test_a_decoder_with_a_step_of_its_own_is_a_captioners_plain_decoder() -> None:
    class Own(BahdanauDecoder):
        def step(self, inputs, state, memory):
            features, alpha, state = super().step(inputs, state, memory)
            return 2 * features, alpha, state

    model = make_captioner(decoder=Own)
    assert not model.can_be_hard
    assert make_captioner(decoder=BahdanauDecoder).can_be_hard


@torch.no_grad()
def test_an_ensembles_own_step_is_decoded_with() -> None:
    class Flat(Ensemble):
        def step(self, tokens, state, memory):
            log_probs, alpha, state = super().step(tokens, state, memory)
            return log_probs.mul(0.5).log_softmax(dim=-1), alpha, state

    model = make_model("translator")
    inputs = make_inputs(model)
    ensemble = Flat([lambda: model]).eval()
    found = decode(ensemble, *ensemble.encode(inputs), DecodingConfig(max_length=TIME), eos_id=None)
    torch.testing.assert_close(found.log_probs[:, 0], decode_by_steps(ensemble, inputs)[1], rtol=1e-4, atol=1e-4)
