"""A character language model that reads forwards alone, as far back as its state remembers.

attendgen train experiment=novels_causal
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.errors import UserError
from attendgen.layers.lstm import run_lstm
from attendgen.layers.ngrams import NGrams
from attendgen.layers.past import Past, PastAttention, ReaderState, blank_past
from attendgen.layers.tying import tie
from attendgen.models.reading import Nothing, read_padded, step_lstm
from attendgen.vocabulary import PAD


class CausalLM(nn.Module):
    """LSTM over all characters so far, optionally with one attention head over its own past.

    Shapes: `rows` texts read side by side, `time` characters of each.

    Args:
        symbols: vocabulary size.
        embedding, hidden, layers: sizes of the character vectors and of the LSTM.
        ngrams: length of the longest n-grams whose vectors are added to the characters'; below 2 there are none.
        ngram_rows, ngram_dropout: rows of each length's table of vectors, and the share of them left out in training.
        reach: how many of its own states back the attention head looks; 0 is no attention.
        head: size of the head's queries, keys and values.
        dropout: on embeddings, between layers, and on the output layer's input.
        weight_drop: share of the recurrent weights left out at each training step (Merity et al. 2018).
        tied: the embeddings are the output layer's weights, too (Press and Wolf 2017); a layer reduces the features to
            their size.

    Raises:
        UserError: n-grams have a table without rows.
    """

    def __init__(
        self,
        symbols: int,
        embedding: int = 128,
        hidden: int = 640,
        layers: int = 1,
        ngrams: int = 0,
        ngram_rows: int = 16_384,
        ngram_dropout: float = 0.0,
        reach: int = 0,
        head: int = 128,
        dropout: float = 0.0,
        weight_drop: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        if ngrams > 1 and ngram_rows < 1:
            raise UserError(f"model.ngram_rows={ngram_rows}: expected 1 or more")
        self.embedding = nn.Embedding(symbols, embedding, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.ngrams = NGrams(embedding, ngrams, ngram_rows, ngram_dropout) if ngrams > 1 else None
        self.attention = PastAttention(hidden, head, reach) if reach else None
        self.readout = nn.Linear(hidden, embedding) if tied else None
        self.output = nn.Linear(embedding if tied else hidden, symbols)
        if tied:
            tie(self.output, self.embedding)
        self.dropout = nn.Dropout(dropout)
        self.weight_drop = weight_drop

    def blank(self, rows: int) -> ReaderState:
        """The state before anything is read."""
        zero = self.output.weight.new_zeros(rows, self.lstm.num_layers, self.lstm.hidden_size)
        recent = zero.new_full((rows, self.ngrams.reach if self.ngrams else 0), PAD, dtype=torch.long)
        return ReaderState(zero, zero, *blank_past(self.attention, zero), recent)

    def embed(
        self, inputs: Int[Tensor, "rows time"], recent: Int[Tensor, "rows recent"]
    ) -> tuple[Float[Tensor, "rows time embedding"], Int[Tensor, "rows recent"]]:
        """Vectors of the inputs and of the n-grams that end at them, and the symbols before the next input."""
        vectors = self.embedding(inputs)
        if self.ngrams is None:
            return vectors, recent
        more, recent = self.ngrams(inputs, recent)
        return vectors + more, recent

    def read(
        self, inputs: Int[Tensor, "rows time"], state: ReaderState
    ) -> tuple[Float[Tensor, "rows time symbols"], Float[Tensor, "rows time reach"], ReaderState]:
        """Logits after each of `inputs`, the weights of the places before it, and the new state."""
        before = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
        vectors, recent = self.embed(inputs, state.recent)
        hidden, after = run_lstm(self.lstm, self.dropout(vectors), before, self.weight_drop)
        logits, alphas, past = self.predict(hidden, state.past)
        last, cell = (part.transpose(0, 1) for part in after)
        return logits, alphas, ReaderState(last, cell, *past, recent)

    def predict(
        self, hidden: Float[Tensor, "rows time hidden"], past: Past
    ) -> tuple[Float[Tensor, "rows time symbols"], Float[Tensor, "rows time reach"], Past]:
        """Logits from the LSTM's states, what they attended to, and the past after them."""
        alphas = hidden.new_zeros(*hidden.shape[:2], 0)
        if self.attention is not None:
            context, alphas, past = self.attention(hidden, past)
            hidden = hidden + context
        features = self.dropout(hidden)
        if self.readout is not None:
            features = torch.tanh(self.readout(features))
        return self.output(features), alphas, past

    def start(self, context: Int[Tensor, "batch context"]) -> tuple[Nothing, ReaderState]:
        """Read contexts padded on the right but for their last characters, which are what `step` is given first."""
        return Nothing(self.output.weight.new_zeros(len(context), 0)), read_padded(self, context)

    def step(
        self, tokens: Int[Tensor, " rows"], state: ReaderState, memory: Nothing
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows reach"], ReaderState]:
        """Log-probabilities of the next character after `tokens`, the attention used, and the new state."""
        vectors, recent = self.embed(tokens.unsqueeze(1), state.recent)
        hidden, cell = step_lstm(self.lstm, vectors[:, 0], state.hidden, state.cell)
        logits, alphas, past = self.predict(hidden[:, -1:], state.past)
        return logits[:, 0].float().log_softmax(dim=-1), alphas[:, 0], ReaderState(hidden, cell, *past, recent)

    def forward(
        self, context: Int[Tensor, "batch context"], inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time symbols"], Float[Tensor, "batch time reach"]]:
        """Teacher forcing: logits of each next character given the true ones before it, and the attention."""
        _, state = self.start(context)
        logits, alphas, _ = self.read(inputs, state)
        return logits, alphas
