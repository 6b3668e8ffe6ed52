"""The vocabularies of tables and of the texts about them."""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from attendgen.layers.tables import Cell, CellIds, Row, Table
from attendgen.text.protocol import SplittingVocabulary
from attendgen.text.saved import describe
from attendgen.utils.special_tokens import PAD, SPECIALS, UNKNOWN

UNK = 1  # of a `ClosedVocabulary`
PREFIX = re.compile(r"^(?:PLAYER|TEAM)[-_](?=.)")  # of RotoWire's record types
MARK = "X_"  # a placeholder begins with it; the words of a text leave it whole


class ClosedVocabulary:
    """Names and their ids: <pad> 0, <unk> 1, then the names.

    Args:
        names: each occurs once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.tokens = (SPECIALS[PAD], UNKNOWN, *self.names)
        self.ids = {name: index for index, name in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            raise ValueError("a name that occurs twice")

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, name: str) -> bool:
        return self.ids.get(name, UNK) > UNK

    def encode(self, name: str) -> int:
        """Return the id of a name; that of <unk> if it is unknown."""
        return self.ids.get(name, UNK)

    def find(self, name: str) -> str:
        """Return the known name that is spelled alike, see `fold_name`; the name as it is if there is none."""
        return name if name in self else self._folded.get(fold_name(name), name)

    @functools.cached_property
    def _folded(self) -> dict[str, str]:
        return {fold_name(name): name for name in reversed(self.names)}


class TableVocabulary:
    """The vocabularies of record types, entities, words of values and target texts.

    A value is split into words as the target vocabulary splits it, so that they can be copied.

    Args:
        kinds: names of the record types or slots.
        entities: whom or what records are about; none if a table is about one thing.
        values: words of the values.
        target: the vocabulary of the texts.
        words: the number of words whose places in a value are told apart.
        sides: names of the groups of rows that are told apart, such as "home" and "away".
        delexicalised: kinds of which a placeholder replaces the value, in tables and texts; see `restore`.
        headings: for each entity the kind of the cell that states its name, as PLAYER_NAME; empty if it has none.
        examples: for each kind some of its values, which messages name.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        entities: Sequence[str],
        values: Sequence[str],
        target: SplittingVocabulary,
        words: int = 1,
        sides: Sequence[str] = (),
        delexicalised: Sequence[str] = (),
        headings: Sequence[str] = (),
        examples: Sequence[Sequence[str]] = (),
    ) -> None:
        self.kinds = ClosedVocabulary(kinds)
        self.entities = ClosedVocabulary(entities)
        self.values = ClosedVocabulary(values)
        self.target = target
        self.words = words
        self.sides = tuple(sides)
        self.delexicalised = tuple(delexicalised)
        self.headings = dict(zip(entities, headings, strict=False))
        self.examples = dict(zip(kinds, map(tuple, examples), strict=False))

    def sizes(self) -> dict[str, int]:
        """Return what a model's constructor must know of the vocabulary."""
        return {
            "kind_vocab_size": len(self.kinds),
            "entity_vocab_size": len(self.entities),
            "value_vocab_size": len(self.values),
            "place_vocab_size": 1 + self.words * (1 + len(self.sides)),
            "target_vocab_size": len(self.target),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments that make the vocabularies again, as plain data."""
        return {
            "kinds": list(self.kinds.names),
            "entities": list(self.entities.names),
            "values": list(self.values.names),
            "target": describe(self.target),
            "words": self.words,
            "sides": list(self.sides),
            "delexicalised": list(self.delexicalised),
            "headings": list(self.headings.values()),
            "examples": list(map(list, self.examples.values())),
        }

    def encode(self, table: Table) -> list[CellIds]:
        """Return the ids of each word of each cell, row by row; unknown names and words are <unk>."""
        table = self.delexicalise(table)
        return [
            ids for number, row in enumerate(table, 1) for cell in row.cells for ids in self._encode(cell, row, number)
        ]

    def _encode(self, cell: Cell, row: Row, number: int) -> list[CellIds]:
        kind = self.kinds.encode(cell.kind)
        entity = self.entities.encode(cell.entity) if cell.entity else PAD
        first = 1 + self.words * (1 + self.sides.index(row.side) if row.side in self.sides else 0)
        return [
            CellIds(
                kind, entity, self.values.encode(word), first + min(place, self.words - 1), number, self._find(word)
            )
            for place, word in enumerate(split_value(cell.value, self.target))
        ]

    def _find(self, word: str) -> int:
        """Return the id of a word in the target vocabulary; <pad> if it has none."""
        index = self.target.ids.get(word, PAD)
        return PAD if index == self.target.unknown else index

    def describe_cell(self, cell: CellIds) -> str:
        """Return a cell's ids as a text, such as "food French" or "PTS 27 (Isaiah_Thomas)"."""
        kind, value = (
            shorten_kind(self.kinds.tokens[cell.kind]),
            self.target.join([self.values.tokens[cell.value]]).strip(),
        )
        entity = self.entities.tokens[cell.entity] if cell.entity != PAD else ""
        about = f" ({entity})" if entity not in ("", value) else ""
        return f"{kind} {value}{about}"

    def delexicalise(self, table: Table) -> Table:
        """Return a table with placeholders in place of the values of the kinds that are delexicalised."""
        placeholders = self._number(table)
        if not placeholders:
            return table
        return tuple(
            row._replace(
                cells=tuple(
                    cell._replace(value=placeholders.get((cell.kind, cell.value), cell.value)) for cell in row.cells
                )
            )
            for row in table
        )

    def delexicalise_text(self, table: Table, text: str) -> str:
        """Return a text about a table with placeholders in place of the values of the kinds that are delexicalised."""
        found = {value: placeholder for (_, value), placeholder in reversed(self._number(table).items())}
        if not found:
            return text
        values = "|".join(map(re.escape, sorted(found, key=len, reverse=True)))  # a value may contain another
        return re.sub(rf"(?<!\w)(?:{values})(?!\w)", lambda match: found[match.group()], text)

    def restore(self, table: Table, text: str) -> str:
        """Return an output with the values of its table in place of the placeholders."""
        values = {placeholder: value for (_, value), placeholder in self._number(table).items()}
        return re.sub(rf"{MARK}\w+", lambda match: values.get(match.group(), match.group()), text) if values else text

    def _number(self, table: Table) -> dict[tuple[str, str], str]:
        """Return the placeholder of each kind and value that is delexicalised: X_name, and X_name_2 of a second."""
        placeholders: dict[tuple[str, str], str] = {}
        if not self.delexicalised:
            return placeholders
        counts = Counter[str]()
        for cell in (cell for row in table for cell in row.cells if cell.kind in self.delexicalised):
            if (cell.kind, cell.value) not in placeholders:
                counts[cell.kind] += 1
                number = f"_{counts[cell.kind]}" if counts[cell.kind] > 1 else ""
                placeholders[cell.kind, cell.value] = MARK + re.sub(r"\W+", "_", cell.kind) + number
        return placeholders


def split_value(value: str, vocabulary: SplittingVocabulary) -> list[str]:
    """Return the tokens of a value as they are within a text, where subwords begin with a space."""
    tokens = vocabulary.split(f" {value}")
    return tokens[1:] if tokens[:1] == [" "] else tokens


def fold_name(name: str) -> str:
    """Return a name in small letters and with blanks in place of underscores."""
    return " ".join(name.replace("_", " ").casefold().split())


def shorten_kind(kind: str) -> str:
    """Return a record type without whom it is about: PTS of PLAYER-PTS and of TEAM-PTS."""
    return PREFIX.sub("", kind)
