"""Layers: attention, recurrences with attention, decoders."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.layers.attention import AdditiveAttention as AdditiveAttention
    from attendgen.layers.attention import DotAttention as DotAttention
    from attendgen.layers.attention import GeneralAttention as GeneralAttention
    from attendgen.layers.attention import MeanAttention as MeanAttention
    from attendgen.layers.attention_protocol import Attention as Attention
    from attendgen.layers.attention_protocol import PastAttention as PastAttention
    from attendgen.layers.attention_unit import AttentionUnit as AttentionUnit
    from attendgen.layers.bahdanau import BahdanauDecoder as BahdanauDecoder
    from attendgen.layers.decoder import Decoder as Decoder
    from attendgen.layers.decoder import HardDecoder as HardDecoder
    from attendgen.layers.hard_attention import ArgmaxSampler as ArgmaxSampler
    from attendgen.layers.hard_attention import CategoricalSampler as CategoricalSampler
    from attendgen.layers.hard_attention import SampledWeights as SampledWeights
    from attendgen.layers.hard_attention import SemiSampler as SemiSampler
    from attendgen.layers.hard_attention import StraightThroughGumbelSampler as StraightThroughGumbelSampler
    from attendgen.layers.lstm import BidirectionalLSTM as BidirectionalLSTM
    from attendgen.layers.luong import LuongDecoder as LuongDecoder
    from attendgen.layers.multi_head import MultiHeadAttention as MultiHeadAttention
    from attendgen.layers.ngram_embedding import NGramEmbedding as NGramEmbedding
    from attendgen.layers.past_attention import CoverageAttention as CoverageAttention
    from attendgen.layers.past_attention import LocationSensitiveAttention as LocationSensitiveAttention
    from attendgen.layers.plain import use_plain_autograd as use_plain_autograd
    from attendgen.layers.records import RecordEncoder as RecordEncoder
    from attendgen.layers.row_attention import RowAttention as RowAttention
    from attendgen.layers.sliding_attention import SlidingAttention as SlidingAttention
    from attendgen.layers.state import AttentionPast as AttentionPast
    from attendgen.layers.state import LSTMState as LSTMState
    from attendgen.layers.state import Memory as Memory
    from attendgen.layers.tables import Cell as Cell
    from attendgen.layers.tables import Cells as Cells
    from attendgen.layers.tables import Row as Row
    from attendgen.layers.tables import Table as Table

__all__ = [
    "AdditiveAttention",
    "ArgmaxSampler",
    "Attention",
    "AttentionPast",
    "AttentionUnit",
    "BahdanauDecoder",
    "BidirectionalLSTM",
    "CategoricalSampler",
    "Cell",
    "Cells",
    "CoverageAttention",
    "Decoder",
    "DotAttention",
    "GeneralAttention",
    "HardDecoder",
    "LSTMState",
    "LocationSensitiveAttention",
    "LuongDecoder",
    "MeanAttention",
    "Memory",
    "MultiHeadAttention",
    "NGramEmbedding",
    "PastAttention",
    "RecordEncoder",
    "Row",
    "RowAttention",
    "SampledWeights",
    "SemiSampler",
    "SlidingAttention",
    "StraightThroughGumbelSampler",
    "Table",
    "use_plain_autograd",
]

_PUBLIC = {
    "AdditiveAttention": "attention",
    "ArgmaxSampler": "hard_attention",
    "Attention": "attention_protocol",
    "AttentionPast": "state",
    "AttentionUnit": "attention_unit",
    "BahdanauDecoder": "bahdanau",
    "BidirectionalLSTM": "lstm",
    "CategoricalSampler": "hard_attention",
    "Cell": "tables",
    "Cells": "tables",
    "CoverageAttention": "past_attention",
    "Decoder": "decoder",
    "DotAttention": "attention",
    "GeneralAttention": "attention",
    "HardDecoder": "decoder",
    "LSTMState": "state",
    "LocationSensitiveAttention": "past_attention",
    "LuongDecoder": "luong",
    "MeanAttention": "attention",
    "Memory": "state",
    "MultiHeadAttention": "multi_head",
    "NGramEmbedding": "ngram_embedding",
    "PastAttention": "attention_protocol",
    "RecordEncoder": "records",
    "Row": "tables",
    "RowAttention": "row_attention",
    "SampledWeights": "hard_attention",
    "SemiSampler": "hard_attention",
    "SlidingAttention": "sliding_attention",
    "StraightThroughGumbelSampler": "hard_attention",
    "Table": "tables",
    "use_plain_autograd": "plain",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
