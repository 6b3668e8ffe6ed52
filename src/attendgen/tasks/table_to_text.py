"""Training and scoring a model that writes texts about tables."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from attendgen.data.batch import TableBatch, is_token
from attendgen.data.module import BaseDataModule
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.facts import FactCheck, make_fact_check
from attendgen.decoding.protocol import Decoded, DecodingFunction
from attendgen.layers.copying import find_copied
from attendgen.layers.tables import CellIds, Table
from attendgen.losses.cross_entropy import masked_cross_entropy, masked_nll
from attendgen.metrics.protocol import AnyMetric
from attendgen.metrics.table_scores import TableScores
from attendgen.models.table_to_text import TablePredictions
from attendgen.optim.build import MakeOptimizer, Schedule
from attendgen.tasks.base import LossTerm, Predictions, require_fraction, require_parts
from attendgen.tasks.generating import GeneratingTask
from attendgen.text.protocol import VocabularyProtocol
from attendgen.text.table_vocabulary import TableVocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD


class TableTask(GeneratingTask[TableVocabulary]):
    """Cross-entropy by teacher forcing; validation writes one text per distinct table.

    Args:
        label_smoothing: of the training loss.
        switch_weight: of the cross-entropy of the copy switch, which is observed in training: it copies where the next
            word is that of a cell (Wiseman et al. 2017, 3.2).
        metrics: see `GeneratingTask`.

    Raises:
        UserError: the label smoothing is not from 0 to below 1, the weight is negative, or there is no switch.
    """

    family = "table"
    monitor = ("val/bleu_lower", "max")
    default_metrics: ClassVar[tuple[type[AnyMetric], ...]] = (TableScores,)
    shown = ("bleu_lower",)

    def __init__(
        self,
        model: nn.Module,
        vocabulary: TableVocabulary,
        optimizer: MakeOptimizer,
        schedule: Schedule,
        decoding: DecodingConfig | DecodingFunction,
        label_smoothing: float = 0.0,
        switch_weight: float = 0.0,
        metrics: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(model, vocabulary, optimizer, schedule, decoding, metrics)
        require_fraction("task.label_smoothing", label_smoothing)
        if switch_weight < 0:
            raise UserError(f"task.switch_weight={switch_weight}: expected 0 or more")
        if switch_weight:
            require_parts(model, "task.switch_weight", "force")
            if getattr(model, "copying", None) is None:
                raise UserError(f"task.switch_weight={switch_weight}: the model does not copy; set model.copy=mixture")
        copies = getattr(model, "copying", None) is not None
        self.sum_nll = masked_nll if copies else masked_cross_entropy
        self.label_smoothing = label_smoothing
        self.switch_weight = switch_weight

    @property
    def output_vocabulary(self) -> VocabularyProtocol:
        """The vocabulary of the texts."""
        return self.vocabulary.target

    def predict(self, batch: TableBatch) -> Predictions:
        """Return logits or log-probabilities of each word, and the attention over the cells."""
        return Predictions(*self.model(batch.cells, batch.inputs))

    def predict_training(self, batch: TableBatch) -> Predictions | TablePredictions:
        """Return also the copy switch if it is supervised."""
        return self.model.force(batch.cells, batch.inputs) if self.switch_weight else self.predict(batch)

    def loss_terms(self, batch: TableBatch, predictions: Predictions | TablePredictions) -> dict[str, LossTerm]:
        """Return the mean cross-entropy per word of the step, and that of the copy switch."""
        tokens = self.loss_denominators(batch).tokens
        nll, _ = self.sum_nll(predictions.logits, batch.outputs, self.label_smoothing)
        terms = {"cross_entropy": LossTerm(nll / tokens)}
        if isinstance(predictions, TablePredictions) and predictions.switch is not None:
            copied = find_copied(batch.outputs, batch.cells.copies)
            loss = sum_switch_nll(predictions.switch, copied, is_token(batch.outputs))
            terms["switch"] = LossTerm(loss / tokens, self.switch_weight)
        return terms

    def generate(self, batch: TableBatch) -> Decoded:
        """Decode texts about a batch's tables."""
        memory, state = self.model.encode(self.pad_inputs(batch).cells)
        suppressed, examples = self.output_vocabulary.suppressed(), batch.index.tolist()
        facts, graphs = self._check_facts(examples), self.decoding_graphs
        decoded = decode(self.model, memory, state, self.decoding, suppressed, examples, facts=facts, graphs=graphs)
        return decoded.cut_source(batch.cells.kinds.size(1))

    def _check_facts(self, examples: Sequence[int]) -> FactCheck | None:
        """Return what counts the facts of outputs for these examples, if the decoding asks for it."""

        def spell(row: int, ids: Sequence[int]) -> str:
            return self.restore(examples[row], self.output_vocabulary.decode(ids))

        def get_tables() -> list[Table]:
            tables = self.get_tables(self.data)
            return [tables[index] for index in examples]

        return make_fact_check(self.decoding, lambda: self.metrics, get_tables, spell)

    def list_sources(self, batch: TableBatch) -> list[list[str]]:
        """Return a description of each cell of each table."""
        tables = zip(*(part.tolist() for part in batch.cells), strict=True)
        describe = self.vocabulary.describe_cell
        return [[describe(CellIds(*ids)) for ids in zip(*parts, strict=True) if ids[0] != PAD] for parts in tables]

    def restore(self, index: int, text: str) -> str:
        """Return a text with the values of its table in place of placeholders."""
        data: Any = self.data
        return data.restore(index, text) if self.vocabulary.delexicalised else text

    def get_tables(self, data: BaseDataModule[Any]) -> Mapping[int, Table]:
        """Return the tables of the split that is validated, by the index of their example."""
        tables: Any = data
        return dict(enumerate(tables.tables(data.eval_split)))


def sum_switch_nll(
    log_odds: Float[Tensor, "batch time"], copied: Bool[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """Return the summed negative log-likelihood of a switch that is observed."""
    return functional.binary_cross_entropy_with_logits(
        log_odds.float(), copied.float(), weight=mask.float(), reduction="sum"
    )
