"""Minimum Bayes risk against a plain count of n-grams, and against the expectation over all outputs of a table."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from attendgen.data.batch import pad
from attendgen.decoding.beam import beam_search
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.mbr import apportion, compare_outputs, concat_outputs, mbr_rerank
from attendgen.decoding.protocol import CompositeModel, Decoded
from attendgen.layers.state import Member
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD

LENGTH = 4


def words(tokens: list[int]) -> list[int]:
    return [token for token in tokens if token not in (PAD, EOS)]


def weigh_ngrams(tokens: list[int], n: int) -> dict[tuple[int, ...], float]:
    """Return the weights of an output's n-grams."""
    grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    return {gram: count * sum(math.log(1 + token) for token in gram) for gram, count in grams.items()}


def similarity(one: list[int], other: list[int]) -> float:
    """Return the similarity of CIDEr-D for one pair."""
    one, other = words(one), words(other)
    total = 0.0
    for n in range(1, 5):
        ours, theirs = weigh_ngrams(one, n), weigh_ngrams(other, n)
        norm = math.hypot(*ours.values()) * math.hypot(*theirs.values())
        if norm:
            total += (
                sum(min(weight, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0) for gram, weight in ours.items()) / norm
            )
    return total / 4 * math.exp(-((len(one) - len(other)) ** 2) / 72)


def outputs(table, which: int) -> dict[tuple[int, ...], float]:
    """Return every output of up to LENGTH tokens without <pad> and <sos>, and its probability."""
    found = {}

    def grow(tokens: list[int], mass: float) -> None:
        if tokens and (tokens[-1] == EOS or len(tokens) == LENGTH):
            found[tuple(tokens)] = mass
            return
        allowed = table.look_up(which, tokens)[2].exp()
        allowed[:EOS] = 0.0
        for token in range(EOS, table.vocab_size):
            grow([*tokens, token], mass * float(allowed[token] / allowed.sum()))

    grow([], 1.0)
    return found


def test_similarity_equals_a_count_of_each_n_gram():
    torch.manual_seed(0)
    draw = [[*torch.randint(3, 8, (length,)).tolist(), EOS] for length in (1, 5, 7, 9, 4, 2, 8)]
    repeated = [[3, 4, 3, 4, 3, 4, EOS], [EOS], [5, 5, 5, 5]]
    hypotheses, samples = [*draw[:4], *repeated], [*draw[2:], *repeated]
    batch = [(hypotheses, samples), (samples[:7], [*hypotheses, [3]]), (hypotheses[::-1], [[9, 4, EOS]] * 8)]
    ours, theirs = (torch.stack([pad([*rows, [3] * 12])[:-1] for rows in part]) for part in zip(*batch, strict=True))
    for (left, right), found in zip(batch, compare_outputs(ours, theirs), strict=True):
        expected = torch.tensor([[similarity(one, other) for other in right] for one in left])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_similarity_is_1_to_itself_and_0_without_common_tokens():
    same = pad([[3, 4, 5, 6, 7, EOS]]).unsqueeze(0)
    assert compare_outputs(same, same).item() == pytest.approx(1.0)
    assert compare_outputs(same, pad([[8, 9, 10, 11, EOS]]).unsqueeze(0)).item() == 0.0


def test_scores_equal_the_expectation_over_all_outputs(table):
    torch.manual_seed(0)
    memory, state = table.encode(range(4))
    config = DecodingConfig(LENGTH, beam_size=8, mbr_samples=5_000, n_best=3)
    found = decode(table, memory, state, config)
    candidates = beam_search(table, memory, state, LENGTH, width=8, n_best=8)
    differs = 0
    for which in range(4):
        every = outputs(table, which)
        assert sum(every.values()) == pytest.approx(1.0, abs=1e-5)
        expected_scores = sorted(
            (
                (sum(mass * similarity(tokens, list(other)) for other, mass in every.items()), tokens)
                for tokens in ([t for t in row if t != PAD] for row in candidates.tokens[which].tolist())
            ),
            reverse=True,
        )
        assert found.scores[which].tolist() == pytest.approx([score for score, _ in expected_scores[:3]], abs=0.02)
        for n in range(3):
            tokens = [t for t in found.tokens[which, n].tolist() if t != PAD]
            expected = {tuple(output): score for score, output in expected_scores}[tuple(tokens)]
            assert expected == pytest.approx(expected_scores[n][0], abs=0.02)
            log_probs, alphas, _ = table.look_up(which, tokens)
            torch.testing.assert_close(found.log_probs[which, n, : len(tokens)], torch.tensor(log_probs))
            torch.testing.assert_close(found.attention[which, n, : len(tokens)], torch.tensor(alphas))
        differs += found.tokens[which, 0].tolist() != candidates.tokens[which, 0, : found.tokens.size(2)].tolist()
    assert differs, "the most probable output should not always have the greatest expected similarity"


@pytest.mark.parametrize("samples", [0, 5_000], ids=["nearest captions alone", "with the model's samples"])
def test_nearest_captions_weigh_as_much_as_all_samples(table, samples):
    torch.manual_seed(0)
    memory, state = table.encode(range(4))
    nearest = [[[3, 4], [5, EOS]], [[5, 5, 5]], [[4, 3, 5, 4], [3], [4, EOS]], [[5, 3, EOS]]]
    config = DecodingConfig(LENGTH, beam_size=8, n_best=8, mbr_samples=samples, retrieval_captions=1)
    found = decode(table, memory, state, config, retrieved=[pad(captions) for captions in nearest])
    for which in range(4):
        every = outputs(table, which)
        assert found.scores[which].isfinite().any()
        for ids, score in zip(found.tokens[which].tolist(), found.scores[which].tolist(), strict=True):
            if score == -math.inf:
                continue
            tokens = [token for token in ids if token != PAD]
            similarities = [sum(similarity(tokens, other) for other in nearest[which]) / len(nearest[which])]
            if samples:
                similarities.append(sum(mass * similarity(tokens, list(other)) for other, mass in every.items()))
            assert score == pytest.approx(sum(similarities) / len(similarities), abs=0.02 if samples else 1e-6)


def test_retrieval_without_nearest_captions_is_refused(table):
    memory, state = table.encode(range(2))
    with pytest.raises(UserError, match=r"decoding\.retrieval_captions=3: only captioners"):
        decode(table, memory, state, DecodingConfig(LENGTH, beam_size=4, retrieval_captions=3))


class Mixture(NamedTuple):
    """Tables that decode one by one."""

    shares: tuple[float, ...]
    tables: tuple[Any, ...]

    def step(self, tokens: Tensor, state: Any, memory: Any) -> Any:
        raise AssertionError("the tables decode one by one")

    def split_members(self, memory: Any, state: Any) -> list[Member]:
        return [Member(share, table, memory, state) for share, table in zip(self.shares, self.tables, strict=True)]


def test_expectation_of_several_models_is_over_their_mixture(make_table):
    torch.manual_seed(3)
    tables = (make_table(), make_table(length=5), make_table())
    shares = (0.7, 0.3, 0.0)
    memory, state = tables[0].encode(range(4))
    model = Mixture(shares, tables)
    assert isinstance(model, CompositeModel)
    found = decode(model, memory, state, DecodingConfig(LENGTH, beam_size=8, mbr_samples=4000, n_best=8))
    for which in range(4):
        mixture: Counter[tuple[int, ...]] = Counter()
        proposed = set()
        for share, table in zip(shares[:2], tables[:2], strict=True):
            mixture.update({output: share * mass for output, mass in outputs(table, which).items()})
            alone = beam_search(table, memory, state, LENGTH, width=8, n_best=8)
            proposed |= {tuple(t for t in row if t != PAD) for row in alone.tokens[which].tolist()}
        expected_scores = {
            tokens: sum(mass * similarity(list(tokens), list(other)) for other, mass in mixture.items())
            for tokens in proposed
        }
        assert found.scores[which].tolist() == pytest.approx(
            sorted(expected_scores.values(), reverse=True)[:8], abs=0.02
        )
        written = [tuple(t for t in row if t != PAD) for row in found.tokens[which].tolist()]
        assert len(set(written)) == 8
        for n, tokens in enumerate(written):
            assert found.scores[which, n].item() == pytest.approx(expected_scores[tokens], abs=0.02)
            log_probs = found.log_probs[which, n, : len(tokens)].tolist()
            assert any(log_probs == pytest.approx(table.look_up(which, tokens)[0]) for table in tables[:2])


def test_apportioned_samples_are_whole_numbers():
    assert apportion(10, [0.5, 0.5]) == [5, 5]
    assert apportion(100, [1 / 3] * 3) == [34, 33, 33]
    assert apportion(7, [0.6, 0.25, 0.15]) == [4, 2, 1]
    assert apportion(3, [1.0, 0.0]) == [3, 0]


def test_default_seed_repeats_the_output(case):
    memory, state = case.encode(range(4))
    config = DecodingConfig(8, beam_size=4, mbr_samples=6)
    first, again = (decode(case.model, memory, state, config) for _ in range(2))
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.scores, again.scores)
    other = decode(case.model, memory, state, config.override(seed=1))
    assert not torch.equal(first.scores, other.scores)


def test_outputs_are_sorted_and_missing_hypotheses_come_last(make_table):
    torch.manual_seed(1)
    table = make_table(vocab_size=4, length=2)
    memory, state = table.encode(range(4))
    scores = decode(table, memory, state, DecodingConfig(1, beam_size=8, n_best=8, mbr_samples=10)).scores
    assert all(before >= after for row in scores.tolist() for before, after in pairwise(row))
    assert (scores == -torch.inf).sum(dim=1).tolist() == [6] * 4  # of length 1: <eos> or the other token


def make_outputs(rows: list[list[int]], scores: list[float], source: int) -> Decoded:
    tokens = pad(rows).unsqueeze(0)
    return Decoded(
        tokens, torch.tensor([scores]), torch.randn(tokens.shape), torch.rand(*tokens.shape, source).softmax(dim=-1)
    )


def test_concatenated_outputs_keep_their_order_and_repeated_ones_score_minus_infinity():
    one = make_outputs([[3, 4, EOS], [5, EOS]], [-1.0, -2.0], source=2)
    two = make_outputs([[5, EOS], [6, 6, 6, 6, EOS]], [-0.5, -3.0], source=4)
    whole = concat_outputs([one, two])
    assert whole.tokens[0].tolist() == [[3, 4, EOS, 0, 0], [5, EOS, 0, 0, 0], [5, EOS, 0, 0, 0], [6, 6, 6, 6, EOS]]
    assert whole.scores.tolist() == [[-1.0, -2.0, -math.inf, -3.0]]
    torch.testing.assert_close(whole.log_probs[0, :2, :3], one.log_probs[0])
    torch.testing.assert_close(whole.attention[0, :2, :3, 2:], one.attention[0])
    torch.testing.assert_close(whole.attention[0, 2:], torch.cat([two.attention[0]]))
    assert not whole.attention[0, :2, :, :2].any()


def test_reranking_orders_all_parts_of_an_output_together():
    candidates = make_outputs([[3, 3, EOS], [4, 5, EOS], [4, 6, EOS]], [-1.0, -2.0, -math.inf], source=2)
    found = mbr_rerank(candidates, [[pad([[4, 5, EOS], [4, 6, EOS]])]], n_best=3)
    order = [1, 0, 2]
    assert found.tokens[0].tolist() == candidates.tokens[0, order].tolist()
    torch.testing.assert_close(found.log_probs, candidates.log_probs[:, order])
    torch.testing.assert_close(found.attention, candidates.attention[:, order])
    assert found.scores[0, 2] == -math.inf
