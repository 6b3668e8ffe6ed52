"""Data modules and their data sets."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.data.captions.module import CaptionDataModule as CaptionDataModule
    from attendgen.data.captions.shapes import Shapes as Shapes
    from attendgen.data.captions.sources import CaptionSource as CaptionSource
    from attendgen.data.captions.sources import Coco as Coco
    from attendgen.data.captions.sources import Flickr8k as Flickr8k
    from attendgen.data.captions.sources import Karpathy as Karpathy
    from attendgen.data.module import BaseDataModule as BaseDataModule
    from attendgen.data.parallel import ParallelDataModule as ParallelDataModule
    from attendgen.data.text_corpus import TextDataModule as TextDataModule

__all__ = [
    "BaseDataModule",
    "CaptionDataModule",
    "CaptionSource",
    "Coco",
    "Flickr8k",
    "Karpathy",
    "ParallelDataModule",
    "Shapes",
    "TextDataModule",
]

_PUBLIC = {
    "BaseDataModule": "module",
    "CaptionDataModule": "captions.module",
    "CaptionSource": "captions.sources",
    "Coco": "captions.sources",
    "Flickr8k": "captions.sources",
    "Karpathy": "captions.sources",
    "ParallelDataModule": "parallel",
    "Shapes": "captions.shapes",
    "TextDataModule": "text_corpus",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
