"""Trained data-to-text models: a table in, texts out."""

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from attendgen.config.instantiate import instantiate
from attendgen.data.batch import pad_cells, shift_targets
from attendgen.data.tables.written import is_table_file, parse_table, read_tables, require_known, write_line
from attendgen.decoding.alternatives import Alternatives, find_alternatives, take_likeliest
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.facts import FactCheck, make_fact_check
from attendgen.decoding.protocol import Decoded, DecodingFunction
from attendgen.inference.base import BATCH, TrainedModel, generate_batches
from attendgen.inference.result import Result, make_results, score_forced, to_cpu
from attendgen.layers.state import map_tensors
from attendgen.layers.tables import Cells, Table
from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)


class TableWriter(TrainedModel):
    """A trained data-to-text model; a table is a text, see `generate`, or a `Table`."""

    def generate(self, table: str | Table, alternatives: int = 0, **options: Any) -> list[Result]:
        """Return the outputs for one table, best first.

        Args:
            table: `name[The Eagle], food[French]`, `Al Horford PTS 17; Boston PTS 103`, or `{"rows": ...}` in JSON.
            alternatives: how many of the likeliest tokens at each step each result keeps; they cost one more pass over
                the outputs.
            options: those of `DecodingConfig`.

        Raises:
            UserError: the table has another form or an unknown kind, entity or value, or an option is wrong.
        """
        return self.generate_all([table], alternatives, **options)[0]

    def generate_all(self, tables: Sequence[str | Table], alternatives: int = 0, **options: Any) -> list[list[Result]]:
        """Return the outputs for each of several tables, see `generate`; tables of similar length are decoded together.

        Raises:
            UserError: see `generate`.
        """
        decoding = self.make_decoding(options)
        parsed = [self.encode_text(table) for table in tables]
        order = sorted(range(len(parsed)), key=lambda index: sum(len(row.cells) for row in parsed[index]))
        return generate_batches(
            parsed, [order], BATCH, lambda batch: self._generate_batch(batch, decoding, alternatives)
        )

    def encode_text(self, table: str | Table) -> Table:
        """Return the table of a text.

        Raises:
            UserError: it has another form or an unknown kind, entity or value.
        """
        if isinstance(table, str):
            return parse_table(table, self.vocabulary)
        require_known(table, self.vocabulary)
        return table

    def read_inputs(self, path: Path) -> list[str]:
        """Return the tables that a file holds, each as one line: a CSV, a JSON file, or a file of lines.

        Raises:
            UserError: it is missing or broken, or holds no table.
        """
        if is_table_file(path):
            column = OmegaConf.select(self.run.config, "data.source.table") or "mr"
            return list(map(write_line, read_tables(path, column)))
        lines = [line for text in super().read_inputs(path) for line in text.split("\n") if line.strip()]
        if not lines:
            raise UserError(f"{path}: no tables; expected one per line")
        return lines

    def read_line_blocks(self, source: str) -> Iterator[list[str]]:
        """Yield the lines of a file of tables; a CSV or a JSON file becomes one line per table."""
        return iter([self.read_inputs(Path(source))]) if is_table_file(source) else super().read_line_blocks(source)

    @torch.inference_mode()
    def _generate_batch(
        self, tables: Sequence[Table], decoding: DecodingConfig | DecodingFunction, alternatives: int
    ) -> list[list[Result]]:
        cells = self.pad_inputs(self._encode(tables))
        memory, state = self.model.encode(cells)
        suppressed, facts = self.vocabulary.target.suppressed(), self._check_facts(decoding, tables)
        decoded = to_cpu(decode(self.model, memory, state, decoding, suppressed, facts=facts, graphs=self.graphs))
        likeliest = find_alternatives(self.model, memory, state, decoded.tokens, alternatives, suppressed)
        return [self._make_results(decoded, row, table, likeliest) for row, table in enumerate(tables)]

    def _make_results(self, decoded: Decoded, row: int, table: Table, likeliest: Alternatives | None) -> list[Result]:
        """Return the outputs for one table, with what names each column of attention weights."""
        vocabulary, cells = self.vocabulary, self.vocabulary.encode(table)[: self._max_cells]
        labels, rows = [vocabulary.describe_cell(cell) for cell in cells], [cell.row for cell in cells]
        return [
            replace(result, text=vocabulary.restore(table, result.text), rows=rows)
            for result in make_results(decoded, row, vocabulary.target, labels, likeliest)
        ]

    @functools.cached_property
    def _metrics(self) -> list[Any]:
        """The metrics of the run's validation, one of which may count facts."""
        return [instantiate(metric, "task.metrics") for metric in self.run.config.task.get("metrics") or ()]

    def _check_facts(self, decoding: DecodingConfig | DecodingFunction, tables: Sequence[Table]) -> FactCheck | None:
        """Return what counts the facts of outputs, if the decoding asks for it."""

        def spell(row: int, ids: Sequence[int]) -> str:
            text: str = self.vocabulary.restore(tables[row], self.vocabulary.target.decode(ids))
            return text

        return make_fact_check(decoding, lambda: self._metrics, lambda: tables, spell)

    def _encode(self, tables: Sequence[Table]) -> Cells:
        encoded, limit = list(map(self.vocabulary.encode, tables)), self._max_cells
        if cut := sum(len(cells) > limit for cells in encoded) if limit else 0:
            log.warning("data.max_cells=%d, as in training: %d of %d tables truncated", limit, cut, len(tables))
        padded = pad_cells([cells[:limit] for cells in encoded])
        cells: Cells = map_tensors(lambda part: part.to(self.device), padded)
        return cells

    @property
    def _max_cells(self) -> int | None:
        """The number of cells that the model reads of a table."""
        limit: int | None = OmegaConf.select(self.run.config, "data.max_cells")
        return limit

    @torch.inference_mode()
    def score(self, table: str | Table, reference: str, alternatives: int = 0) -> Result:
        """Score a given output: `score` is its log-probability, with that of <eos>.

        Args:
            alternatives: how many of the likeliest tokens at each step the result keeps.

        Raises:
            UserError: the table is wrong, see `generate`, or the text is empty or has no known token.
        """
        vocabulary, parsed = self.vocabulary, self.encode_text(table)
        text = vocabulary.delexicalise_text(parsed, reference)
        inputs, outputs = shift_targets([vocabulary.target.encode_known(text, "score")])
        logits, alphas = self.model(self._encode([parsed]), inputs.to(self.device))
        likeliest = take_likeliest(logits.log_softmax(-1).unsqueeze(1), alternatives, vocabulary.target.suppressed())
        return self._make_results(score_forced(logits, alphas, outputs), 0, parsed, likeliest)[0]
