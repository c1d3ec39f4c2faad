"""A BioGPT of few random weights, as its library saves it, whose tokens are letters and a few words."""

import json
import string
from pathlib import Path

import torch
from transformers import BioGptConfig, BioGptForCausalLM

WORDS = ("with", "and", "biopsy", "of")
"""Words that are one token each; all others are spelled."""

LETTERS = string.ascii_letters + string.digits + ".,;:()-&"
LAYERS, WIDTH, HEADS, POSITIONS = 4, 16, 2, 128


def tokens_of_letters() -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges: letters within and at the end of words, and what leads from them to the words."""
    pieces = [*("<s>", "<pad>", "</s>", "<unk>"), *(letter + end for letter in LETTERS for end in ("", "</w>"))]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        for count in range(1, len(parts)):
            left, right = "".join(parts[:count]), parts[count]
            merges.append(f"{left} {right} 1")
            pieces.append(left + right)
    pieces = list(dict.fromkeys(pieces))
    return {piece: number for number, piece in enumerate(pieces)}, list(dict.fromkeys(merges))


def save_tokens(folder: Path) -> int:
    """Writes `vocab.json` and `merges.txt`, and gives the number of tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = tokens_of_letters()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("".join(f"{merge}\n" for merge in merges))
    return len(vocabulary)


def tiny_biogpt(folder: Path, *, tied: bool = True, **sizes: int) -> BioGptForCausalLM:
    """Makes one in eval mode, every weight at random and always the same, and saves it into a folder."""
    settings = {
        "vocab_size": save_tokens(folder),
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": tied,
        **sizes,
    }
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = BioGptForCausalLM(BioGptConfig(**settings))
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    network.save_pretrained(folder)
    return network.eval()
