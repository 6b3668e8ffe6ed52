"""Choosing hypotheses by facts, with a plain choice among all hypotheses of the beam."""

import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.facts import FactCheck, make_fact_check, rerank_by_facts
from attendgen.decoding.protocol import Decoded
from attendgen.layers.tables import Cell, Row
from attendgen.metrics.slot_errors import SlotErrors
from helpers.errors import refusal


class TokenMistakes:
    """Facts that are easily counted: a table names a token, which should come three times, and no other one."""

    def score_tables(self, outputs, references, tables):
        return {}

    def count_mistakes(self, output, table):
        return count_mistakes(output.split(), table[0].name)


def count_mistakes(tokens, wanted):
    said = sum(token == wanted for token in tokens)
    return abs(3 - said) + len(tokens) - said


TABLES = [(Row(str(number), ()),) for number in (3, 4, 5, 3)]
CHECK = FactCheck(TokenMistakes(), TABLES, lambda row, ids: " ".join(str(i) for i in ids if i))


def choose_plainly(found: Decoded, row: int, count: int):
    """The tokens of the best hypotheses of an input."""

    def rank(n):
        tokens = [str(token) for token in found.tokens[row, n].tolist() if token]
        return count_mistakes(tokens, TABLES[row][0].name), -found.scores[row, n].item()

    return [found.tokens[row, n].tolist() for n in sorted(range(found.tokens.size(1)), key=rank)[:count]]


@pytest.mark.parametrize(
    "settings", [{"beam_size": 6}, {"beam_size": 4, "mbr_samples": 5, "seed": 1}, {"temperature": 1.5, "seed": 2}]
)
def test_the_fewest_mistakes_come_first_and_then_the_best_score(table, settings):
    memory, state = table.encode(range(4))
    every = settings.get("beam_size", 6)
    found = decode(table, memory, state, DecodingConfig(4, n_best=every, **settings))
    count = 2 if "beam_size" in settings else every  # all samples are outputs
    config = DecodingConfig(4, n_best=count, facts=True, **settings)
    chosen = decode(table, memory, state, config, facts=CHECK)
    length = found.tokens.size(2)
    assert chosen.tokens[:, :, :length].tolist() == [choose_plainly(found, row, count) for row in range(4)]
    assert chosen.tokens[:, 0].tolist() != found.tokens[:, 0].tolist()


def test_outputs_that_do_not_exist_come_last():
    tokens = torch.tensor([[[5, 2], [0, 0], [3, 3]]])
    scores = torch.tensor([[-3.0, -torch.inf, -1.0]])
    candidates = Decoded(tokens, scores, torch.zeros(1, 3, 2), torch.zeros(1, 3, 2, 1))
    check = CHECK._replace(tables=TABLES[:1])
    assert rerank_by_facts(candidates, check, 3).tokens.tolist() == [[[3, 3], [5, 2], [0, 0]]]


def test_a_hypothesis_that_says_the_slots_is_chosen(table):
    words = {3: "riverside", 4: "French", 5: "Cotto"}
    slots = (("name", "Cotto"), ("food", "French"))
    rows = tuple(Row(slot, (Cell(slot, "", value),)) for slot, value in slots)
    config = DecodingConfig(4, beam_size=20, facts=True)
    check = make_fact_check(
        config, lambda: [SlotErrors()], lambda: [rows], lambda row, ids: " ".join(words.get(token, "") for token in ids)
    )
    memory, state = table.encode([0])
    chosen = decode(table, memory, state, config, facts=check).tokens[0, 0].tolist()
    assert {4, 5} <= set(chosen)
    assert 3 not in chosen
    assert make_fact_check(DecodingConfig(), list, list, check.spell) is None


def test_facts_are_refused_where_there_is_nothing_to_choose_or_no_table(table):
    memory, state = table.encode(range(2))
    for settings in ({}, {"temperature": 1.0}):
        assert refusal(DecodingConfig, facts=True, **settings).startswith("decoding.facts=true: chooses among several")
    config = DecodingConfig(4, beam_size=2, facts=True)
    assert refusal(decode, table, memory, state, config).startswith("decoding.facts=true: only models that write")
    object.__setattr__(config, "facts", 1)  # the run-time type check of the tests would refuse it in a call
    assert refusal(config.__post_init__) == "decoding.facts=1: expected true or false"
    object.__setattr__(config, "facts", True)
    assert not config.override(temperature=0.7).facts
    assert not config.override(beam_size=1).facts
    assert config.override(temperature=0.7, n_best=5, facts=True).facts
