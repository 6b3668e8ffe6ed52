"""Messages of libraries that a user can do nothing about."""

import logging
import warnings

SILENCED = (
    "does not have many workers",
    "LeafSpec",
    "in eval mode at the start",
    "num_workers",
    "log(ging)? interval",
    "Checkpoint directory .* exists and is not empty",  # a run that resumes
    "broadcast_buffers",
    "recommended to use `self.log",  # of scores that are computed from all processes' outputs
    "RNN module weights are not part of single contiguous chunk",  # of an LSTM that runs layer by layer
)


def silence_warnings() -> None:
    """Silence messages of Lightning that a user can do nothing about."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in SILENCED:
        warnings.filterwarnings("ignore", f".*{message}.*")
