"""Prompts with emphasis, BREAK and more than 75 tokens through the tiny text encoders, as the WebUI conditions."""

import json
from pathlib import Path

import torch

from webui_emphasis import encode, fragments

LONG = (
    "masterpiece, best quality, highly detailed, sharp focus, cinematic lighting, a (portrait of an old man:1.25) with a "
    "red hat, standing in the rain at night, city street, mountains, a river and the forest, wide angle, [soft light], "
    "oil painting, watercolor, a castle above the clouds in the morning light, a blue circle on a yellow background"
)
UNBROKEN = "photo " * 60 + "(cat:0.7) " * 30  # no comma to go back to
PROMPTS = {
    "emphasis": "a (red:1.3) star on a [green] background, (smile)",
    "nested": r"((a cat, [a dog:1.4] and (a house:0.5)) on a hill \(oil\)",
    "empty": "",
    "break": "a photo of a cat BREAK (a dog:1.2) in the rain",
    "long": LONG,
    "unbroken": UNBROKEN,
}
PADDED = "lowres, (bad hands:1.4)"  # a negative prompt beside `long`: empty chunks are added


def family_emphasis(family, pipe):
    """Tensors `NAME.ids`, `.weights`, `.z`, `.pooled`, and the cases; SDXL's second encoder has `.ids_2`."""
    tensors, cases = {}, []
    skips = [1, 2] if family == "sd1" else [None]
    long_chunks = len(encode(pipe.text_encoder, pipe.tokenizer, LONG, "last")[0])
    texts = [(name, text, 1) for name, text in PROMPTS.items()] + [("padded", PADDED, long_chunks)]
    for name, text, count in texts:
        for skip in skips:
            full = name if skip in (None, 1) else f"{name}_skip{skip}"
            one = sdxl(pipe, text, count) if family == "sdxl" else sd1(pipe, text, count, skip)
            tensors |= {f"{full}.{key}": tensor for key, tensor in one.items()}
            cases.append({"name": full, "prompt": text, "clip_skip": skip, "chunks": len(one["ids"])})
    assert long_chunks > 1
    return tensors, cases


def check_fragments():
    """The other restatement of the prompt language (prompt_reference.py) must have split its texts alike."""
    for case in json.loads((Path(__file__).resolve().parent / "prompt.json").read_text(encoding="utf-8")):
        if case["fragments"] is not None:
            assert fragments(case["text"]) == case["fragments"], case["text"]


def sd1(pipe, text, count, skip):
    layer = "last" if skip == 1 else f"normed {skip}"
    ids, weights, z, _ = encode(pipe.text_encoder, pipe.tokenizer, text, layer, count)
    return {"ids": ids, "weights": weights, "z": z}


def sdxl(pipe, text, count):
    """Each encoder's output is emphasised by itself; then they lie side by side."""
    ids, weights, z, _ = encode(pipe.text_encoder, pipe.tokenizer, text, "penultimate", count)
    ids_2, weights_2, z_2, pooled = encode(pipe.text_encoder_2, pipe.tokenizer_2, text, "penultimate", count)
    assert torch.equal(weights, weights_2)
    return {"ids": ids, "ids_2": ids_2, "weights": weights, "z": torch.cat([z, z_2], 1), "pooled": pooled}
