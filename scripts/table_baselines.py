"""Score the human texts of data-to-text sets, and texts that are retrieved from the training set.

    python scripts/table_baselines.py e2e data/e2e/dev.csv
    python scripts/table_baselines.py e2e data/e2e/dev_cleaned.csv --cleaning
    python scripts/table_baselines.py sentences data/rotowire_sentences
    python scripts/table_baselines.py games data/rotowire/valid.json --tuples data/rotowire/gold_tuples.valid.txt

`e2e` prints the slot errors of the human texts; with `--cleaning`, of a cleaned set, also how far they agree with its
changes of the original tables. `sentences` compares the human sentences of the validation split with a
floor: take the training sentence whose records have the same types, or else the most similar ones, and put the values
in. `games` scores the human reports by rules; with `--tuples`, facts that a trained classifier found in them, it prints
how far the rules agree with it.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from attendgen.cli.script import script
from attendgen.data.tables.meaning_representations import MeaningRepresentations
from attendgen.data.tables.rotowire import RotoWireGames, RotoWireSentences
from attendgen.data.tables.table import TableText
from attendgen.layers.tables import Cell, Table
from attendgen.metrics.box_score_facts import BoxScoreFacts
from attendgen.metrics.game_facts import Fact, find_facts
from attendgen.metrics.game_names import NUMBERS, find_names
from attendgen.metrics.record_scores import RecordScores
from attendgen.metrics.slot_errors import SlotErrors
from attendgen.metrics.text import Bleu
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_text
from attendgen.utils.tables import print_table


class Retrieval:
    """Finds the training sentence about the most similar records, and puts the values of a table into it.

    Args:
        pairs: the training pairs.
    """

    def __init__(self, pairs: Sequence[TableText]) -> None:
        self.pairs = pairs
        self.by_types: dict[tuple[str, ...], int] = {}
        for number, pair in enumerate(pairs):
            self.by_types.setdefault(tuple(cell.kind for cell in list_cells(pair.table)), number)
        self.counts = {types: Counter(types) for types in self.by_types}
        self.nearest: dict[tuple[str, ...], int] = {}

    def __call__(self, table: Table) -> str:
        """Return a sentence about a table."""
        cells = list_cells(table)
        types = tuple(cell.kind for cell in cells)
        found = self.pairs[self.by_types[types] if types in self.by_types else self._find_nearest(types)]
        rest: dict[str, list[str]] = defaultdict(list)
        for cell in cells:
            rest[cell.kind].append(cell.value)
        values: dict[str, list[str]] = defaultdict(list)
        for cell in list_cells(found.table):
            if rest[cell.kind]:
                values[cell.value].append(rest[cell.kind].pop(0))
        return " ".join(values[word].pop(0) if values.get(word) else word for word in found.text.split())

    def _find_nearest(self, types: tuple[str, ...]) -> int:
        """Return the training pair whose types differ in the fewest."""
        if types not in self.nearest:
            wanted = Counter(types)

            def count_differences(counts: Counter[str]) -> int:
                return sum(abs(wanted[kind] - counts[kind]) for kind in wanted.keys() | counts.keys())

            # lists of another length differ in as many types
            near = [other for other in self.counts if abs(len(other) - len(types)) <= 2] or list(self.counts)
            self.nearest[types] = self.by_types[min(near, key=lambda other: count_differences(self.counts[other]))]
        return self.nearest[types]


def list_cells(table: Table) -> list[Cell]:
    """Return the cells of all rows."""
    return [cell for row in table for cell in row.cells]


def score_e2e(pairs: Sequence[TableText]) -> dict[str, dict[str, float]]:
    """Return the slot errors of human texts."""
    tables, texts = [pair.table for pair in pairs], [pair.text for pair in pairs]
    return {"human": SlotErrors(by_slot=True).score_tables(texts, [[]] * len(texts), tables)}


def compare_cleaning(path: Path) -> dict[str, dict[str, float]]:
    """Return slot errors of texts in the original tables, by the changes that cleaning made, and by SlotErrors.

    The agreement is that of the slots which have an error.
    """
    originals, cleaned = MeaningRepresentations("orig_mr")([path]), MeaningRepresentations()([path])
    metric = SlotErrors()
    values, totals = 0, {"changes": 0, "patterns": 0}
    by_changes, by_patterns = set(), set()
    for number, (original, new) in enumerate(zip(originals, cleaned, strict=True)):
        values += len(list_cells(original.table))
        found = metric.count_errors(original.text, original.table)
        totals["patterns"] += sum(map(sum, found.values()))
        by_patterns |= {(number, slot) for slot, counts in found.items() if any(counts)}
        before, after = set(list_cells(original.table)), set(list_cells(new.table))
        for slot in {cell.kind for cell in before ^ after}:
            added = {cell for cell in after - before if cell.kind == slot and cell.value != "restaurant"}
            count = max(len(added), sum(cell.kind == slot for cell in before - after))
            totals["changes"] += count
            by_changes |= {(number, slot)} if count else set()
    shared = 100 * len(by_changes & by_patterns)
    return {
        "changes": {"ser": 100 * totals["changes"] / values, "precision": 100.0, "recall": 100.0},
        "patterns": {
            "ser": 100 * totals["patterns"] / values,
            "precision": shared / len(by_patterns),
            "recall": shared / len(by_changes),
        },
    }


def score_sentences(train: Sequence[TableText], val: Sequence[TableText]) -> dict[str, dict[str, float]]:
    """Return the scores of human and of retrieved sentences."""
    tables, texts = [pair.table for pair in val], [pair.text for pair in val]
    retrieval = Retrieval(train)
    rows = {"human": texts, "retrieved": [retrieval(table) for table in tables]}
    references = [[text] for text in texts]
    return {
        name: {**Bleu(tokenize="none")(outputs, references), **RecordScores().score_tables(outputs, references, tables)}
        for name, outputs in rows.items()
    }


def score_games(pairs: Sequence[TableText]) -> dict[str, dict[str, float]]:
    """Return the scores of human reports by rules."""
    tables, texts = [pair.table for pair in pairs], [pair.text for pair in pairs]
    return {"human": BoxScoreFacts().score_tables(texts, [[text] for text in texts], tables)}


def compare_tuples(pairs: Sequence[TableText], path: Path) -> dict[str, float]:
    """Return the precision and recall of the facts that the rules find, by those of a file.

    The file has lines `entity|value|type`, and a blank line before each game.

    Raises:
        UserError: it has another number of games, or a line of another form.
    """
    blocks: list[list[str]] = []
    for line in read_text(path).split("\n"):
        if not line:
            blocks.append([])
        elif blocks:
            blocks[-1].append(line)
    blocks = blocks[: len(pairs)]
    if len(blocks) != len(pairs):
        raise UserError(f"{path}: facts of {len(blocks)} games for {len(pairs)} reports")
    shared = found = wanted = 0
    for pair, lines in zip(pairs, blocks, strict=True):
        theirs, ours = _read_facts(lines, pair.table, path), set(find_facts(pair.text, pair.table))
        shared, found, wanted = shared + len(theirs & ours), found + len(ours), wanted + len(theirs)
    return {"precision": 100 * shared / found, "recall": 100 * shared / wanted}


def _read_facts(lines: Sequence[str], table: Table, path: Path) -> set[Fact]:
    names = find_names(table)
    facts = set()
    for line in lines:
        parts = line.split("|")
        if len(parts) != 3:
            raise UserError(f"{path}: {line!r}: expected entity|value|type")
        mark = names.get(parts[0])  # someone who is not in the box score counts, too: the rules cannot find him
        facts.add(Fact(int(mark[2:]) if mark else -1, parts[2], str(NUMBERS.get(parts[1].lower(), parts[1]))))
    return facts


def print_scores(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print a row of scores for each kind of text."""
    names = list(dict.fromkeys(name for scores in rows.values() for name in scores))
    print_table(["texts", *names], [[who, *(f"{s[name]:.2f}" for name in names)] for who, s in rows.items()])


@script
def main(arguments: list[str] | None = None) -> None:
    """Print the scores of a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("e2e", "sentences", "games"))
    parser.add_argument("path", type=Path, help="a CSV of E2E, the folder of sentences, or a JSON file of games")
    parser.add_argument("--cleaning", action="store_true", help="compare with what cleaning E2E changed")
    parser.add_argument("--tuples", type=Path, help="facts of the same games by others")
    options = parser.parse_args(arguments)
    if options.set == "e2e":
        print_scores(score_e2e(MeaningRepresentations()([options.path])))
        if options.cleaning:
            print_scores(compare_cleaning(options.path))
    elif options.set == "sentences":
        train, val = (RotoWireSentences()([options.path / f"{{part}}.{split}.txt"]) for split in ("train", "valid"))
        print_scores(score_sentences(train, val))
    else:
        pairs = RotoWireGames()([options.path])
        print_scores(score_games(pairs))
        if options.tuples is not None:
            print_scores({"agreement": compare_tuples(pairs, options.tuples)})


if __name__ == "__main__":
    main()
