"""Decoding by a `DecodingConfig`: greedy, sampling, beam search, and re-ranking of a beam's hypotheses."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.decoding.beam import beam_search
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.facts import NO_TABLES, FactCheck, rerank_by_facts
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.decoding.mbr import Evidence, apportion, concat_outputs, mbr_rerank
from attendgen.decoding.processors import Constraints, OwnProcessors
from attendgen.decoding.protocol import CompositeModel, DecodableModel, Decoded, DecodingFunction
from attendgen.decoding.sampling import RandomStreams, Sampler, TokenChoice, argmax_token, greedy_or_sample
from attendgen.decoding.scoring import BeamScorer
from attendgen.layers.prepared import prepare_decoding
from attendgen.layers.state import Member, count_rows, get_device, map_tensors, repeat_rows, to_float32
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS

Streamer = Callable[[Int[Tensor, " rows"]], None]


class Candidates(NamedTuple):
    """Hypotheses to re-rank, and sets of outputs to compare them with."""

    outputs: Decoded
    evidence_sets: list[Evidence]


def decode(
    model: DecodableModel,
    memory: Any,
    state: Any,
    config: DecodingConfig | DecodingFunction,
    suppress_tokens: tuple[int, ...] = (PAD, SOS),
    examples: Sequence[int] | None = None,
    retrieved: Evidence | None = None,
    facts: FactCheck | None = None,
    graphs: DecodingGraphs | None = None,
    **text: Any,
) -> Decoded:
    """Decode from a model's memory and first state, in single precision.

    Args:
        config: the settings, or a function of the user's own, which is called with the other arguments.
        suppress_tokens: ids that are never chosen.
        examples: the number of each input, on which its samples depend beside the seed; 0 unless given.
        retrieved: for each input, outputs of similar training inputs, for `retrieval_captions`.
        facts: the tables that the inputs are, for `decoding.facts`.
        graphs: replay the model's steps; a function of the user's own computes them plainly.
        text: of language models: `prefix`, `eos_id`, `on_token`, `streams` and `earlier`, see `decode_tokens`.

    Raises:
        UserError: `retrieval_captions` or `facts` is set, but there are no `retrieved` outputs or no tables.
    """
    if not isinstance(config, DecodingConfig):
        return config(model, memory, state, suppress_tokens, **text)
    if config.facts:
        if facts is None:
            raise UserError(NO_TABLES)
        every = replace(config, facts=False, n_best=max(config.beam_size, config.n_best))
        found = decode(model, memory, state, every, suppress_tokens, examples, retrieved, graphs=graphs, **text)
        return rerank_by_facts(found, facts, config.n_best)
    # scores must not depend on the training's precision, and autocast would convert the weights anew at each step
    with torch.autocast(get_device(state).type, enabled=False):
        memory, state = convert_memory(model, memory), to_float32(state)
        graphs = None if graphs is None or not graphs.can_record(get_device(state)) else graphs
        if graphs is not None:
            config = replace(config, drop_finished=False)  # a smaller batch would need graphs of its own
        if not config.reranks:
            model, memory = _choose_fast(model, memory, config, graphs)
            return decode_tokens(model, memory, state, config, suppress_tokens, examples, **text)
        outputs, evidence_sets = generate_candidates(
            model, memory, state, config, suppress_tokens, examples, graphs=graphs, **text
        )
        if config.retrieval_captions:
            if retrieved is None:
                raise UserError(
                    f"decoding.retrieval_captions={config.retrieval_captions}: only captioners retrieve; set it to 0"
                )
            evidence_sets = [*evidence_sets, retrieved]
        return mbr_rerank(outputs, evidence_sets, config.n_best)


def convert_memory(model: Any, memory: Any) -> Any:
    """Return a memory in single precision, or in that of the model's weights."""
    weights = {weight.dtype for weight in model.parameters()} if isinstance(model, nn.Module) else set()
    return map_tensors(
        lambda part: part if part.dtype in weights or not part.is_floating_point() else part.float(), memory
    )


def count_tokens(config: DecodingConfig) -> int:
    """Return about how many tokens are decoded for each input: half as many as there can be."""
    return (max(config.beam_size, config.n_best) + config.mbr_samples) * config.max_length // 2


def decode_tokens(
    model: DecodableModel,
    memory: Any,
    state: Any,
    config: DecodingConfig,
    suppress_tokens: tuple[int, ...] = (PAD, SOS),
    examples: Sequence[int] | None = None,
    prefix: Int[Tensor, " rows"] | None = None,
    eos_id: int | None = EOS,
    on_token: Streamer | None = None,
    streams: RandomStreams | None = None,
    earlier: Int[Tensor, "rows earlier"] | None = None,
) -> Decoded:
    """Decode without re-ranking; see `decode`.

    Args:
        prefix: the token before the first one; <sos> unless given.
        eos_id: ends an output; None goes on to the maximum length.
        on_token: called with each step's tokens as they are chosen.
        streams: random numbers of the samples, if a text is decoded part by part.
        earlier: the parts of the outputs that were decoded before, which the rules and processors see.

    Raises:
        UserError: `on_token` is given, but the tokens of a beam are known only at the end.
    """
    rules = _get_rules(config, suppress_tokens, prefix, eos_id)
    if config.beam_size > 1:
        if on_token is not None:
            raise UserError(
                f"decoding.beam_size={config.beam_size}: the tokens of a beam are known only at the end; "
                "use a beam size of 1"
            )
        return _search_beam(model, memory, state, config, config.n_best, rules)
    rules["earlier"] = earlier
    if not config.samples_outputs:
        return greedy_or_sample(model, memory, state, choose=_notify(argmax_token, on_token), **rules)
    if streams is None and config.seed is not None:
        streams = RandomStreams(config.seed, examples or [0] * count_rows(state), config.n_best)
    return _draw(model, memory, state, config, config.n_best, rules, streams, on_token)


def generate_candidates(
    model: DecodableModel,
    memory: Any,
    state: Any,
    config: DecodingConfig,
    suppress_tokens: tuple[int, ...] = (PAD, SOS),
    examples: Sequence[int] | None = None,
    prefix: Int[Tensor, " rows"] | None = None,
    eos_id: int | None = EOS,
    graphs: DecodingGraphs | None = None,
) -> Candidates:
    """Return the hypotheses of a beam and `mbr_samples` samples to compare them with.

    Each member of a composite model has a beam of its own and draws its share of the samples.
    """
    members = (
        model.split_members(memory, state) if isinstance(model, CompositeModel) else [Member(1.0, model, memory, state)]
    )
    rules = _get_rules(config, suppress_tokens, prefix, eos_id)
    members = [
        Member(member.share, *_choose_fast(member.model, member.memory, config, graphs), member.state)
        for member in members
    ]
    numbers = examples or [0] * count_rows(state)
    outputs, samples, drawn = [], [], 0
    for count, member in zip(apportion(config.mbr_samples, [member.share for member in members]), members, strict=True):
        own = (member.model, member.memory, member.state)
        if count or (member.share and not config.mbr_samples):
            outputs.append(_search_beam(*own, config, config.beam_size, rules))
        if count:
            streams = RandomStreams(config.seed or 0, numbers, count, first_sample=drawn)
            samples.append(_draw(*own, config, count, rules, streams))
            drawn += count
    return Candidates(concat_outputs(outputs), [list(concat_outputs(samples).tokens)] if samples else [])


def _choose_fast(
    model: DecodableModel, memory: Any, config: DecodingConfig, graphs: DecodingGraphs | None
) -> tuple[Any, Any]:
    """Return what decodes fastest in a model's place, and its memory.

    Graphs replay the model's own `step`: the products that a prepared model makes once are other ones for each batch.
    """
    return prepare_decoding(model, memory, count_tokens(config)) if graphs is None else (graphs.start(model), memory)


def _get_rules(
    config: DecodingConfig, suppress_tokens: tuple[int, ...], prefix: Tensor | None, eos_id: int | None
) -> dict[str, Any]:
    """Return the arguments that all decoding algorithms share; the constraints hold whatever other processors do."""
    constraints = Constraints(suppress_tokens, eos_id, config.min_length, config.no_repeat_ngram_size)
    return {
        "max_length": config.max_length,
        "processors": [OwnProcessors(config.processors)] * bool(config.processors) + [constraints],
        "prefix": prefix,
        "eos_id": eos_id,
        "drop_finished": config.drop_finished,
    }


def _search_beam(
    model: DecodableModel, memory: Any, state: Any, config: DecodingConfig, n_best: int, rules: dict[str, Any]
) -> Decoded:
    scorer = BeamScorer(config.length_penalty, config.length_penalty_type, config.coverage_penalty)
    return beam_search(model, memory, state, width=config.beam_size, n_best=n_best, scorer=scorer, **rules)


def _draw(
    model: DecodableModel,
    memory: Any,
    state: Any,
    config: DecodingConfig,
    count: int,
    rules: dict[str, Any],
    streams: RandomStreams | None,
    on_token: Streamer | None = None,
) -> Decoded:
    """Draw `count` outputs of each input, which share the input's memory."""
    choose = _notify(Sampler(config.temperature or 1.0, config.top_k, config.top_p, streams), on_token)
    inputs = count_rows(state)
    if rules.get("earlier") is not None:
        rules = {**rules, "earlier": repeat_rows(rules["earlier"], count)}
    decoded = greedy_or_sample(model, memory, state, choose=choose, samples=count, **rules)
    return Decoded(*(part.squeeze(1).unflatten(0, (inputs, count)) for part in decoded))


def _notify(choose: TokenChoice, on_token: Streamer | None) -> TokenChoice:
    """Return a choice of tokens that calls `on_token` with what it chose."""
    if on_token is None:
        return choose

    def choose_and_tell(log_probs: Float[Tensor, "rows vocab"], rows: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
        chosen = choose(log_probs, rows)
        on_token(chosen)
        return chosen

    return choose_and_tell
