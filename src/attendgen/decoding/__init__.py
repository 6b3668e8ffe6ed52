"""Decoding: greedy, sampling, beam search, minimum Bayes risk."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.decoding.beam import beam_search as beam_search
    from attendgen.decoding.config import DecodingConfig as DecodingConfig
    from attendgen.decoding.decode import decode as decode
    from attendgen.decoding.mbr import mbr_rerank as mbr_rerank
    from attendgen.decoding.processors import Constraints as Constraints
    from attendgen.decoding.processors import RepetitionPenalty as RepetitionPenalty
    from attendgen.decoding.protocol import DecodableModel as DecodableModel
    from attendgen.decoding.protocol import Decoded as Decoded
    from attendgen.decoding.protocol import DecodingFunction as DecodingFunction
    from attendgen.decoding.protocol import LogitsProcessor as LogitsProcessor
    from attendgen.decoding.protocol import StatefulModel as StatefulModel
    from attendgen.decoding.sampling import greedy_or_sample as greedy_or_sample
    from attendgen.decoding.scoring import BeamScorer as BeamScorer

__all__ = [
    "BeamScorer",
    "Constraints",
    "DecodableModel",
    "Decoded",
    "DecodingConfig",
    "DecodingFunction",
    "LogitsProcessor",
    "RepetitionPenalty",
    "StatefulModel",
    "beam_search",
    "decode",
    "greedy_or_sample",
    "mbr_rerank",
]

_PUBLIC = {
    "BeamScorer": "scoring",
    "Constraints": "processors",
    "DecodableModel": "protocol",
    "Decoded": "protocol",
    "DecodingConfig": "config",
    "DecodingFunction": "protocol",
    "LogitsProcessor": "protocol",
    "RepetitionPenalty": "processors",
    "StatefulModel": "protocol",
    "beam_search": "beam",
    "decode": "decode",
    "greedy_or_sample": "sampling",
    "mbr_rerank": "mbr",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
