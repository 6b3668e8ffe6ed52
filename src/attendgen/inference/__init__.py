"""Using trained models."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.inference.base import TrainedModel as TrainedModel
    from attendgen.inference.image_captioner import ImageCaptioner as ImageCaptioner
    from attendgen.inference.result import Result as Result
    from attendgen.inference.table_writer import TableWriter as TableWriter
    from attendgen.inference.text_generator import TextGenerator as TextGenerator
    from attendgen.inference.translator import Translator as Translator

__all__ = [
    "ImageCaptioner",
    "Result",
    "TableWriter",
    "TextGenerator",
    "TrainedModel",
    "Translator",
]

_PUBLIC = {
    "ImageCaptioner": "image_captioner",
    "Result": "result",
    "TableWriter": "table_writer",
    "TextGenerator": "text_generator",
    "TrainedModel": "base",
    "Translator": "translator",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
