"""Decoding with products made once finds what decoding with a model's own step finds."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.layers.attention_unit import AttentionUnit
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.prepared import prepare_decoding
from attendgen.layers.records import RecordEncoder
from attendgen.layers.row_attention import RowAttention
from attendgen.layers.state import map_tensors, repeat_rows
from attendgen.layers.tables import Cells
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.ensemble import CaptionerEnsemble, Ensemble
from attendgen.models.prepared import PreparedCaptioner, PreparedSeq2Seq, PreparedTableToText
from attendgen.models.seq2seq import Seq2Seq
from attendgen.models.table_to_text import TableToText

VOCABULARY = 23
SMALL: dict[str, Any] = {"embedding_dim": 7, "hidden": 8}


def make_captioner(encoder: SmallCNN | None = None, **settings: Any) -> Captioner:
    encoder = encoder or SmallCNN((4, 6), size=8)
    return Captioner(VOCABULARY, encoder, partial(AdditiveAttention, dim=6), **SMALL, **settings)


def make_translator(**settings: Any) -> Seq2Seq:
    return Seq2Seq(12, VOCABULARY, GeneralAttention, bidirectional=True, encoder_hidden=5, **SMALL, **settings)


def make_images() -> torch.Tensor:
    return torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)


def make_sources() -> torch.Tensor:
    return pad([[4, 5, 6, 7, 8, 9, 10], [4], [5, 5, 5], [11, 4], [6], [8, 7, 6, 5]])


def make_writer(**settings: Any) -> TableToText:
    sizes = {f"{name}_vocab_size": 12 for name in ("kind", "entity", "value", "place")}
    encoder = partial(RecordEncoder, dim=6, embedding_dim=4)
    settings = {"attention": GeneralAttention, **SMALL, **settings}
    return TableToText(**sizes, target_vocab_size=VOCABULARY, encoder=encoder, **settings)


def make_tables() -> Cells:
    ids = make_sources()
    return Cells(*(torch.where(ids > 0, part, 0) for part in (ids, 3, ids, 2, (ids + 3) // 4, ids + 2)))


def make_ensemble_of_captioners() -> CaptionerEnsemble:
    members = [lambda encoder, **_: make_captioner(encoder), lambda encoder, **_: make_captioner(encoder, hidden=8)]
    return CaptionerEnsemble(members[:1] * 2, SmallCNN((4, 6), size=8), [0.7, 0.4], vocab_size=VOCABULARY)


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "captioner": (make_captioner, make_images),
    "captioner, features reduced": (partial(make_captioner, feature_dim=5), make_images),
    "captioner, gate of vectors": (partial(make_captioner, context_gate="vector"), make_images),
    "captioner, hard": (partial(make_captioner, inference_attention="argmax"), make_images),
    "captioner, shallow output": (partial(make_captioner, deep_output=False), make_images),
    "translator": (make_translator, make_sources),
    "translator, tied": (partial(make_translator, tied=True), make_sources),
    "translator, luong": (partial(make_translator, decoder=LuongDecoder), make_sources),
    "writer": (make_writer, make_tables),
    "writer, copying": (partial(make_writer, copy="mixture", decoder=partial(AttentionUnit, looks=1)), make_tables),
    "writer, rows": (partial(make_writer, attention=RowAttention), make_tables),
    "ensemble of captioners": (make_ensemble_of_captioners, make_images),
    "ensemble of translators": (lambda: Ensemble([lambda **_: make_translator()] * 2), make_sources),
}
MODES = {
    "greedy": DecodingConfig(max_length=9),
    "beam": DecodingConfig(max_length=9, beam_size=4, n_best=3),
    "sampling": DecodingConfig(max_length=9, temperature=1.3, n_best=5, seed=2),
    "mbr": DecodingConfig(max_length=9, beam_size=4, mbr_samples=8, seed=2),
}


def make_model(name: str) -> tuple[Any, Any]:
    make, make_inputs = CASES[name]
    model = make().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    return model, make_inputs()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_outputs_are_those_of_the_models_own_step(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make_model(name)
    found = decode(model, *model.encode(inputs), MODES[mode])
    monkeypatch.setattr("attendgen.decoding.decode.prepare_decoding", lambda model, memory, tokens: (model, memory))
    expected = decode(model, *model.encode(inputs), MODES[mode])
    assert found.tokens.equal(expected.tokens)
    torch.testing.assert_close(found[1:], expected[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_steps_are_near_in_bfloat16(name: str) -> None:
    model, inputs = make_model(name)
    model.bfloat16()
    memory, state = model.encode(inputs)
    prepared, products = prepare_decoding(model, memory, 1000)
    own = other = repeat_rows(map_tensors(torch.Tensor.float, state), 2)
    for _ in range(3):
        tokens = torch.randint(4, VOCABULARY, (12,))
        expected, weights, own = model.step(tokens, own, memory)
        found, same_weights, other = prepared.step(tokens, other, products)
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.3)
        torch.testing.assert_close(same_weights, weights, rtol=0.1, atol=0.05)


@torch.no_grad()
def test_models_in_double_precision_decode() -> None:
    model, images = make_captioner().eval().double(), make_images()
    for mode in ("greedy", "sampling", "beam"):
        found = decode(model, *model.encode(images), MODES[mode])
        assert found.scores.dtype == torch.float
        torch.testing.assert_close(found.scores, decode(model.float(), *model.encode(images), MODES[mode]).scores)
        model.double()


def test_models_with_steps_of_their_own_are_not_prepared() -> None:
    class Own(Captioner):
        def step(self, *arguments: Any) -> Any:
            return super().step(*arguments)

    images = make_images()
    settings = {"vocab_size": VOCABULARY, "encoder": SmallCNN((4, 6), size=8), "attention": GeneralAttention}
    for model, prepared in ((Captioner(**settings, **SMALL), PreparedCaptioner), (Own(**settings, **SMALL), Own)):
        memory, _ = model.eval().encode(images)
        assert type(prepare_decoding(model, memory, 9)[0]) is prepared
    translator = make_translator()
    memory, _ = translator.encode(make_sources())
    assert prepare_decoding(translator, memory, 9) == (translator, memory), "a model in training has dropout"
    assert isinstance(prepare_decoding(translator.eval(), memory, 9)[0], PreparedSeq2Seq)
    writer = make_writer().eval()
    assert isinstance(prepare_decoding(writer, writer.encode(make_tables())[0], 9)[0], PreparedTableToText)
