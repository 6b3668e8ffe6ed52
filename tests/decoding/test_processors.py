import itertools
import math
from typing import NamedTuple

import pytest
import torch
from omegaconf import OmegaConf

from attendgen.config.instantiate import instantiate
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.processors import Constraints, RepetitionPenalty, find_repeats
from attendgen.layers.state import Member
from attendgen.utils.special_tokens import EOS, PAD, SOS
from helpers.errors import refusal

VOCAB = 5


class State(NamedTuple):
    prefix: torch.Tensor


class Memory(NamedTuple):
    which: torch.Tensor


def completes(history: list[int], token: int, n: int) -> bool:
    """Whether the n-gram that `token` ends occurs in `history`."""
    grown = [*history, token]
    grams = [tuple(grown[i : i + n]) for i in range(len(grown) - n + 1)]
    return bool(grams) and grams[-1] in grams[:-1]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_find_repeats_equals_enumeration_of_short_histories(n):
    for length in range(n, 6):
        histories = list(itertools.product(range(3), repeat=length))
        found = find_repeats(torch.tensor(histories), n, VOCAB).tolist()
        assert found == [[completes(list(history), token, n) for token in range(VOCAB)] for history in histories]


def test_without_rules_log_probs_stay_the_same():
    log_probs = torch.randn(3, VOCAB)
    history = torch.randint(0, VOCAB, (3, 4))
    assert Constraints(suppress_tokens=())(log_probs, history).equal(log_probs)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_eos_is_suppressed_below_the_minimum_length(length):
    history = torch.zeros(2, length, dtype=torch.long)
    found = Constraints(suppress_tokens=(0,), eos_id=2, min_length=3)(torch.zeros(2, VOCAB), history)
    shut = [True, False, length + 1 < 3, False, False]
    assert found.isinf().tolist() == [shut, shut]


def test_rules_that_leave_no_token_do_not_apply():
    history = torch.tensor([[3, 4], [3, 3]])
    constraints = Constraints(suppress_tokens=(0, 1), eos_id=2, min_length=9, no_repeat_ngram_size=1)
    found = constraints(torch.zeros(2, VOCAB), history)
    assert found.isinf().tolist() == [[True, True, False, False, False], [True, True, True, True, False]]


class Favor:
    """Prefers a token that depends on the sum of the history."""

    def __call__(self, log_probs, history):
        favored = 3 + history.sum(dim=1) % 3
        return log_probs.scatter_add(1, favored.unsqueeze(1), torch.full((len(history), 1), 1.5)).log_softmax(dim=-1)


class Forbid:
    """No token twice in a row, and in place."""

    def __call__(self, log_probs, history):
        if history.size(1):
            log_probs.scatter_(1, history[:, -1:], -torch.inf)
        return log_probs


def penalize(log_probs: torch.Tensor, tokens: list[int], penalty: float) -> torch.Tensor:
    """p_i = exp(x_i I_i) / sum_j exp(x_j I_j), where I is the penalty of tokens that the output holds."""
    weights = [math.exp(x * (penalty if i in tokens else 1)) for i, x in enumerate(log_probs.tolist())]
    return torch.tensor(weights).log() - math.log(sum(weights))


@pytest.mark.parametrize("penalty", [1.0, 1.2, 3.0])
def test_the_repetition_penalty_is_its_equation(penalty):
    log_probs = torch.randn(4, 7).log_softmax(dim=-1)
    history = torch.tensor([[3, 4, 3], [5, 5, 5], [6, 0, 0], [1, 2, 3]])
    found = RepetitionPenalty(penalty)(log_probs, history)
    for row, tokens in enumerate(history.tolist()):
        torch.testing.assert_close(found[row], penalize(log_probs[row], tokens, penalty))
    torch.testing.assert_close(RepetitionPenalty(penalty)(log_probs, history[:, :0]), log_probs)


PROCESSORS = {
    "penalty": [RepetitionPenalty(2.0)],
    "favor": [Favor()],
    "several": [Favor(), Forbid(), RepetitionPenalty(1.5)],
}
SEARCHES = {
    "greedy": {},
    "samples": {"temperature": 1.3, "n_best": 3, "seed": 1},
    "beam": {"beam_size": 3, "n_best": 2, "length_penalty": 0.6},
    "mbr": {"beam_size": 3, "mbr_samples": 20, "seed": 2},
}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("drop", [True, False])
def test_processors_equal_a_model_of_the_processed_probabilities(make_table, search, name, drop):
    """Every search sees them, and each row its own history, also after other rows have ended and been dropped."""
    table = make_table(inputs=30)
    table.log_probs[::2, ..., EOS] += 1.5  # some outputs end early
    table.log_probs = table.log_probs.log_softmax(dim=-1)
    settings = {**SEARCHES[search], "max_length": 4, "drop_finished": drop}
    found = decode(table, *table.encode(range(30)), DecodingConfig(processors=PROCESSORS[name], **settings))
    for length in range(4):
        for tokens in itertools.product(range(3, 6), repeat=length):
            prefix = SOS
            for token in tokens:
                prefix = prefix * table.vocab_size + token
            history = torch.tensor([tokens] * 30, dtype=torch.long).view(30, length)
            for processor in PROCESSORS[name]:
                table.log_probs[:, prefix] = processor(table.log_probs[:, prefix].clone(), history)
    expected = decode(table, *table.encode(range(30)), DecodingConfig(**settings))
    assert found.tokens.equal(expected.tokens)
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.log_probs, expected.log_probs)


def test_members_of_a_composite_model_sample_with_processors(make_table):
    """Each member has its own samples and beam; <eos> is certain after the first token."""

    class Stop:
        def __call__(self, log_probs, history):
            if history.size(1) == 1:
                log_probs[:, [i for i in range(6) if i != EOS]] = -torch.inf
            return log_probs

    tables = [make_table(inputs=4), make_table(inputs=4)]

    class Both:
        def step(self, tokens, state, memory):
            return tables[0].step(tokens, state, memory)

        def split_members(self, memory, state):
            return [Member(0.5, table, memory, state) for table in tables]

    config = DecodingConfig(4, beam_size=3, n_best=3, mbr_samples=10, processors=[Stop()])
    decoded = decode(Both(), *tables[0].encode(range(4)), config)
    kept = decoded.tokens[decoded.scores > -torch.inf]
    assert len(kept)
    assert all(row[1:] in ([EOS], []) or row[0] == EOS for row in ([t for t in r if t] for r in kept.tolist()))


def test_own_processors_come_first_and_special_tokens_stay_suppressed(table):
    class Revive:
        def __call__(self, log_probs, history):
            return torch.full_like(log_probs, -9.0).index_fill(1, torch.tensor([PAD, SOS]), 0.0)

    class Nothing:
        def __call__(self, log_probs, history):
            return torch.full_like(log_probs, -torch.inf)

    memory, state = table.encode(range(4))
    for beam_size in (1, 3):
        decoded = decode(table, memory, state, DecodingConfig(4, beam_size=beam_size, processors=[Revive()]))
        assert not (decoded.tokens == SOS).any()
        assert (decoded.tokens[..., 0] != PAD).all()
        free = decode(table, memory, state, DecodingConfig(4, beam_size=beam_size))
        shut = decode(table, memory, state, DecodingConfig(4, beam_size=beam_size, processors=[Nothing()]))
        assert shut.tokens.equal(free.tokens)  # where no token is left they do not apply


class Broken:
    def __init__(self, change):
        self.change = change

    def __call__(self, log_probs, history):
        return self.change(log_probs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :3], "Broken returned a tensor of another shape, (4, 3) for (4, 6); keep the shape"),
        (lambda x: x + 9, "Broken returned NaN or log-probabilities above 0; normalize them with log_softmax"),
        (lambda x: x * math.nan, "Broken returned NaN or log-probabilities above 0; normalize them with log_softmax"),
    ],
)
def test_a_processor_that_returns_no_log_probabilities_is_one_line(table, change, message):
    told = refusal(decode, table, *table.encode(range(4)), DecodingConfig(4, processors=[Broken(change)]))
    assert told == f"decoding.processors: {message}"


def test_processors_of_a_config():
    config = OmegaConf.create(
        {
            "_target_": "attendgen.decoding.DecodingConfig",
            "processors": [{"_target_": "attendgen.decoding.RepetitionPenalty", "penalty": 1.5}],
        }
    )
    assert instantiate(config).processors == (RepetitionPenalty(1.5),)
    config.processors = [{"penalty": 3}]
    assert "decoding.processors: dict cannot be called" in refusal(instantiate, config)
    config.processors = [{"_target_": "attendgen.decoding.RepetitionPenalty", "penalty": 0.5}]
    assert refusal(instantiate, config) == "decoding.processors: penalty=0.5: expected a number from 1"


@pytest.mark.parametrize("settings", SEARCHES.values(), ids=SEARCHES)
def test_a_state_may_be_any_tree(make_table, settings):
    table = make_table(inputs=20)

    class Trees:
        """The table with dicts and lists in place of named tuples, and parts that are None."""

        def step(self, tokens, state, memory):
            log_probs, alpha, (prefix,) = table.step(tokens, State(state["deep"][0]["prefix"]), Memory(memory["which"]))
            return log_probs, alpha, {"nothing": None, "deep": [{"prefix": prefix}, ()]}

    memory, state = table.encode(range(20))
    config = DecodingConfig(4, **settings)
    found = decode(Trees(), {"which": memory.which}, {"nothing": None, "deep": [{"prefix": state.prefix}, ()]}, config)
    for left, right in zip(found, decode(table, memory, state, config), strict=True):
        assert left.equal(right)
