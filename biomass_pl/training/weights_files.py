"""Files of weights, read without running anything in them."""

import logging
from pathlib import Path
from typing import Any

from timm.models import clean_state_dict, load_state_dict

from biomass_pl.errors import WeightsError

logger = logging.getLogger(__name__)

_STATE_ENTRIES = ("ema_state_dict", "model_state_dict", "model_backbone_state_dict")
"""Where checkpoints of other programs hold their weights, besides where timm looks; averaged weights come first."""


def read_weights(path: Path, *, advice: str) -> dict[str, Any]:
    """The state dict in a file, by names without those of DataParallel and torch.compile.

    Args:
        path: A safetensors file or a saved state dict, also within a checkpoint.
        advice: What to do if it is neither.

    Raises:
        WeightsError: The file holds no weights, or more than weights.
    """
    try:
        state = load_state_dict(str(path), weights_only=True)
        there = [entry for entry in _STATE_ENTRIES if state.get(entry) is not None]
        if there:
            logger.info("Of %s, the weights under '%s' are loaded", path, there[0])
            state = clean_state_dict(state[there[0]])
    except Exception as error:  # a damaged file can raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} holds no weights ({reason}). {advice}") from error
    return state
