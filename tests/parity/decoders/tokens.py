"""Vocabularies made from a word list, and reference tokenizers for them."""

import random

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

WORDS = (
    "the of and a to in is was that it for on with as his her at by from they we you not are "
    "this have or had one but what all were when there can an your which their said if will "
    "each about how up out them then she many some so these would other into has more two like "
    "him see time could no make than first been its who now people my made over did down only "
    "way find use may water long little very after words called just where most know river "
    "stone light garden winter morning letter answer question window summer nothing weather"
).split()

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' "
    "+ message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

LLAMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}"
    "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)

TEXTS = [
    "",
    "the water",
    "The river was very long, and the light was little.",
    "  two spaces before, and after  ",
    "a\nb\n\n\nc \n d",
    "tabs\tand\r\nreturns",
    "don't you'll WE'VE I'm",
    "1234567890 3.14159 2,000",
    "naïve café Ångström straße",
    "cafe\u0301 decomposed",
    "日本語のテキストと中文。",
    "emoji 🙂👩\u200d👩\u200d👧 🇨🇭",
    "Привет, мир! עברית العربية",
    "x" * 40,
    "def f(x):\n    return x ** 2  # square\n",
    "no-break\u00a0space, zero\u200bwidth, ideographic\u3000space",
]


def made_up_text(seed=1, lines=400):
    rng = random.Random(seed)
    out = []
    for _ in range(lines):
        line = [rng.choice(WORDS) for _ in range(rng.randint(3, 12))]
        if rng.random() < 0.2:
            line.insert(rng.randrange(len(line)), str(rng.randint(1, 2000)))
        text = " ".join(line) + rng.choice([".", "?", ", ", "!"])
        out.append(text[0].upper() + text[1:] if rng.random() < 0.5 else text)
    return out


def byte_level(size, specials):
    """A byte-level BPE with Qwen2's split, the specials last; no normaliser."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(made_up_text(), BpeTrainer(
        vocab_size=size - len(specials), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ))
    tokenizer.add_special_tokens(specials)
    assert tokenizer.get_vocab_size() == size
    return tokenizer


def spm_vocabulary(size):
    """Tokens, scores and types of a sentencepiece-like BPE with byte tokens.

    As sentencepiece lays it out: unk, bos, eos, 256 bytes, the merged pieces in the
    order of their merging with scores 0, -1, ..., then single characters.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    text = made_up_text(seed=2)
    characters = sorted({c for line in text for c in line} - {" "} | {"▁", "é"})
    merged = size - 3 - 256 - len(characters)
    tokenizer.train_from_iterator(text, BpeTrainer(
        vocab_size=merged + len(characters), initial_alphabet=characters,
        limit_alphabet=len(characters), show_progress=False,
    ))
    ids = tokenizer.get_vocab()
    pieces = [t for t in sorted(ids, key=ids.get) if len(t) > 1] + characters
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))]
    types = [2, 3, 3] + [6] * 256 + [1] * len(pieces)
    assert len(tokens) == len(set(tokens)) == size
    return tokens, scores, types


def spm_encode(text, tokens, scores):
    """llama.cpp's llm_tokenizer_spm with add_space_prefix, without BOS: a space is
    always put before a text that is not empty (sentencepiece's dummy prefix), then
    the adjacent pair whose joined piece has the best score is merged, the leftmost
    first among equals; what remains unknown becomes bytes."""
    ids = {t: i for i, t in enumerate(tokens)}
    symbols = list((" " + text).replace(" ", "▁")) if text else []
    while True:
        best = None
        for i in range(len(symbols) - 1):
            piece = ids.get(symbols[i] + symbols[i + 1])
            if piece is not None and (best is None or scores[piece] > best[0]):
                best = (scores[piece], i)
        if best is None:
            break
        i = best[1]
        symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]
    out = []
    for s in symbols:
        out += [ids[s]] if s in ids else [3 + b for b in s.encode()]
    return out
