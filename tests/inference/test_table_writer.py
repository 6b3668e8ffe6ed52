"""A writer generates about and scores one table as its model does step by step."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from attendgen.data.tables.table import TableText, parse_slots
from attendgen.data.tables.vocabulary import build_table_vocabulary
from attendgen.inference.report import make_data
from attendgen.inference.table_writer import TableWriter
from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.records import RecordEncoder
from attendgen.layers.state import map_tensors
from attendgen.models.table_to_text import TableToText
from attendgen.runs.run import Run
from attendgen.text.tokenizers import LevelTokenizer
from attendgen.utils.special_tokens import EOS, SOS
from helpers.errors import refusal

EAGLE, AROMI = "name[The Eagle], food[French]", "food[Fast food], name[Aromi], area[riverside]"
TEXTS = {EAGLE: "The Eagle serves French food.", AROMI: "Aromi has Fast food in riverside."}
DECODING = {"_target_": "attendgen.decoding.DecodingConfig", "max_length": 8}


def make_writer(**options: Any) -> TableWriter:
    """Return an untrained model that copies."""
    torch.manual_seed(0)
    pairs = [TableText(parse_slots(table), text) for table, text in TEXTS.items()]
    vocabulary = build_table_vocabulary(pairs, LevelTokenizer("words"), **options)
    encoder, attention = partial(RecordEncoder, dim=8, embedding_dim=6), AdditiveAttention
    sizes = {"encoder": encoder, "attention": attention, "embedding_dim": 6, "hidden": 8}
    model = TableToText(**vocabulary.sizes(), **sizes, copy="mixture").eval()
    metrics = [{"_target_": "attendgen.metrics.SlotErrors"}]
    config = OmegaConf.create({"decoding": DECODING, "task": {"metrics": metrics}})
    return TableWriter(Run(None, Path("best.ckpt"), config, vocabulary), model)


def score_stepwise(writer: TableWriter, table: str, ids: list[int]) -> tuple[list[float], list[np.ndarray]]:
    """Return the log-probability of each id, and the attention with which it is predicted."""
    memory, state = writer.model.encode(writer._encode([parse_slots(table)]))
    log_probs, attention = [], []
    for previous, current in zip([SOS, *ids[:-1]], ids, strict=True):
        scores, alpha, state = writer.model.step(torch.tensor([previous]), state, memory)
        log_probs.append(float(scores[0, current]))
        attention.append(alpha[0].numpy())
    return log_probs, attention


@torch.inference_mode()
def test_results_hold_the_models_log_probabilities_and_attention_over_the_cells() -> None:
    writer = make_writer()
    found = writer.generate(AROMI, beam_size=3, n_best=2, alternatives=len(writer.vocabulary.target))
    assert len(found) == 2
    for result in found:
        ids = [writer.vocabulary.target.ids[token] for token in result.tokens]
        log_probs, attention = score_stepwise(writer, AROMI, ids)
        np.testing.assert_allclose(result.log_probs, log_probs, atol=1e-4)
        np.testing.assert_allclose(result.attention, attention, atol=1e-5)
        assert result.source == ["food Fast", "food food", "name Aromi", "area riverside"]
        assert result.rows == [1, 1, 2, 3]
        own = [step[token] for step, token in zip(result.alternatives, result.tokens, strict=True)]
        np.testing.assert_allclose(own, log_probs, atol=1e-4)
    (item,) = make_data({"": [found]})["items"]
    assert item["kind"] == "table"


@torch.inference_mode()
def test_a_score_includes_the_end_of_the_text() -> None:
    writer = make_writer()
    scored = writer.score(EAGLE, TEXTS[EAGLE])
    log_probs, _ = score_stepwise(writer, EAGLE, [*writer.vocabulary.target.encode(TEXTS[EAGLE]), EOS])
    assert (scored.text, scored.tokens[-1]) == (TEXTS[EAGLE], "<eos>")
    assert scored.score == pytest.approx(sum(log_probs), abs=1e-3)


def test_a_batch_of_tables_gives_the_outputs_of_each_alone() -> None:
    writer = make_writer()
    tables = [AROMI, EAGLE, parse_slots(EAGLE)]
    for together, table in zip(writer.generate_all(tables, beam_size=3), tables, strict=True):
        alone = writer.generate(table, beam_size=3)[0]
        assert (together[0].text, together[0].source) == (alone.text, alone.source)
        np.testing.assert_allclose(together[0].attention, alone.attention, atol=1e-5)


def test_long_tables_are_truncated_as_in_training(caplog: pytest.LogCaptureFixture) -> None:
    writer = make_writer()
    short = writer.generate("food[Fast food], name[Aromi]")[0]
    assert not caplog.records
    writer.run.config.data = {"max_cells": 3}  # a value of two words has two cells
    long = writer.generate(AROMI)[0]
    assert (long.text, long.source, long.rows) == (short.text, short.source, [1, 1, 2])
    np.testing.assert_allclose(long.attention, short.attention)
    assert caplog.messages == ["data.max_cells=3, as in training: 1 of 1 tables truncated"]


def test_placeholders_are_replaced_by_the_values_of_the_table() -> None:
    writer = make_writer(delexicalise=["name"])
    for name in ("The Eagle", "My Own Inn"):  # a name that the model has never seen
        scored = writer.score(f"name[{name}], food[French]", f"{name} serves French food.")
        assert scored.tokens[0] == "X_name"
        assert scored.text == f"{name} serves French food."
    with torch.no_grad():  # it says nothing but the placeholder
        map_tensors(lambda weight: weight.zero_(), list(writer.model.parameters()))
        writer.model.output.bias[writer.vocabulary.target.ids["X_name"]] = 50.0
    (result,) = writer.generate("name[My Own Inn]", max_length=2)
    assert (result.text, result.tokens) == ("My Own Inn My Own Inn", ["X_name", "X_name"])


def test_facts_choose_among_the_beam() -> None:
    writer = make_writer()
    metric = writer._metrics[0]
    outputs = writer.generate(EAGLE, beam_size=6, n_best=6)
    (best,) = writer.generate(EAGLE, beam_size=6, facts=True)
    mistakes = [metric.count_mistakes(result.text, parse_slots(EAGLE)) for result in outputs]
    assert best.text == outputs[mistakes.index(min(mistakes))].text


def test_files_hold_inputs(tmp_path: Path) -> None:
    writer = make_writer()
    csv, lines = tmp_path / "tables.csv", tmp_path / "tables.txt"
    csv.write_text(f'mr,ref\n"{EAGLE}",a\n"{AROMI}",b\n', encoding="utf-8")
    lines.write_text(f"{EAGLE}\n\n{AROMI}\n", encoding="utf-8")
    expected = [parse_slots(EAGLE), parse_slots(AROMI)]
    assert list(map(writer.encode_text, writer.read_inputs(csv))) == expected
    assert writer.read_inputs(lines) == [EAGLE, AROMI]
    assert [list(map(writer.encode_text, block)) for block in writer.read_line_blocks(str(csv))] == [expected]
    assert list(writer.read_line_blocks(str(lines))) == [[EAGLE, "", AROMI]]
    lines.write_text("\n", encoding="utf-8")
    assert refusal(writer.read_inputs, lines) == f"{lines}: no tables; expected one per line"
    assert "slot 'colour': unknown" in refusal(writer.generate, (*parse_slots(EAGLE), *parse_slots("colour[red]")))
