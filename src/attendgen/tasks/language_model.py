"""Training and scoring a language model."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from attendgen.data.batch import StreamBatch, WindowBatch, is_token
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import Decoded, DecodingFunction, StatefulModel
from attendgen.layers.state import count_rows, iterate_tensors, map_tensors
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.metrics.bits_per_token import BitsPerToken, perplexity
from attendgen.optim.build import MakeOptimizer, Schedule
from attendgen.tasks.base import BaseTask, LossTerm, Predictions
from attendgen.text.protocol import VocabularyProtocol
from attendgen.text.vocabulary import count_characters_of_tokens
from attendgen.utils.errors import UserError
from attendgen.utils.processes import gather_outputs


class RecurrentState:
    """The state that each row of a stream passes from batch to batch, detached from the gradient (truncated BPTT)."""

    def __init__(self) -> None:
        self.state: Any = None

    def read(self, model: StatefulModel, batch: StreamBatch) -> Predictions:
        """Return predictions for a batch of chunks, continuing from the stored state.

        Rows with `reset` set, and all rows of the first batch, start from the initial state.
        """
        initial = model.initial_state(len(batch.reset))
        state = initial if self.state is None or count_rows(self.state) != len(batch.reset) else self.state

        def reset_rows(new: Tensor, old: Tensor) -> Tensor:
            return new.where(batch.reset.view(-1, *[1] * (new.ndim - 1)), old.to(new.device))

        logits, attention, state = model.read(batch.inputs, map_tensors(reset_rows, initial, state))
        self.state = map_tensors(lambda new, like: new.detach().to(like.dtype), state, initial)
        return Predictions(logits, attention)

    def export(self) -> list[Tensor] | None:
        """Return the state's tensors as plain data, on the CPU: other processes may not see this one's GPU."""
        return None if self.state is None else [part.cpu() for part in iterate_tensors(self.state)]

    def restore(self, tensors: list[Tensor] | None, model: StatefulModel) -> None:
        """Set the state from the tensors of `export`."""
        if tensors is not None:
            parts = iter(tensors)
            self.state = map_tensors(lambda _: next(parts), model.initial_state(len(tensors[0])))


class LanguageModelTask(BaseTask[VocabularyProtocol]):
    """Cross-entropy by teacher forcing; validation measures bits per character, every character once.

    A token counts as the characters that it stands for. Perplexity is per token, and called so unless tokens are
    characters.
    """

    family = "language_model"
    monitor = ("val/bits_per_character", "min")
    is_adaptable = True

    def __init__(
        self,
        model: nn.Module,
        vocabulary: VocabularyProtocol,
        optimizer: MakeOptimizer,
        schedule: Schedule,
        decoding: DecodingConfig | DecodingFunction,
    ) -> None:
        super().__init__(model, vocabulary, optimizer, schedule, decoding)
        self.token_bits = BitsPerToken()
        lengths = count_characters_of_tokens(vocabulary)
        self.is_by_character = max(lengths) == 1
        self.register_buffer("characters_of_tokens", torch.tensor(lengths), persistent=False)
        # a validation within an epoch does not disturb the training state
        self.recurrent = {"train": RecurrentState(), "validate": RecurrentState()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of each process, from which a run that resumes within an epoch continues."""
        state = self.recurrent["train"].export()
        if state is not None:
            checkpoint["recurrent"] = gather_outputs({self.global_rank: state})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state of this process."""
        tensors = checkpoint.get("recurrent", {}).get(self.global_rank)
        if tensors is not None:
            self.recurrent["train"].restore(tensors, self.model)

    def predict(self, batch: WindowBatch | StreamBatch, stage: str = "validate") -> Predictions:
        """Return logits of each next token given the true ones before it, and the attention to the text before.

        Batches of streams must come in order.

        Args:
            stage: "train" or "validate", which have a recurrent state each.

        Raises:
            UserError: the data are streams, but the model reads windows.
        """
        if isinstance(batch, WindowBatch):
            return Predictions(*self.model(batch.context, batch.inputs))
        return self.recurrent[stage].read(self._require_stateful(), batch)

    def _require_stateful(self) -> StatefulModel:
        """Return the model.

        Raises:
            UserError: it reads windows, not streams.
        """
        if not isinstance(self.model, StatefulModel):
            raise UserError("data.stateful=true: this model reads windows; use model=lm_lstm or data.stateful=false")
        return self.model

    def get_carried(self, batch: WindowBatch | StreamBatch) -> Any:  # noqa: ANN401  # a tree of tensors
        """Return the recurrent state that a training batch of streams continues: at first, the initial one.

        Raises:
            UserError: see `predict`.
        """
        if not isinstance(batch, StreamBatch):
            return None
        state = self.recurrent["train"].state
        if state is None or count_rows(state) != len(batch.reset):
            return self._require_stateful().initial_state(len(batch.reset))
        return map_tensors(lambda part: part.to(batch.reset.device), state)  # that of a checkpoint is on the CPU

    def set_carried(self, state: Any) -> None:  # noqa: ANN401  # a tree of tensors
        """Set the recurrent state that the next training batch continues."""
        self.recurrent["train"].state = state

    def predict_training(self, batch: WindowBatch | StreamBatch) -> Predictions:
        """Return predictions, and continue the training's recurrent state."""
        return self.predict(batch, "train")

    def loss_terms(self, batch: WindowBatch | StreamBatch, predictions: Predictions) -> dict[str, LossTerm]:
        """Return the mean cross-entropy per token of the step."""
        nll, _ = masked_cross_entropy(predictions.logits, batch.outputs)
        return {"cross_entropy": LossTerm(nll / self.loss_denominators(batch).tokens)}

    def generate(self, batch: WindowBatch | StreamBatch) -> Decoded:
        """Continue the contexts of windows, or a chunk of each stream."""
        if isinstance(batch, WindowBatch):
            read, prefix = batch.context, batch.inputs[:, 0]
        else:
            last = is_token(batch.inputs).sum(dim=1, keepdim=True) - 1
            read, prefix = batch.inputs, batch.inputs.gather(1, last.clamp(min=0)).squeeze(1)
        memory, state = self.model.encode(read)
        suppressed, graphs = self.vocabulary.suppressed(eos=True), self.decoding_graphs
        return decode(self.model, memory, state, self.decoding, suppressed, graphs=graphs, prefix=prefix, eos_id=None)

    def measure_cross_entropy(self, batch: WindowBatch | StreamBatch, nll: Tensor, tokens: Tensor) -> None:
        """Add a batch to the bits per character and per token."""
        self.bits.update(nll, self.count_characters(batch.outputs))
        self.token_bits.update(nll, tokens)

    def count_characters(self, outputs: Int[Tensor, "batch time"]) -> Int[Tensor, ""]:
        """Return the number of characters that tokens stand for."""
        lengths: Any = self.characters_of_tokens
        return lengths[outputs].sum()

    def on_validation_epoch_end(self) -> None:
        """Log bits per character and perplexity per token over all processes."""
        bits, token_bits = float(self.bits.compute()), float(self.token_bits.compute())
        self.bits.reset()
        self.token_bits.reset()
        name = "perplexity" if self.is_by_character else "perplexity_per_token"
        scores = {"bits_per_character": bits, name: perplexity(token_bits), **self.compute_means()}
        self.log_scores(scores, ("bits_per_character",))
