"""Minimum Bayes risk against similarities counted n-gram by n-gram, and against all outputs of a small model."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from attendgen.decoding.beam_size import beam_search
from torch import Tensor

from attendgen.data.batch import pad
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.mbr import apportion, expected_similarity
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD

LENGTH = 4


def words(tokens: list[int]) -> list[int]:
    return [token for token in tokens if token not in (PAD, EOS)]


def counted(tokens: list[int], n: int) -> dict[tuple[int, ...], float]:
    """The weights of an output's n-grams."""
    grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    return {gram: count * sum(math.log(1 + symbol) for symbol in gram) for gram, count in grams.items()}


def similarity(one: list[int], other: list[int]) -> float:
    """CIDEr-D's, for one pair."""
    one, other = words(one), words(other)
    total = 0.0
    for n in range(1, 5):
        ours, theirs = counted(one, n), counted(other, n)
        norm = math.hypot(*ours.values()) * math.hypot(*theirs.values())
        if norm:
            total += (
                sum(min(weight, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0) for gram, weight in ours.items()) / norm
            )
    return total / 4 * math.exp(-((len(one) - len(other)) ** 2) / 72)


def outputs(table, which: int) -> dict[tuple[int, ...], float]:
    """Every output of up to LENGTH symbols and its probability, among those with neither <pad> nor <sos>."""
    found = {}

    def grow(tokens: list[int], mass: float) -> None:
        if tokens and (tokens[-1] == EOS or len(tokens) == LENGTH):
            found[tuple(tokens)] = mass
            return
        allowed = table.look_up(which, tokens)[2].exp()
        allowed[:EOS] = 0.0
        for token in range(EOS, table.tokens):
            grow([*tokens, token], mass * float(allowed[token] / allowed.sum()))

    grow([], 1.0)
    return found


def test_similarity_is_counted_n_gram_by_n_gram():
    torch.manual_seed(0)
    draw = [[*torch.randint(3, 8, (length,)).tolist(), EOS] for length in (1, 5, 7, 9, 4, 2, 8)]
    repeated = [[3, 4, 3, 4, 3, 4, EOS], [EOS], [5, 5, 5, 5]]
    hypotheses, samples = [*draw[:4], *repeated], [*draw[2:], *repeated]
    expected = [sum(similarity(h, s) for s in samples) / len(samples) for h in hypotheses]
    assert expected_similarity(pad(hypotheses), pad(samples)).tolist() == pytest.approx(expected, abs=1e-6)


def test_an_output_is_like_itself_alone():
    same = pad([[3, 4, 5, 6, 7, EOS]])
    assert expected_similarity(same, same).item() == pytest.approx(1.0)
    assert expected_similarity(same, pad([[8, 9, 10, 11, EOS]])).item() == 0.0


def test_the_choice_is_that_of_the_expectation_over_all_outputs(table):
    torch.manual_seed(0)
    memory, state = table.encode(range(4))
    search = DecodingConfig(LENGTH, beam_size=8, mbr_samples=5_000, n_best=3)
    found = search(table, memory, state)
    candidates = beam_search(table, memory, state, LENGTH, width=8, n_best=8)
    differs = 0
    for which in range(4):
        every = outputs(table, which)
        assert sum(every.values()) == pytest.approx(1.0, abs=1e-5)
        risked = sorted(
            (
                (sum(mass * similarity(tokens, list(other)) for other, mass in every.items()), tokens)
                for tokens in ([t for t in row if t != PAD] for row in candidates.tokens[which].tolist())
            ),
            reverse=True,
        )
        assert found.scores[which].tolist() == pytest.approx([score for score, _ in risked[:3]], abs=0.02)
        for n in range(3):
            tokens = [t for t in found.tokens[which, n].tolist() if t != PAD]
            expected = {tuple(output): score for score, output in risked}[tuple(tokens)]
            assert expected == pytest.approx(risked[n][0], abs=0.02)
            log_probs, alphas, _ = table.look_up(which, tokens)
            torch.testing.assert_close(found.log_probs[which, n, : len(tokens)], torch.tensor(log_probs))
            torch.testing.assert_close(found.attention[which, n, : len(tokens)], torch.tensor(alphas))
        differs += found.tokens[which, 0].tolist() != candidates.tokens[which, 0, : found.tokens.size(2)].tolist()
    assert differs, "the likeliest output should not always be the one most like the others"


@pytest.mark.parametrize("consensus", [0, 5_000], ids=["neighbours alone", "with the model's samples"])
def test_neighbours_have_as_much_say_as_all_samples(table, consensus):
    torch.manual_seed(0)
    memory, state = table.encode(range(4))
    said = [[[3, 4], [5, EOS]], [[5, 5, 5]], [[4, 3, 5, 4], [3], [4, EOS]], [[5, 3, EOS]]]
    others = [pad(outputs_) for outputs_ in said]
    search = DecodingConfig(LENGTH, beam_size=8, n_best=8, mbr_samples=consensus, retrieval_captions=1)
    found = search(table, memory, state, others=others)
    for which in range(4):
        every = outputs(table, which)
        assert found.scores[which].isfinite().any()
        for ids, score in zip(found.tokens[which].tolist(), found.scores[which].tolist(), strict=True):
            if score == -math.inf:
                continue
            tokens = [token for token in ids if token != PAD]
            heard = [sum(similarity(tokens, other) for other in said[which]) / len(said[which])]
            if consensus:
                heard.append(sum(mass * similarity(tokens, list(other)) for other, mass in every.items()))
            assert score == pytest.approx(sum(heard) / len(heard), abs=0.02 if consensus else 1e-6)


def test_neighbours_that_nobody_knows_are_named(table):
    memory, state = table.encode(range(2))
    with pytest.raises(UserError, match=r"decoding\.neighbours=3: only captioners"):
        DecodingConfig(LENGTH, beam_size=4, retrieval_captions=3)(table, memory, state)


class CompositeModel(NamedTuple):
    """Tables that are asked apart."""

    shares: tuple[float, ...]
    tables: tuple[Any, ...]

    def step(self, tokens: Tensor, state: Any, memory: Any) -> Any:
        raise AssertionError("the tables are asked one by one")

    def apart(self, memory: Any, state: Any) -> list[tuple[float, Any, Any, Any]]:
        return [(share, table, memory, state) for share, table in zip(self.shares, self.tables, strict=True)]


def test_of_several_models_the_expectation_is_over_their_mixture(make_table):
    torch.manual_seed(3)
    tables = (make_table(), make_table(length=5), make_table())
    shares = (0.7, 0.3, 0.0)
    memory, state = tables[0].encode(range(4))
    found = DecodingConfig(LENGTH, beam_size=8, mbr_samples=4000, n_best=8)(
        CompositeModel(shares, tables), memory, state
    )
    for which in range(4):
        mixture: Counter[tuple[int, ...]] = Counter()
        proposed = set()
        for share, table in zip(shares[:2], tables[:2], strict=True):
            mixture.update({output: share * mass for output, mass in outputs(table, which).items()})
            alone = beam_search(table, memory, state, LENGTH, width=8, n_best=8)
            proposed |= {tuple(t for t in row if t != PAD) for row in alone.tokens[which].tolist()}
        risked = {
            tokens: sum(mass * similarity(list(tokens), list(other)) for other, mass in mixture.items())
            for tokens in proposed
        }
        assert found.scores[which].tolist() == pytest.approx(sorted(risked.values(), reverse=True)[:8], abs=0.02)
        written = [tuple(t for t in row if t != PAD) for row in found.tokens[which].tolist()]
        assert len(set(written)) == 8
        for n, tokens in enumerate(written):
            assert found.scores[which, n].item() == pytest.approx(risked[tokens], abs=0.02)
            log_probs = found.log_probs[which, n, : len(tokens)].tolist()
            assert any(log_probs == pytest.approx(table.look_up(which, tokens)[0]) for table in tables[:2])


def test_samples_are_shared_out_whole():
    assert apportion(10, [0.5, 0.5]) == [5, 5]
    assert apportion(100, [1 / 3] * 3) == [34, 33, 33]
    assert apportion(7, [0.6, 0.25, 0.15]) == [4, 2, 1]
    assert apportion(3, [1.0, 0.0]) == [3, 0]


def test_same_outputs_again(case):
    memory, state = case.encode(range(4))
    first, again = (DecodingConfig(8, beam_size=4, mbr_samples=6)(case.model, memory, state) for _ in range(2))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.scores, again.scores)
    other = DecodingConfig(8, beam_size=4, mbr_samples=6, seed=1)(case.model, memory, state)
    assert not torch.equal(first.scores, other.scores)


def test_scores_fall_and_missing_hypotheses_come_last(make_table):
    torch.manual_seed(1)
    table = make_table(vocab_size=4, length=2)
    memory, state = table.encode(range(4))
    scores = DecodingConfig(1, beam_size=8, n_best=8, mbr_samples=10)(table, memory, state).scores
    assert all(before >= after for row in scores.tolist() for before, after in pairwise(row))
    assert (scores == -torch.inf).sum(dim=1).tolist() == [6] * 4  # one symbol long: <eos> or the other symbol


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"consensus": -1, "beam": 4}, "consensus -1 is below 0"),
        ({"consensus": 5, "beam": 4, "temperature": 0.5, "n_best": 5}, "n-best 5 is larger than the beam's 4"),
        ({"consensus": 5}, "consensus 5 chooses among a beam's hypotheses; use --beam 20"),
        ({"neighbours": 5}, "neighbours 5 chooses among a beam's hypotheses; use --beam 20"),
        ({"neighbours": -1, "beam": 4}, "neighbours -1 is below 0"),
    ],
    ids=str,
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DecodingConfig(**options)
