"""Data modules and their data sets."""

from typing import TYPE_CHECKING

from attendgen.utils.lazy import attach

if TYPE_CHECKING:
    from attendgen.data.captions.coco import Coco as Coco
    from attendgen.data.captions.coco import Karpathy as Karpathy
    from attendgen.data.captions.coco import TextCaps as TextCaps
    from attendgen.data.captions.flickr import Flickr8k as Flickr8k
    from attendgen.data.captions.flickr import FlickrCsv as FlickrCsv
    from attendgen.data.captions.json_lines import JsonLines as JsonLines
    from attendgen.data.captions.module import CaptionDataModule as CaptionDataModule
    from attendgen.data.captions.shapes import Shapes as Shapes
    from attendgen.data.captions.sources import CaptionSource as CaptionSource
    from attendgen.data.module import BaseDataModule as BaseDataModule
    from attendgen.data.parallel import ParallelDataModule as ParallelDataModule
    from attendgen.data.text_corpus import TextDataModule as TextDataModule

__all__ = [
    "BaseDataModule",
    "CaptionDataModule",
    "CaptionSource",
    "Coco",
    "Flickr8k",
    "FlickrCsv",
    "JsonLines",
    "Karpathy",
    "ParallelDataModule",
    "Shapes",
    "TextCaps",
    "TextDataModule",
]

_PUBLIC = {
    "BaseDataModule": "module",
    "CaptionDataModule": "captions.module",
    "CaptionSource": "captions.sources",
    "Coco": "captions.coco",
    "Flickr8k": "captions.flickr",
    "FlickrCsv": "captions.flickr",
    "JsonLines": "captions.json_lines",
    "Karpathy": "captions.coco",
    "ParallelDataModule": "parallel",
    "Shapes": "captions.shapes",
    "TextCaps": "captions.coco",
    "TextDataModule": "text_corpus",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
