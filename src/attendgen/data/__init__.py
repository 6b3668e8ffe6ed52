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
    from attendgen.data.tables.json_lines import TableLines as TableLines
    from attendgen.data.tables.meaning_representations import MeaningRepresentations as MeaningRepresentations
    from attendgen.data.tables.module import TableDataModule as TableDataModule
    from attendgen.data.tables.rotowire import RotoWireGames as RotoWireGames
    from attendgen.data.tables.rotowire import RotoWireSentences as RotoWireSentences
    from attendgen.data.tables.table import TableSource as TableSource
    from attendgen.data.tables.table import TableText as TableText
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
    "MeaningRepresentations",
    "ParallelDataModule",
    "RotoWireGames",
    "RotoWireSentences",
    "Shapes",
    "TableDataModule",
    "TableLines",
    "TableSource",
    "TableText",
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
    "MeaningRepresentations": "tables.meaning_representations",
    "ParallelDataModule": "parallel",
    "RotoWireGames": "tables.rotowire",
    "RotoWireSentences": "tables.rotowire",
    "Shapes": "captions.shapes",
    "TableDataModule": "tables.module",
    "TableLines": "tables.json_lines",
    "TableSource": "tables.table",
    "TableText": "tables.table",
    "TextCaps": "captions.coco",
    "TextDataModule": "text_corpus",
}
__getattr__, __dir__ = attach(__name__, _PUBLIC)
