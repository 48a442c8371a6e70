"""A small CLIP tokenizer: byte-level BPE in the files that Stable Diffusion's repositories have.

The vocabulary is built as OpenAI's CLIP builds it: 256 byte symbols, the same with `</w>`, one token a merge, then
`<|startoftext|>` and `<|endoftext|>`. The merges are learnt from the few lines of CORPUS.
"""

import collections
import json
import re

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 150
VOCABULARY = 2 * 256 + MERGES + 2

CORPUS = """
a photo of a cat, a photo of a dog, a painting of a house on a hill, a portrait of an old man with a red hat
masterpiece, best quality, highly detailed, sharp focus, 8k, trending on artstation, cinematic lighting
lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst quality
low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry
a red star on a green background, a blue circle on a yellow background, striped style, watercolor, oil painting
1girl, solo, long hair, blue eyes, smile, looking at viewer, standing in the rain at night, city street
a castle above the clouds in the morning light, mountains, a river and the forest, wide angle, soft light
"""


def byte_symbols():
    """CLIP's printable character for each byte, in the order of its vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(others))]


def learn_merges(text, count):
    """The most frequent pair first; equally frequent pairs in alphabetical order."""
    words = collections.Counter(re.findall(r"[^\W\d_]+|\d|[^\s\w]+", text.lower()))
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: merged(parts, best) for word, parts in pieces.items()}
    return merges


def merged(parts, pair):
    out = []
    for part in parts:
        if out and (out[-1], part) == pair and not out[-1].endswith("</w>"):
            out[-1] += part
        else:
            out.append(part)
    return out


def save_tokenizer(folder, pad):
    """vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json; `pad` fills a prompt up to 77."""
    merges = learn_merges(CORPUS, MERGES)
    symbols = byte_symbols()
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(pair) for pair in merges] + [START, END]
    assert len(set(tokens)) == VOCABULARY
    special = {"bos_token": START, "eos_token": END, "pad_token": pad, "unk_token": END}
    config = special | {
        "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }  # fmt: skip
    folder.mkdir(parents=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", special)


def write_json(path, data):
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
