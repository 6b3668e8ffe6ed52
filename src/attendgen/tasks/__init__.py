"""Tasks: what is trained and how it is scored."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.tasks.base import BaseTask as BaseTask
    from attendgen.tasks.base import LossTerm as LossTerm
    from attendgen.tasks.base import Predictions as Predictions
    from attendgen.tasks.captioning import CaptioningTask as CaptioningTask
    from attendgen.tasks.generating import GeneratingTask as GeneratingTask
    from attendgen.tasks.hard_attention import HardAttentionTask as HardAttentionTask
    from attendgen.tasks.hard_attention import HardTableTask as HardTableTask
    from attendgen.tasks.language_model import LanguageModelTask as LanguageModelTask
    from attendgen.tasks.self_critical import SelfCriticalTask as SelfCriticalTask
    from attendgen.tasks.seq2seq import Seq2SeqTask as Seq2SeqTask
    from attendgen.tasks.table_to_text import TableTask as TableTask

__all__ = [
    "BaseTask",
    "CaptioningTask",
    "GeneratingTask",
    "HardAttentionTask",
    "HardTableTask",
    "LanguageModelTask",
    "LossTerm",
    "Predictions",
    "SelfCriticalTask",
    "Seq2SeqTask",
    "TableTask",
]

_PUBLIC = {
    "BaseTask": "base",
    "CaptioningTask": "captioning",
    "GeneratingTask": "generating",
    "HardAttentionTask": "hard_attention",
    "HardTableTask": "hard_attention",
    "LanguageModelTask": "language_model",
    "LossTerm": "base",
    "Predictions": "base",
    "SelfCriticalTask": "self_critical",
    "Seq2SeqTask": "seq2seq",
    "TableTask": "table_to_text",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
