"""Building the vocabularies of tables and their texts."""

from collections import Counter
from collections.abc import Iterable, Sequence

from attendgen.data.tables.table import TableText
from attendgen.layers.tables import Cell
from attendgen.text.protocol import Tokenizer, TrainableTokenizer
from attendgen.text.table_vocabulary import TableVocabulary, split_value
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError, format_some
from attendgen.utils.special_tokens import SPECIALS, UNKNOWN

NUMERIC = 10  # tables with more different numbers than this are numeric: any number may occur in a table to come
NUMBERS = range(161)  # all that a statistic of a basketball game can be
WORDS = 16  # places in a value that are told apart, at most
EXAMPLES = 5  # values of each kind that messages name


def build_table_vocabulary(
    pairs: Sequence[TableText],
    tokenizer: Tokenizer,
    normalizer: str = "none",
    min_frequency: int = 1,
    delexicalise: Sequence[str] = (),
) -> TableVocabulary:
    """Build the vocabularies of training tables and their texts.

    The words of values belong to the target vocabulary however rare they are, so that they can be copied. If the values
    hold many different numbers, all numbers from 0 to 160 belong to both.

    Args:
        min_frequency: rarer tokens of texts become <unk>.
        delexicalise: kinds whose values placeholders replace.

    Raises:
        UserError: no table has a kind that shall be delexicalised.
    """
    tables = list(dict.fromkeys(pair.table for pair in pairs))
    cells = [cell for table in tables for row in table for cell in row.cells]
    kinds = _rank(cell.kind for cell in cells)
    if missing := [kind for kind in delexicalise if kind not in kinds]:
        raise UserError(f"data.delexicalise: no table has {missing[0]!r}; choose among {format_some(sorted(kinds))}")
    entities = _rank(cell.entity for cell in cells if cell.entity)
    # only the kinds to replace matter for this
    hiding = TableVocabulary(
        kinds, (), (), Vocabulary((), normalizer=normalizer, tokenizer=tokenizer), 1, (), delexicalise
    )
    texts = [hiding.target.normalize(hiding.delexicalise_text(*pair)) for pair in pairs]
    if isinstance(tokenizer, TrainableTokenizer):
        tokenizer = tokenizer.train(texts)
    splitter = Vocabulary((), normalizer=normalizer, tokenizer=tokenizer)
    values = [
        split_value(cell.value, splitter)
        for table in map(hiding.delexicalise, tables)
        for row in table
        for cell in row.cells
    ]
    words = _rank(word for value in values for word in value)
    if len(numbers := {word for word in words if word.isdecimal()}) > NUMERIC:
        words += [word for number in NUMBERS if (word := str(number)) not in numbers]
    counts = Counter(token for text in texts for token in tokenizer.split(text))
    counts.update({word: max(0, min_frequency - counts[word]) for word in words})
    return TableVocabulary(
        kinds,
        entities,
        words,
        Vocabulary.from_counts(counts, normalizer=normalizer, min_frequency=min_frequency, tokenizer=tokenizer),
        words=min(max(map(len, values)), WORDS),
        sides=list(dict.fromkeys(row.side for table in tables for row in table if row.side)),
        delexicalised=list(delexicalise),
        headings=_find_headings(entities, cells),
        examples=_find_examples(kinds, cells),
    )


def _rank(names: Iterable[str]) -> list[str]:
    """Return names by their frequency, without those of the special tokens."""
    counts = Counter(names)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return [name for name in ranked if name not in (*SPECIALS, UNKNOWN)]


def _find_headings(entities: Sequence[str], cells: Iterable[Cell]) -> list[str]:
    """Return the kind of the cell that states each entity's name; nothing if no entity has one."""
    found = {cell.entity: cell.kind for cell in cells if cell.value == cell.entity}
    return [found.get(entity, "") for entity in entities] if found else []


def _find_examples(kinds: Sequence[str], cells: Iterable[Cell]) -> list[list[str]]:
    """Return the most frequent values of each kind."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    for cell in cells:
        counts[cell.kind][cell.value] += 1
    return [[value for value, _ in counts[kind].most_common(EXAMPLES)] for kind in kinds]
