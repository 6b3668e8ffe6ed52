import math

import pytest
import torch

from attendgen.decoding.processors import Constraints
from attendgen.decoding.sampling import RandomStreams, Sampler, argmax_token, find_open_rows, greedy_or_sample
from attendgen.layers.state import fill_tokens, take_rows
from attendgen.utils.special_tokens import EOS, PAD, SOS

PROBABILITIES = torch.tensor([0.05, 0.4, 0.0, 0.3, 0.22, 0.03])
DRAWS = 20_000


def make_streams(seed: int = 0, rows: int = 50) -> RandomStreams:
    return RandomStreams(seed, range(rows))


def frequencies(sampler: Sampler) -> torch.Tensor:
    drawn = sampler(PROBABILITIES.log().expand(DRAWS, -1), torch.arange(DRAWS))
    return torch.bincount(drawn, minlength=len(PROBABILITIES)) / DRAWS


def assert_drawn_from(sampler: Sampler, expected: torch.Tensor) -> None:
    """Check that every frequency is within five standard errors; a token of probability 0 is never drawn."""
    error = (expected * (1 - expected) / DRAWS).sqrt()
    assert ((frequencies(sampler) - expected).abs() <= 5 * error + 1e-9).all()


def nucleus(top_p: float) -> set[int]:
    """Return the most probable tokens, taken until their mass reaches `top_p`."""
    taken, mass = set(), 0.0
    for token in sorted(range(len(PROBABILITIES)), key=lambda s: -PROBABILITIES[s]):
        if mass < top_p:
            taken.add(token)
            mass += PROBABILITIES[token].item()
    return taken


def renormalized(kept: set[int]) -> torch.Tensor:
    values = torch.tensor([p if s in kept else 0.0 for s, p in enumerate(PROBABILITIES.tolist())])
    return values / values.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("has_streams", [False, True], ids=["global stream", "streams"])
def test_frequencies_follow_the_tempered_distribution(temperature, has_streams):
    powered = PROBABILITIES ** (1 / temperature)
    streams = make_streams(rows=DRAWS) if has_streams else None
    assert_drawn_from(Sampler(temperature, streams=streams), powered / powered.sum())


def test_streams_of_examples_samples_and_seeds_are_independent():
    seeds, examples, samples = 10, 20, 100
    rows = torch.arange(examples * samples)
    drawn = [RandomStreams(seed, range(examples), samples) for seed in range(seeds)]
    numbers = torch.stack([torch.stack([streams.draw(rows) for _ in range(2)]) for streams in drawn])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.unique().numel() == numbers.numel()
    columns = [
        numbers[:-1].flatten(), numbers[1:].flatten(),  # neighboring seeds
        numbers[:, 0].flatten(), numbers[:, 1].flatten(),  # consecutive draws
        numbers.unflatten(2, (examples, samples))[..., :-1, :].flatten(),
        numbers.unflatten(2, (examples, samples))[..., 1:, :].flatten(),  # neighboring examples
        numbers.unflatten(2, (examples, samples))[..., :-1].flatten(),
        numbers.unflatten(2, (examples, samples))[..., 1:].flatten(),  # neighboring samples
    ]  # fmt: skip
    for left, right in zip(columns[::2], columns[1::2], strict=True):
        correlation = torch.corrcoef(torch.stack([left, right]))[0, 1].item()
        assert abs(correlation) < 5 / math.sqrt(len(left))


def test_streams_depend_on_seed_example_and_sample_alone():
    whole = RandomStreams(3, [7, 2, 5], samples=4)
    numbers = torch.stack([whole.draw(torch.arange(12)) for _ in range(3)], dim=1).unflatten(0, (3, 4))
    part = RandomStreams(3, [5, 7], samples=2, first_sample=1)
    others = torch.stack([part.draw(torch.tensor([0, 2, 3])) for _ in range(3)], dim=1)
    assert others.tolist() == torch.stack([numbers[2, 1], numbers[0, 1], numbers[0, 2]]).tolist()
    assert part.draw(torch.tensor([1])).item() == numbers[2, 2, 0].item()  # rows that were not drawn did not advance


@pytest.mark.parametrize("top_k", [1, 2, 4, 50])
def test_top_k_keeps_the_most_probable_tokens(top_k):
    kept = set(PROBABILITIES.argsort(descending=True)[:top_k].tolist())
    assert_drawn_from(Sampler(top_k=top_k), renormalized(kept))


@pytest.mark.parametrize(("top_p", "size"), [(0.01, 1), (0.39, 1), (0.41, 2), (0.71, 3), (0.93, 4), (1.0, 5)])
def test_top_p_keeps_the_nucleus(top_p, size):
    kept = nucleus(top_p)
    assert len(kept) == size
    assert_drawn_from(Sampler(top_p=top_p), renormalized(kept))
    assert set(frequencies(Sampler(top_p=top_p)).nonzero().flatten().tolist()) == kept


def test_top_p_applies_after_top_k():
    # the first of the two most probable tokens has 0.4 / 0.7 of their mass
    assert_drawn_from(Sampler(top_k=2, top_p=0.5), renormalized({1}))
    assert_drawn_from(Sampler(top_k=2, top_p=0.6), renormalized({1, 3}))


def test_sampling_does_not_change_log_probs():
    log_probs = torch.randn(3, 5).log_softmax(dim=-1)
    before = log_probs.clone()
    Sampler(0.5, top_k=2, top_p=0.5)(log_probs, torch.arange(3))
    torch.testing.assert_close(log_probs, before, rtol=0, atol=0)


def draw(table, choose):
    return greedy_or_sample(table, *table.encode([0] * 50), max_length=4, choose=choose)


def test_seed_repeats_the_output(table):
    once, again, other = (draw(table, Sampler(streams=make_streams(seed))) for seed in (3, 3, 4))
    for left, right in zip(once, again, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    width = min(once.tokens.size(2), other.tokens.size(2))
    assert not torch.equal(once.tokens[..., :width], other.tokens[..., :width])


def test_top_k_1_and_a_tiny_top_p_equal_greedy(table):
    greedy = draw(table, argmax_token)
    for sample in (Sampler(3.0, top_k=1), Sampler(top_p=1e-6)):
        for left, right in zip(draw(table, sample), greedy, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_greedy_chooses_the_most_probable_token_at_each_step(make_table):
    table = make_table(inputs=40)
    greedy = greedy_or_sample(table, *table.encode(range(40)), max_length=4)
    for which in range(40):
        tokens: list[int] = []
        while len(tokens) < 4 and EOS not in tokens:
            following = table.look_up(which, tokens)[2].tolist()
            tokens.append(max(range(EOS, table.vocab_size), key=lambda token: following[token]))
        log_probs, alphas, _ = table.look_up(which, tokens)
        after = [0.0] * (4 - len(tokens))
        assert greedy.tokens[which, 0].tolist() == tokens + [PAD] * len(after)
        assert greedy.log_probs[which, 0].tolist() == pytest.approx(log_probs + after)
        assert greedy.scores[which, 0].item() == pytest.approx(math.fsum(log_probs), abs=1e-5)
        torch.testing.assert_close(greedy.attention[which, 0, : len(tokens)], torch.tensor(alphas))
        assert not greedy.attention[which, 0, len(tokens) :].any()


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_scores_equal_forced_scoring_of_the_tokens(case, sampled):
    choose = Sampler(2.0) if sampled else argmax_token
    decoded = greedy_or_sample(case.model, *case.encode(range(4)), max_length=8, choose=choose)
    for row in range(4):
        tokens = [token for token in decoded.tokens[row, 0].tolist() if token != PAD]
        log_probs, attention = case.forced(row, tokens)
        each = log_probs[range(len(tokens)), tokens]
        torch.testing.assert_close(decoded.log_probs[row, 0, : len(tokens)], each)
        torch.testing.assert_close(decoded.scores[row, 0], each.sum())
        torch.testing.assert_close(decoded.attention[row, 0, : len(tokens), : attention.size(1)], attention)


def test_batch_equals_single_inputs(case):
    batch = greedy_or_sample(case.model, *case.encode(range(4)), max_length=8)
    for row in range(4):
        alone = greedy_or_sample(case.model, *case.encode([row]), max_length=8)
        length, source = alone.tokens.size(2), alone.attention.size(3)
        torch.testing.assert_close(batch.tokens[row, :, :length], alone.tokens[0])
        torch.testing.assert_close(batch.scores[row], alone.scores[0])
        torch.testing.assert_close(batch.attention[row, :, :length, :source], alone.attention[0])
        assert not batch.tokens[row, :, length:].any()


def test_decoding_ends_when_every_row_has_ended(table):
    table.log_probs[..., EOS] = 0.0
    assert greedy_or_sample(table, *table.encode(range(4)), max_length=4).tokens.tolist() == [[[EOS]]] * 4
    assert table.calls == 1


def test_without_eos_decoding_continues_to_max_length(table):
    table.log_probs[..., EOS] = 0.0
    tokens = greedy_or_sample(table, *table.encode(range(4)), max_length=4, eos_id=None).tokens
    assert tokens.tolist() == [[[EOS] * 4]] * 4


def test_suppressed_tokens_are_never_chosen(table):
    table.log_probs[..., 3] = 0.0
    assert (greedy_or_sample(table, *table.encode(range(4)), max_length=4).tokens == 3).all()
    for choose in (argmax_token, Sampler(5.0)):
        decoded = greedy_or_sample(
            table, *table.encode(range(4)), max_length=4, choose=choose, processors=[Constraints((PAD, SOS, 3))]
        )
        assert not (decoded.tokens == 3).any()


@pytest.mark.parametrize(
    "rules", [{"min_length": 3}, {"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2, "min_length": 4}], ids=str
)
def test_constraints_hold_in_greedy_outputs(make_table, rules):
    table = make_table(inputs=60)
    free = greedy_or_sample(table, *table.encode(range(60)), max_length=4)
    bound = greedy_or_sample(table, *table.encode(range(60)), max_length=4, processors=[Constraints(**rules)])
    differ = 0
    for left, right in zip(free.tokens[:, 0].tolist(), bound.tokens[:, 0].tolist(), strict=True):
        tokens = [token for token in right if token != PAD]
        assert len(tokens) >= rules.get("min_length", 1)
        n = rules.get("no_repeat_ngram_size", 5)
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        assert len(set(grams)) == len(grams)
        differ += left != right
    assert differ > 5


def test_samples_of_one_input_may_end_at_different_lengths(make_table):
    table = make_table(inputs=8)
    memory, state = table.encode(range(8))
    rows = torch.arange(8).repeat_interleave(3)
    drawn = greedy_or_sample(table, memory, take_rows(state, rows), 4, Sampler())
    for row, tokens in enumerate(drawn.tokens[:, 0].tolist()):
        tokens = [token for token in tokens if token != PAD]
        log_probs, alphas, _ = table.look_up(row // 3, tokens)
        torch.testing.assert_close(drawn.log_probs[row, 0, : len(tokens)], torch.tensor(log_probs))
        torch.testing.assert_close(drawn.attention[row, 0, : len(tokens)], torch.tensor(alphas))
        assert not drawn.attention[row, 0, len(tokens) :].any()


def test_prefix_replaces_sos(table):
    table.log_probs[..., EOS] = -torch.inf
    first = torch.tensor([SOS, SOS, 0, 0])
    decoded = greedy_or_sample(table, *table.encode([0, 1, 0, 1]), max_length=3, prefix=first)
    sos = greedy_or_sample(table, *table.encode([0, 1]), max_length=3)
    torch.testing.assert_close(decoded.tokens[:2], sos.tokens)
    assert decoded.tokens[2:, 0, 0].tolist() == table.log_probs[[0, 1], 0, EOS:].argmax(dim=-1).add(EOS).tolist()


def test_take_rows_reorders_a_state(table):
    _, state = table.encode([3, 5, 7])
    state = type(state)(torch.tensor([3, 5, 7]))
    assert take_rows(state, torch.tensor([2, 2, 0, 1])).prefix.tolist() == [7, 7, 3, 5]
    assert fill_tokens(state, SOS).tolist() == [SOS] * 3


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("rules", [{}, {"min_length": 3, "no_repeat_ngram_size": 2}], ids=str)
@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_dropping_finished_rows_changes_no_output(make_table, samples, rules, sampled):
    table = make_table(inputs=40)
    table.log_probs[::2, ..., EOS] += 3.0
    table.log_probs = table.log_probs.log_softmax(dim=-1)
    memory, state = table.encode(range(40))
    state = take_rows(state, torch.arange(40).repeat_interleave(samples))
    step, counts, found = table.step, {True: 0, False: 0}, {}
    for drop in counts:

        def count_rows(tokens, state, memory, drop=drop):
            counts[drop] += len(tokens)
            return step(tokens, state, memory)

        table.step = count_rows
        choose = Sampler(streams=RandomStreams(5, range(40), samples)) if sampled else argmax_token
        found[drop] = greedy_or_sample(
            table, memory, state, 4, choose, processors=[Constraints(**rules)], drop_finished=drop
        )
    assert counts[True] < counts[False]
    for left, right in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_dropping_finished_rows_changes_no_output_of_real_models(case, sampled):
    memory, state = case.encode(range(4))
    state = take_rows(state, torch.arange(4).repeat_interleave(5))
    fast, plain = (
        greedy_or_sample(
            case.model,
            memory,
            state,
            8,
            Sampler(streams=RandomStreams(5, range(4), 5)) if sampled else argmax_token,
            drop_finished=drop,
        )
        for drop in (True, False)
    )
    for left, right in zip(fast, plain, strict=True):
        torch.testing.assert_close(left, right)


def test_open_rows_keep_equally_many_per_input():
    is_open = torch.tensor([[False, True, False, True], [False] * 4, [True, False, False, False]])
    inputs, rows, per_input = find_open_rows(is_open, [2, 0, 1])
    assert (inputs.tolist(), per_input) == ([0, 2], 2)
    assert rows.tolist()[:2] == [1, 3]
    assert rows.tolist()[2] == 8
    assert find_open_rows(torch.ones(4, 2, dtype=torch.bool), [2] * 4) is None


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("shift", [0.0, -200.0], ids=["normalized", "without a sum in single precision"])
def test_single_precision_draws_the_tokens_of_double_precision(temperature, shift):
    log_probs = (3 * torch.randn(4000, 300)).log_softmax(dim=-1) + shift
    log_probs[:, ::7] = -torch.inf
    rows, uniform = torch.arange(4000), torch.rand(4000, dtype=torch.double)
    drawn = Sampler(temperature)._invert_fast(log_probs, uniform)
    mass = (log_probs.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    expected = (mass <= uniform.unsqueeze(1) * mass[:, -1:]).sum(dim=1)
    assert drawn.equal(expected)
    edges = mass[rows, expected] - 1e-9  # just before the edge of a token, which rounding would move
    assert Sampler(temperature)._invert_fast(log_probs, edges / mass[:, -1]).equal(expected)
