"""Dispatch by `DecodingConfig`, and samples that depend on the seed and the example alone."""

from functools import partial
from typing import Any, NamedTuple

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.decoding.beam import beam_search
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.processors import Constraints
from attendgen.decoding.protocol import Decoded
from attendgen.decoding.sampling import RandomStreams, Sampler, greedy_or_sample
from attendgen.decoding.scoring import BeamScorer
from attendgen.layers.state import Member, take_rows
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS

SEEDED = {
    "sampling": DecodingConfig(8, temperature=1.5, seed=3),
    "top_k": DecodingConfig(8, temperature=1.5, top_k=4, top_p=0.9, seed=3),
    "n_best": DecodingConfig(8, temperature=1.5, seed=3, n_best=3),
    "mbr": DecodingConfig(8, beam_size=4, mbr_samples=7, seed=3),
    "mbr_n_best": DecodingConfig(8, beam_size=4, mbr_samples=7, seed=3, n_best=3),
}
seeded = pytest.mark.parametrize("config", SEEDED.values(), ids=SEEDED)


def assert_same(left: Decoded, right: Decoded, **tolerance: float) -> None:
    """Check that two outputs are equal but for padding."""
    length = min(left.tokens.size(2), right.tokens.size(2))
    source = min(left.attention.size(3), right.attention.size(3))
    for one, other in zip(left, right, strict=True):
        if one.ndim > 2:
            assert not one[:, :, length:].any()
            assert not other[:, :, length:].any()
            one, other = one[:, :, :length], other[:, :, :length]
        if one.ndim > 3:
            assert not one[..., source:].any()
            assert not other[..., source:].any()
            one, other = one[..., :source], other[..., :source]
        torch.testing.assert_close(one, other, **tolerance)


def take(decoded: Decoded, rows: list[int]) -> Decoded:
    return Decoded(*(part[rows] for part in decoded))


def test_defaults_are_greedy(case):
    memory, state = case.encode(range(4))
    found = decode(case.model, memory, state, DecodingConfig(8))
    assert_same(found, greedy_or_sample(case.model, memory, state, max_length=8))


def test_settings_reach_the_beam(table):
    memory, state = table.encode(range(4))
    config = DecodingConfig(
        4, 2, beam_size=5, n_best=3, length_penalty=0.7, coverage_penalty=0.2, no_repeat_ngram_size=2
    )
    rules = [Constraints((PAD, SOS, 3), min_length=2, no_repeat_ngram_size=2)]
    scorer = BeamScorer(0.7, coverage=0.2)
    expected = beam_search(table, memory, state, 4, width=5, n_best=3, scorer=scorer, processors=rules)
    assert_same(decode(table, memory, state, config, (PAD, SOS, 3)), expected, rtol=0, atol=0)
    average = decode(table, memory, state, DecodingConfig(4, beam_size=5, length_penalty_type="avg"))
    expected = beam_search(table, memory, state, 4, width=5, scorer=BeamScorer(kind="avg"))
    assert_same(average, expected, rtol=0, atol=0)


def test_settings_reach_the_sampler(table):
    memory, state = table.encode(range(4))
    rules = {"min_length": 2, "no_repeat_ngram_size": 1}
    config = DecodingConfig(4, temperature=2.0, top_k=3, top_p=0.9, seed=5, **rules)
    sampler = Sampler(2.0, 3, 0.9, RandomStreams(5, [3, 1, 4, 0]))
    expected = greedy_or_sample(table, memory, state, 4, sampler, processors=[Constraints(**rules)])
    assert_same(decode(table, memory, state, config, examples=[3, 1, 4, 0]), expected, rtol=0, atol=0)


def test_n_best_samples_belong_to_their_input(make_table):
    table = make_table(inputs=8)
    found = decode(table, *table.encode(range(8)), DecodingConfig(4, temperature=1.0, n_best=5))
    assert found.tokens.shape[:2] == (8, 5)
    for which in range(8):
        assert len({tuple(row) for row in found.tokens[which].tolist()}) > 1
        for n in range(5):
            tokens = [token for token in found.tokens[which, n].tolist() if token != PAD]
            log_probs, alphas, _ = table.look_up(which, tokens)
            torch.testing.assert_close(found.log_probs[which, n, : len(tokens)], torch.tensor(log_probs))
            torch.testing.assert_close(found.attention[which, n, : len(tokens)], torch.tensor(alphas))


@pytest.mark.parametrize(
    "config",
    [
        DecodingConfig(3),
        DecodingConfig(3, temperature=1.0, n_best=2),
        DecodingConfig(3, beam_size=3),
        DecodingConfig(3, beam_size=3, mbr_samples=4),
    ],
    ids=str,
)
def test_prefix_and_eos_reach_every_algorithm(make_table, config):
    table = make_table(inputs=2)
    table.log_probs[..., EOS] = 0.0  # at once, if <eos> ended an output
    first = torch.tensor([SOS, 0])
    asked = []
    step = table.step
    table.step = lambda tokens, state, memory: (asked.append(tokens), step(tokens, state, memory))[1]
    found = decode(table, *table.encode(range(2)), config, prefix=first, eos_id=None)
    assert (found.tokens != PAD).all()
    assert found.tokens.size(2) == 3
    assert asked[0].view(2, -1).unique(dim=1).squeeze(1).tolist() == first.tolist()


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 1.0, "n_best": 3}], ids=str)
def test_on_token_receives_every_step(table, options):
    seen = []
    config = DecodingConfig(4, seed=1, **options)
    memory, state = table.encode(range(3))
    found = decode(table, memory, state, config, eos_id=None, on_token=seen.append)
    assert torch.stack(seen, dim=1).tolist() == found.tokens.flatten(0, 1).tolist()
    assert_same(found, decode(table, memory, state, config, eos_id=None), rtol=0, atol=0)


def test_on_token_of_a_beam_is_refused(table):
    with pytest.raises(UserError, match=r"decoding\.beam_size=3: .* only at the end"):
        decode(table, *table.encode([0]), DecodingConfig(4, beam_size=3), on_token=print)


def test_user_function_receives_the_arguments(table):
    memory, state = table.encode(range(3))
    received: list[Any] = []

    def own(model: Any, memory: Any, state: Any, suppress_tokens: tuple[int, ...], **text: Any) -> Decoded:
        received.extend([model, memory, state, suppress_tokens, text])
        return greedy_or_sample(model, memory, state, 2)

    first = torch.tensor([SOS] * 3)
    found = decode(table, memory, state, own, (PAD,), prefix=first, eos_id=None)
    assert found.tokens.size(2) <= 2
    assert received[0] is table
    assert received[1] is memory
    assert received[2] is state
    assert received[3] == (PAD,)
    assert received[4]["prefix"] is first
    assert received[4]["eos_id"] is None
    decode(table, memory, state, own)
    assert received[-2:] == [(PAD, SOS), {}]


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"beam_size": 3, "mbr_samples": 5}], ids=str)
def test_decoding_is_in_single_precision_under_autocast(case, options):
    config = DecodingConfig(8, **options)
    memory, state = case.encode(range(4))
    plain = decode(case.model, memory, state, config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(decode(case.model, memory, state, config), plain, rtol=0, atol=0)


@seeded
def test_outputs_depend_on_seed_and_example_alone(case, config):
    examples = [11, 4, 7, 2]
    run = partial(decode, case.model)
    batch = run(*case.encode(range(4)), config, examples=examples)
    assert_same(run(*case.encode(range(4)), config, examples=examples), batch)  # a second call
    for rows in ([0], [3], [2, 1], [3, 2, 1, 0], [0, 2, 3]):
        found = run(*case.encode(rows), config, examples=[examples[row] for row in rows])
        assert found.tokens.shape[:2] == (len(rows), config.n_best)
        assert_same(found, take(batch, rows))
    torch.rand(5)  # the global stream does not matter
    assert_same(run(*case.encode(range(4)), config, examples=examples), batch)


@seeded
def test_outputs_of_many_inputs_do_not_depend_on_the_batch(make_table, config):
    table = make_table(inputs=40)
    config = config.override(max_length=4)
    whole = decode(table, *table.encode(range(40)), config, examples=range(40))
    order = torch.randperm(40).tolist()
    for size in (1, 3, 16):
        for begin in range(0, 40, size):
            rows = order[begin : begin + size]
            found = decode(table, *table.encode(rows), config, examples=rows)
            assert_same(found, take(whole, rows), rtol=1e-5, atol=1e-5)


def test_another_seed_or_example_has_other_samples(make_table):
    table = make_table(inputs=1)
    run = partial(decode, table, *table.encode([0] * 30))
    config = DecodingConfig(4, temperature=2.0, seed=0)
    tokens = run(config, examples=range(30)).tokens
    assert len({tuple(row) for row in tokens[:, 0].tolist()}) > 10
    assert run(config.override(seed=1), examples=range(30)).tokens.tolist() != tokens.tolist()
    assert run(config, examples=range(30, 60)).tokens.tolist() != tokens.tolist()


def test_without_a_seed_each_call_draws_other_samples(make_table):
    table = make_table(inputs=1)
    memory, state = table.encode([0] * 30)
    first, second = (decode(table, memory, state, DecodingConfig(4, temperature=2.0)).tokens for _ in range(2))
    assert first.tolist() != second.tolist()


def test_first_samples_do_not_depend_on_n_best(case):
    memory, state = case.encode(range(4))
    one, three, five = (
        decode(case.model, memory, state, DecodingConfig(8, temperature=1.5, seed=3, n_best=n), examples=range(4))
        for n in (1, 3, 5)
    )
    assert_same(Decoded(*(part[:, :1] for part in three)), one)
    assert_same(Decoded(*(part[:, :3] for part in five)), three)


def test_streams_continue_a_text_in_parts(table):
    table.log_probs[..., EOS] = -torch.inf
    config = DecodingConfig(4, temperature=1.5, seed=3)
    memory, state = table.encode(range(4))
    whole = decode(table, memory, state, config, examples=range(4)).tokens[:, 0]
    streams = RandomStreams(3, range(4))
    parts, prefix = [], None
    for length in (1, 3):
        part = decode(table, memory, state, config.override(max_length=length), prefix=prefix, streams=streams)
        tokens = part.tokens[:, 0]
        for step in range(length):
            last = torch.full((4,), SOS) if not parts and not step else (parts[-1] if not step else tokens[:, step - 1])
            state = table.step(last, state, memory)[2]
        parts.extend(tokens.unbind(dim=1))
        prefix = tokens[:, -1]
    assert torch.stack(parts, dim=1).tolist() == whole.tolist()


class Ensemble(NamedTuple):
    """Two tables, of which one draws more samples."""

    tables: tuple[Any, ...]

    def step(self, tokens: torch.Tensor, state: Any, memory: Any) -> Any:
        raise AssertionError("the members decode one by one")

    def split_members(self, memory: Any, state: Any) -> list[Member]:
        return [Member(share, table, memory, state) for share, table in zip((0.7, 0.3), self.tables, strict=True)]


def test_mbr_of_several_models_does_not_depend_on_the_batch(make_table):
    tables = (make_table(inputs=20), make_table(inputs=20))
    config = DecodingConfig(4, beam_size=4, mbr_samples=9, n_best=2, seed=3, retrieval_captions=1)
    nearest = [pad([[3 + row % 3, 4, EOS]]) for row in range(20)]

    def run(rows: list[int]) -> Decoded:
        memory, state = tables[0].encode(rows)
        retrieved = [nearest[row] for row in rows]
        return decode(Ensemble(tables), memory, state, config, examples=rows, retrieved=retrieved)

    whole = run(list(range(20)))
    for rows in ([7], [19, 3, 3], list(reversed(range(20)))):
        assert_same(run(rows), take(whole, rows))


def test_rows_of_a_state_share_the_memory_of_their_input(case):
    memory, state = case.encode(range(4))
    rows = torch.arange(4).repeat_interleave(3)
    shared = decode(case.model, memory, take_rows(state, rows), DecodingConfig(8))
    assert_same(shared, decode(case.model, take_rows(memory, rows), take_rows(state, rows), DecodingConfig(8)))
