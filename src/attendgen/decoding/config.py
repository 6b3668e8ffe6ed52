"""The settings of decoding, validated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from attendgen.utils.errors import UserError

LENGTH_PENALTIES = ("gnmt", "avg")
MOST_PENALTY = 10  # an exponent of lengths, whose powers must be numbers


def _option(default: Any, text: str, flag: bool = True) -> Any:
    """Declare a setting with its help text; with `flag`, the command line has an option for it."""
    return field(default=default, metadata={"help": text, "flag": flag})


@dataclass(frozen=True)
class DecodingConfig:
    """Beam search if `beam_size` is above 1, sampling if `temperature` is above 0, else greedy decoding.

    Raises:
        UserError: a setting is out of range, or two exclude each other.
    """

    max_length: int = _option(30, "Longest output in tokens, <eos> included.")
    min_length: int = _option(1, "Shortest output in tokens, <eos> included.")
    beam_size: int = _option(1, "Number of hypotheses of beam search; 1 is greedy decoding.")
    n_best: int = _option(1, "Number of outputs per input: hypotheses of the beam, or samples.")
    length_penalty: float = _option(0.0, "Exponent a of the GNMT length penalty ((5 + length) / 6)^a; 0 turns it off.")
    length_penalty_type: str = _option("gnmt", "Length penalty of the beam: gnmt, or avg to divide by the length.")
    coverage_penalty: float = _option(0.0, "Weight of the GNMT coverage penalty for source tokens without attention.")
    no_repeat_ngram_size: int = _option(0, "No n-gram of this size may occur twice in an output; 0 turns it off.")
    temperature: float = _option(0.0, "Sample from softmax(log p / temperature); 0 turns sampling off.")
    top_k: int | None = _option(None, "Sample among the k most probable tokens.")
    top_p: float | None = _option(None, "Sample among the most probable tokens that have this probability together.")
    seed: int | None = _option(None, "Seed of the samples; without one, sampling differs between calls.")
    mbr_samples: int = _option(
        0, "Re-rank the beam by minimum Bayes risk, estimated from this many samples; 0 turns it off."
    )
    retrieval_captions: int = _option(
        0, "Re-rank the beam by similarity to the captions of this many similar training images; 0 turns it off."
    )
    facts: bool = _option(
        False,
        "Of the beam's hypotheses, or of n_best samples, choose the one with the fewest mistakes about its table.",
    )
    processors: Sequence[Any] = _option(
        (), "Functions (log_probs, history) that change the next tokens' log-probabilities, in order.", flag=False
    )
    drop_finished: bool = _option(True, "Fast path: drop finished outputs from the batch.", flag=False)

    def __post_init__(self) -> None:
        self._check_parts()
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            object.__setattr__(self, "temperature", 1.0)
        self._check_ranges()
        for name in ("mbr_samples", "retrieval_captions"):
            if getattr(self, name) and self.beam_size == 1:
                raise UserError(f"decoding.{name}={getattr(self, name)}: re-ranks a beam; set a beam size, such as 20")
        if self.facts and self.beam_size == 1 and not (self.samples_outputs and self.n_best > 1):
            raise UserError(
                "decoding.facts=true: chooses among several outputs; set a beam size, such as 10, or n_best samples"
            )
        if self.beam_size > 1 and self.temperature and not self.mbr_samples:
            raise UserError(f"decoding.beam_size={self.beam_size}: excludes sampling; leave one of them out")
        if self.n_best > self.beam_size and not self.samples_outputs:
            raise UserError(
                f"decoding.n_best={self.n_best}: more than the beam size {self.beam_size}; use a beam of {self.n_best}"
            )

    def _check_parts(self) -> None:
        processors: Any = self.processors
        if not isinstance(processors, Sequence) or isinstance(processors, str):
            raise UserError(f"decoding.processors: {type(processors).__name__}: expected a list")
        for processor in processors:
            if not callable(processor):
                raise UserError(
                    f"decoding.processors: {type(processor).__name__} cannot be called; give functions (log_probs, "
                    "history) -> log_probs, in a config as {_target_: mypackage.MyProcessor}"
                )
        object.__setattr__(self, "processors", tuple(processors))
        for name in ("facts", "drop_finished"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"decoding.{name}={getattr(self, name)}: expected true or false")

    def _check_ranges(self) -> None:
        lowest = {"max_length": 1, "min_length": 1, "beam_size": 1, "n_best": 1}
        lowest |= dict.fromkeys(("no_repeat_ngram_size", "mbr_samples", "retrieval_captions"), 0)
        for name, least in lowest.items():
            _require(name, getattr(self, name), int, least)
        _require("length_penalty", self.length_penalty, (int, float), 0, MOST_PENALTY)
        for name in ("coverage_penalty", "temperature"):
            _require(name, getattr(self, name), (int, float), 0)
        if self.top_k is not None:
            _require("top_k", self.top_k, int, 1)
        if self.seed is not None:
            _require("seed", self.seed, int, 0)
        if self.top_p is not None:
            _require("top_p", self.top_p, (int, float), 0)
            if not 0 < self.top_p <= 1:
                raise UserError(f"decoding.top_p={self.top_p}: expected a probability above 0, up to 1")
        if self.min_length > self.max_length:
            raise UserError(
                f"decoding.min_length={self.min_length}: above max_length={self.max_length}; change one of them"
            )
        if self.length_penalty_type == "avg" and self.length_penalty:
            raise UserError(
                f"decoding.length_penalty={self.length_penalty}: the type avg has no exponent; leave one of them out"
            )
        if self.length_penalty_type not in LENGTH_PENALTIES:
            kind = self.length_penalty_type
            raise UserError(f"decoding.length_penalty_type={kind}: unknown; choose {' or '.join(LENGTH_PENALTIES)}")

    @property
    def samples_outputs(self) -> bool:
        """Whether the outputs are samples."""
        return self.temperature > 0 and self.beam_size == 1

    @property
    def is_greedy(self) -> bool:
        """Whether each token is the most probable one."""
        return self.beam_size == 1 and not self.temperature

    @property
    def reranks(self) -> bool:
        """Whether candidates of the beam are ranked again by similarity to other outputs."""
        return bool(self.mbr_samples or self.retrieval_captions)

    def override(self, **options: Any) -> "DecodingConfig":
        """Return these settings with the options that are not None in place of theirs.

        An option that chooses another algorithm turns off the settings of the present one: a temperature or `top_k`
        turns off the beam, a beam size turns off sampling, and `temperature=0` and `beam_size=1` are greedy. Minimum
        Bayes risk has both: a temperature above 0 is that of its samples, a beam size above 1 that of its candidates.
        `facts` is turned off with the beam.

        Raises:
            UserError: there is no such setting, two options exclude each other, or see `DecodingConfig`.
        """
        given = {name: value for name, value in options.items() if value is not None}
        names = [field.name for field in fields(self)]
        for name in given:
            if name not in names:
                raise UserError(f"decoding.{name}: no such setting; choose one of {', '.join(names)}")
        return replace(self, **{**self.turn_off(given), **given})

    def turn_off(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that given options turn off, with their values; see `override`.

        Raises:
            UserError: two options exclude each other.
        """
        if given.get("temperature") == 0 and {"top_k", "top_p"} & given.keys():
            raise UserError("decoding.temperature=0: turns sampling off; leave top_k and top_p out")
        return self._turn_off_algorithm(given) | self._turn_off_penalty(given)

    def describe(self) -> str:
        """Return the kind of search, and the settings that differ from greedy decoding."""
        plain = DecodingConfig()
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["processors"] = ",".join(getattr(part, "__name__", type(part).__name__) for part in self.processors)
        settings = [f"{name}={value}" for name, value in values.items() if value not in (getattr(plain, name), "")]
        kind = "greedy" if self.is_greedy else "sampling" if self.samples_outputs else "beam search"
        return " ".join(["re-ranked beam search" if self.reranks else kind, *settings])

    def _turn_off_algorithm(self, given: Mapping[str, Any]) -> dict[str, Any]:
        no_sampling: dict[str, Any] = {"temperature": 0.0, "top_k": None, "top_p": None}
        no_beam = {"beam_size": 1, "mbr_samples": 0, "retrieval_captions": 0, "facts": False}
        greedy = no_beam | no_sampling | {"n_best": 1}
        mbr = given.get("mbr_samples", self.mbr_samples)
        if given.get("temperature") == 0:
            return no_sampling if "beam_size" in given else greedy
        if {"temperature", "top_k", "top_p"} & given.keys():
            return {} if mbr and given.get("beam_size") != 1 else no_beam
        if "beam_size" in given:
            return greedy if given["beam_size"] == 1 else ({} if mbr else no_sampling)
        return {}

    def _turn_off_penalty(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if given.get("length_penalty_type") == "avg":
            return {"length_penalty": 0.0}
        return {"length_penalty_type": "gnmt"} if given.get("length_penalty") else {}


def describe_search(decoding: object) -> str:
    """Return by which search outputs are decoded; a search of the user's own is named by its class."""
    return decoding.describe() if isinstance(decoding, DecodingConfig) else type(decoding).__name__


def _require(name: str, value: Any, kind: Any, least: int, most: int | None = None) -> None:
    whole = "a whole number" if kind is int else "a number"
    if not isinstance(value, kind) or isinstance(value, bool) or not value >= least or value == float("inf"):
        raise UserError(f"decoding.{name}={value}: expected {whole} from {least}")
    if most is not None and value > most:
        raise UserError(f"decoding.{name}={value}: expected {whole} from {least} to {most}")
