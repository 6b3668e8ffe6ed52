"""Training a captioner on the reward of its own captions (Rennie et al. 2017)."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attendgen.data.batch import CaptionBatch, is_token
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import Decoded
from attendgen.decoding.waiting import send
from attendgen.layers.hard_attention import ArgmaxSampler
from attendgen.layers.state import Memory
from attendgen.losses.cross_entropy import token_nll
from attendgen.losses.score_function import leave_one_out, log_probability
from attendgen.losses.self_critical import ReplaySampler, self_critical
from attendgen.tasks.base import LossTerm, require_parts
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.rewards import Reward, make_reward
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import SOS

BASELINES = ("leave_one_out", "greedy")


class SampledCaptions(NamedTuple):
    """Log-probabilities and rewards of sampled captions, and the baseline of the rewards."""

    log_probs: Float[Tensor, "batch captions"]
    rewards: Float[Tensor, "batch captions"]
    baseline: Float[Tensor, "batch #captions"]


class SelfCriticalTask(CaptioningTask):
    """CIDEr-D of sampled captions as reward; with hard attention the sampled locations are rewarded, too.

    Training starts from the weights of another run (`init_from`).

    Args:
        samples: captions drawn per image.
        baseline: "greedy", the score of the greedily decoded caption (equation 8), or "leave_one_out", the mean score
            of the image's other samples (Luo 2020), which needs no decoding.
        temperature: of the samples; the distribution at this temperature is trained. At 1 captions become shorter
            first, because each further word may be an error.
        options: see `CaptioningTask`.

    Raises:
        UserError: there is no such baseline, there are too few samples for it, or the temperature is not above 0.
    """

    shown_terms = ("reward",)
    can_be_graphed = False  # sampling stops when all captions have ended

    def __init__(
        self,
        *arguments: Any,
        samples: int = 5,
        baseline: str = "leave_one_out",
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        if baseline not in BASELINES:
            raise UserError(f"task.baseline={baseline}: unknown; choose one of {', '.join(BASELINES)}")
        least = 2 if baseline == "leave_one_out" else 1
        if samples < least:
            raise UserError(f"task.samples={samples}: {baseline} needs at least {least}")
        if temperature <= 0:
            raise UserError(f"task.temperature={temperature}: expected more than 0")
        self.samples = samples
        self.baseline = baseline
        self.temperature = temperature
        self.reward: Reward | None = None

    def setup(self, stage: str) -> None:
        """Check that the model can score its own samples.

        Raises:
            UserError: it lacks a method for that, or attends to the most probable location, which is not drawn.
        """
        super().setup(stage)
        if stage == "fit":
            needed = ("fixed_dropout_masks", "score_sampled", "is_hard")
            require_parts(self.model, "self-critical training", *needed)
            if isinstance(getattr(self.model, "sampler", None), ArgmaxSampler):
                raise UserError(
                    "model.inference_attention=argmax: self-critical training rewards sampled locations, and none is "
                    "sampled; use soft or sample"
                )

    def on_fit_start(self) -> None:
        """Count the document frequencies of the reward in the training captions."""
        self.reward = make_reward(self.data.references("train"), self.vocabulary)

    def predict_training(self, batch: CaptionBatch) -> SampledCaptions:
        """Sample captions, and score them with the same dropout masks."""
        assert self.reward is not None
        self.model.eval()
        with self.model.fixed_dropout_masks(in_eval=True):
            memory, state = self.model.encode(batch.images)
            length = getattr(self.decoding, "max_length", 30)  # decoding of the user's own may have no such limit
            sampling = DecodingConfig(max_length=length, temperature=self.temperature, n_best=self.samples)
            drawn = self._decode(memory, state, sampling)
            rewards = self.reward(batch.index, drawn.tokens)
            if self.baseline == "greedy":
                greedy = self._decode(memory, state, DecodingConfig(max_length=length))
                baseline = self.reward(batch.index, greedy.tokens)
            else:
                baseline = leave_one_out(rewards)
            log_probs = self._score_samples(memory, state, drawn)
        self.model.train()
        return SampledCaptions(log_probs, rewards, baseline)

    def loss_terms(self, batch: CaptionBatch, predictions: SampledCaptions) -> dict[str, LossTerm]:  # type: ignore[override]  # of other predictions
        """Return the self-critical loss; the mean reward and advantage are logged."""
        loss = self_critical(*predictions).sum() / self.loss_denominators(batch).examples
        return {
            "self_critical": LossTerm(loss),
            "reward": LossTerm(predictions.rewards.mean(), 0),
            "advantage": LossTerm((predictions.rewards - predictions.baseline).mean(), 0),
        }

    @torch.no_grad()
    def _decode(self, memory: Memory, state: Any, config: DecodingConfig) -> Decoded:
        decoded = decode(self.model, memory, state, config, self.vocabulary.suppressed())
        return Decoded(*(part.clone() for part in decoded))  # tensors of inference mode may not enter a gradient

    def _score_samples(self, memory: Memory, state: Any, drawn: Decoded) -> Tensor:
        """Return the log-probability of each sample: batch, samples."""
        inputs = torch.cat([torch.full_like(drawn.tokens[..., :1], SOS), drawn.tokens[..., :-1]], dim=-1)
        replay = ReplaySampler(drawn.attention) if self.model.is_hard else None
        scored = self.model.score_sampled(memory, state, inputs, replay)
        # tokens that cannot be drawn must not take part in the softmax, or their probability would grow
        suppressed = send(self.vocabulary.suppressed(), drawn.tokens.device)
        logits = scored.logits.squeeze(2).index_fill(-1, suppressed, -torch.inf)
        log_probs = -token_nll(logits / self.temperature, drawn.tokens).sum(dim=-1)
        if self.model.is_hard:
            located = log_probability(scored.alphas.squeeze(2), drawn.attention)
            log_probs = log_probs + (located * is_token(drawn.tokens)).sum(dim=-1)
        return log_probs
