"""Models: sequence-to-sequence, language models, captioners, ensembles, encoders."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.models.captioner import Captioner as Captioner
    from attendgen.models.encoders.base import GridEncoder as GridEncoder
    from attendgen.models.encoders.base import ImageModel as ImageModel
    from attendgen.models.encoders.efficientnet_lite import EfficientNetLite as EfficientNetLite
    from attendgen.models.encoders.precomputed import PrecomputedFeatures as PrecomputedFeatures
    from attendgen.models.encoders.small_cnn import SmallCNN as SmallCNN
    from attendgen.models.encoders.timm import TimmEncoder as TimmEncoder
    from attendgen.models.encoders.torchvision import TorchvisionEncoder as TorchvisionEncoder
    from attendgen.models.ensemble import CaptionerEnsemble as CaptionerEnsemble
    from attendgen.models.ensemble import Ensemble as Ensemble
    from attendgen.models.ensemble import StatefulEnsemble as StatefulEnsemble
    from attendgen.models.lm.common import StatefulLanguageModel as StatefulLanguageModel
    from attendgen.models.lm.context import ContextLanguageModel as ContextLanguageModel
    from attendgen.models.lm.lstm import LSTMLanguageModel as LSTMLanguageModel
    from attendgen.models.lm.textgenerate import TextGenerateLanguageModel as TextGenerateLanguageModel
    from attendgen.models.lm.transformer import TransformerLanguageModel as TransformerLanguageModel
    from attendgen.models.seq2seq import Seq2Seq as Seq2Seq
    from attendgen.models.table_to_text import TableToText as TableToText
    from attendgen.models.transformer import TransformerSeq2Seq as TransformerSeq2Seq
    from attendgen.models.transformer_captioner import TransformerCaptioner as TransformerCaptioner

__all__ = [
    "Captioner",
    "CaptionerEnsemble",
    "ContextLanguageModel",
    "EfficientNetLite",
    "Ensemble",
    "GridEncoder",
    "ImageModel",
    "LSTMLanguageModel",
    "PrecomputedFeatures",
    "Seq2Seq",
    "SmallCNN",
    "StatefulEnsemble",
    "StatefulLanguageModel",
    "TableToText",
    "TextGenerateLanguageModel",
    "TimmEncoder",
    "TorchvisionEncoder",
    "TransformerCaptioner",
    "TransformerLanguageModel",
    "TransformerSeq2Seq",
]

_PUBLIC = {
    "Captioner": "captioner",
    "CaptionerEnsemble": "ensemble",
    "ContextLanguageModel": "lm.context",
    "EfficientNetLite": "encoders.efficientnet_lite",
    "Ensemble": "ensemble",
    "GridEncoder": "encoders.base",
    "ImageModel": "encoders.base",
    "LSTMLanguageModel": "lm.lstm",
    "Seq2Seq": "seq2seq",
    "PrecomputedFeatures": "encoders.precomputed",
    "SmallCNN": "encoders.small_cnn",
    "StatefulEnsemble": "ensemble",
    "StatefulLanguageModel": "lm.common",
    "TableToText": "table_to_text",
    "TextGenerateLanguageModel": "lm.textgenerate",
    "TimmEncoder": "encoders.timm",
    "TorchvisionEncoder": "encoders.torchvision",
    "TransformerCaptioner": "transformer_captioner",
    "TransformerLanguageModel": "lm.transformer",
    "TransformerSeq2Seq": "transformer",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
