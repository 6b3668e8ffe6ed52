import math

import pytest
import torch

from attendgen.decoding.sampling import Sampler
from attendgen.layers.state import first_tokens, take_rows
from attendgen.utils.special_tokens import EOS, PAD, SOS

PROBABILITIES = torch.tensor([0.05, 0.4, 0.0, 0.3, 0.22, 0.03])
DRAWS = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frequencies(sample: Sample) -> torch.Tensor:
    drawn = sample(PROBABILITIES.log().expand(DRAWS, -1))
    return torch.bincount(drawn, minlength=len(PROBABILITIES)) / DRAWS


def assert_drawn_from(sample: Sample, expected: torch.Tensor) -> None:
    """Every frequency lies within five standard errors; what has no probability never comes."""
    error = (expected * (1 - expected) / DRAWS).sqrt()
    assert ((frequencies(sample) - expected).abs() <= 5 * error + 1e-9).all()


def nucleus(top_p: float) -> set[int]:
    """The likeliest symbols, taken until their mass reaches `top_p`."""
    taken, mass = set(), 0.0
    for symbol in sorted(range(len(PROBABILITIES)), key=lambda s: -PROBABILITIES[s]):
        if mass < top_p:
            taken.add(symbol)
            mass += PROBABILITIES[symbol].item()
    return taken


def renormalized(kept: set[int]) -> torch.Tensor:
    values = torch.tensor([p if s in kept else 0.0 for s, p in enumerate(PROBABILITIES.tolist())])
    return values / values.sum()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies_follow_the_tempered_distribution(temperature):
    powered = PROBABILITIES ** (1 / temperature)
    assert_drawn_from(Sampler(temperature, generator=generator()), powered / powered.sum())


@pytest.mark.parametrize("top_k", [1, 2, 4, 50])
def test_top_k_keeps_the_likeliest(top_k):
    kept = set(PROBABILITIES.argsort(descending=True)[:top_k].tolist())
    assert_drawn_from(Sampler(top_k=top_k, generator=generator()), renormalized(kept))


@pytest.mark.parametrize(("top_p", "size"), [(0.01, 1), (0.39, 1), (0.41, 2), (0.71, 3), (0.93, 4), (1.0, 5)])
def test_top_p_keeps_the_nucleus(top_p, size):
    kept = nucleus(top_p)
    assert len(kept) == size
    assert_drawn_from(Sampler(top_p=top_p, generator=generator()), renormalized(kept))
    assert set(frequencies(Sampler(top_p=top_p, generator=generator(1))).nonzero().flatten().tolist()) == kept


def test_top_p_cuts_what_top_k_left():
    # of the two likeliest, 0.4 / 0.7 of the mass is the first's
    assert_drawn_from(Sampler(top_k=2, top_p=0.5, generator=generator()), renormalized({1}))
    assert_drawn_from(Sampler(top_k=2, top_p=0.6, generator=generator()), renormalized({1, 3}))


def test_the_callers_log_probs_are_left_alone():
    log_probs = torch.randn(3, 5).log_softmax(dim=-1)
    before = log_probs.clone()
    Sampler(0.5, top_k=2, top_p=0.5)(log_probs)
    torch.testing.assert_close(log_probs, before, rtol=0, atol=0)


def draw(table, choose):
    return decode(table, *table.encode([0] * 50), max_length=4, choose=choose)


def test_a_seed_repeats_the_output(table):
    once, again, other = (draw(table, Sampler(generator=generator(seed))) for seed in (3, 3, 4))
    for left, right in zip(once, again, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    width = min(once.tokens.size(2), other.tokens.size(2))
    assert not torch.equal(once.tokens[..., :width], other.tokens[..., :width])


def test_top_k_1_and_a_tiny_top_p_equal_greedy(table):
    greedy = draw(table, best)
    for sample in (Sampler(3.0, top_k=1), Sampler(top_p=1e-6)):
        for left, right in zip(draw(table, sample), greedy, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_impossible_settings_are_refused(options):
    name = next(iter(options)).replace("_", "-")
    with pytest.raises(ValueError, match=name):
        Sampler(**options)


def test_greedy_takes_the_likeliest_symbol_each_time(make_table):
    table = make_table(inputs=40)
    greedy = decode(table, *table.encode(range(40)), max_length=4)
    for which in range(40):
        tokens: list[int] = []
        while len(tokens) < 4 and EOS not in tokens:
            following = table.look_up(which, tokens)[2].tolist()
            tokens.append(max(range(EOS, table.tokens), key=lambda symbol: following[symbol]))
        log_probs, alphas, _ = table.look_up(which, tokens)
        after = [0.0] * (4 - len(tokens))
        assert greedy.tokens[which, 0].tolist() == tokens + [PAD] * len(after)
        assert greedy.log_probs[which, 0].tolist() == pytest.approx(log_probs + after)
        assert greedy.scores[which, 0].item() == pytest.approx(math.fsum(log_probs), abs=1e-5)
        torch.testing.assert_close(greedy.attention[which, 0, : len(tokens)], torch.tensor(alphas))
        assert not greedy.attention[which, 0, len(tokens) :].any()


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_scores_equal_forced_scoring_of_the_tokens(case, sampled):
    choose = Sampler(2.0, generator=generator()) if sampled else best
    decoded = decode(case.model, *case.encode(range(4)), max_length=8, choose=choose)
    for row in range(4):
        tokens = [token for token in decoded.tokens[row, 0].tolist() if token != PAD]
        log_probs, attention = case.forced(row, tokens)
        each = log_probs[range(len(tokens)), tokens]
        torch.testing.assert_close(decoded.log_probs[row, 0, : len(tokens)], each)
        torch.testing.assert_close(decoded.scores[row, 0], each.sum())
        torch.testing.assert_close(decoded.attention[row, 0, : len(tokens), : attention.size(1)], attention)


def test_a_batch_equals_single_runs(case):
    batch = decode(case.model, *case.encode(range(4)), max_length=8)
    for row in range(4):
        alone = decode(case.model, *case.encode([row]), max_length=8)
        length, source = alone.tokens.size(2), alone.attention.size(3)
        torch.testing.assert_close(batch.tokens[row, :, :length], alone.tokens[0])
        torch.testing.assert_close(batch.scores[row], alone.scores[0])
        torch.testing.assert_close(batch.attention[row, :, :length, :source], alone.attention[0])
        assert not batch.tokens[row, :, length:].any()


def test_decoding_ends_as_soon_as_every_row_has(table):
    table.log_probs[..., EOS] = 0.0
    assert decode(table, *table.encode(range(4)), max_length=4).tokens.tolist() == [[[EOS]]] * 4
    assert table.calls == 1


def test_without_a_stop_decoding_goes_on(table):
    table.log_probs[..., EOS] = 0.0
    tokens = decode(table, *table.encode(range(4)), max_length=4, eos_id=None).tokens
    assert tokens.tolist() == [[[EOS] * 4]] * 4


def test_forbidden_symbols_never_come(table):
    table.log_probs[..., 3] = 0.0
    assert (decode(table, *table.encode(range(4)), max_length=4).tokens == 3).all()
    for choose in (best, Sampler(5.0, generator=generator())):
        decoded = decode(table, *table.encode(range(4)), max_length=4, choose=choose, suppress_tokens=(PAD, SOS, 3))
        assert not (decoded.tokens == 3).any()


@pytest.mark.parametrize(
    "rules", [{"min_length": 3}, {"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2, "min_length": 4}], ids=str
)
def test_constraints_hold_in_greedy_outputs(make_table, rules):
    table = make_table(inputs=60)
    free = decode(table, *table.encode(range(60)), max_length=4)
    bound = decode(table, *table.encode(range(60)), max_length=4, **rules)
    differ = 0
    for left, right in zip(free.tokens[:, 0].tolist(), bound.tokens[:, 0].tolist(), strict=True):
        tokens = [token for token in right if token != PAD]
        assert len(tokens) >= rules.get("min_length", 1)
        n = rules.get("no_repeat_ngram_size", 5)
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        assert len(set(grams)) == len(grams)
        differ += left != right
    assert differ > 5


def test_samples_of_one_input_end_apart(make_table):
    table = make_table(inputs=8)
    memory, state = table.encode(range(8))
    rows = torch.arange(8).repeat_interleave(3)
    drawn = decode(table, memory, take_rows(state, rows), 4, Sampler(generator=generator()))
    for row, tokens in enumerate(drawn.tokens[:, 0].tolist()):
        tokens = [token for token in tokens if token != PAD]
        log_probs, alphas, _ = table.look_up(row // 3, tokens)
        torch.testing.assert_close(drawn.log_probs[row, 0, : len(tokens)], torch.tensor(log_probs))
        torch.testing.assert_close(drawn.attention[row, 0, : len(tokens)], torch.tensor(alphas))
        assert not drawn.attention[row, 0, len(tokens) :].any()


def test_the_first_symbols_may_be_given(table):
    table.log_probs[..., EOS] = -torch.inf
    first = torch.tensor([SOS, SOS, 0, 0])
    decoded = decode(table, *table.encode([0, 1, 0, 1]), max_length=3, prefix=first)
    sos = decode(table, *table.encode([0, 1]), max_length=3)
    torch.testing.assert_close(decoded.tokens[:2], sos.tokens)
    assert decoded.tokens[2:, 0, 0].tolist() == table.log_probs[[0, 1], 0, EOS:].argmax(dim=-1).add(EOS).tolist()


def test_states_are_reordered_by_row(table):
    _, state = table.encode([3, 5, 7])
    state = type(state)(torch.tensor([3, 5, 7]))
    assert take_rows(state, torch.tensor([2, 2, 0, 1])).prefix.tolist() == [7, 7, 3, 5]
    assert first_tokens(state, SOS).tolist() == [SOS] * 3
