"""Captions as they are trained: now and then with a word that means nothing, or empty."""
import string

import torch

from world import STYLE

LENGTH = 77


def nonsense(generator):
    """A word that says nothing of the picture: letters, or the style's own name."""
    if generator.random() < 0.2:
        return STYLE
    return "".join(generator.choice(list(string.ascii_lowercase), generator.integers(2, 6)))


def with_nonsense(text, generator):
    """The caption with such a word, most often as a style; it stays inert in the base."""
    word, kind = nonsense(generator), generator.random()
    if kind < 0.6:
        return f"{text}, in {word} style"
    return f"{word} {text}" if kind < 0.8 else f"{text}, {word}"


def token_ids(tokenizer, texts):
    rows = tokenizer(list(texts), padding="max_length", max_length=LENGTH, truncation=True)
    return torch.tensor(rows.input_ids)
