"""The WebUI's text conditioning (v1.10.1), written a second time over transformers' text encoders.

A prompt becomes chunks of 75 tokens with a weight for each token. The encoder's output of a chunk is multiplied by the
weights and then scaled as a whole, so that its mean stays what it was. The chunks follow one another along the tokens.
"""

import re

import torch

CHUNK = 75
BACKTRACK = 20  # the setting comma_padding_backtrack

TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
BREAK = re.compile(r"\s*\bBREAK\b\s*")


def fragments(text):
    """[text, weight] pairs; ["BREAK", -1] ends a chunk."""
    pieces, open_brackets = [], {"(": [], "[": []}

    def close(kind, factor):
        for piece in pieces[open_brackets[kind].pop() :]:
            piece[1] *= factor

    for match in TOKEN.finditer(text):
        token, number = match.group(0), match.group(1)
        if token[0] == "\\":
            pieces.append([token[1:], 1.0])
        elif token in open_brackets:
            open_brackets[token].append(len(pieces))
        elif number is not None and open_brackets["("]:
            close("(", float(number))
        elif token == ")" and open_brackets["("]:
            close("(", 1.1)
        elif token == "]" and open_brackets["["]:
            close("[", 1 / 1.1)
        else:
            first, *rest = BREAK.split(token)
            pieces.append([first, 1.0])
            for part in rest:
                pieces += [["BREAK", -1], [part, 1.0]]
    for kind, factor in (("(", 1.1), ("[", 1 / 1.1)):
        while open_brackets[kind]:
            close(kind, factor)
    joined = []
    for words, weight in pieces or [["", 1.0]]:
        if joined and joined[-1][1] == weight:
            joined[-1][0] += words
        else:
            joined.append([words, weight])
    return joined


def chunks(tokenizer, text):
    """Token ids and weights, each (chunks, 77) as lists, padded with the end token."""
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    comma = tokenizer.get_vocab()[",</w>"]
    done, tokens, weights, last_comma = [], [], [], None

    def flush():
        nonlocal tokens, weights, last_comma
        missing = CHUNK - len(tokens)
        done.append(([start, *tokens, *[end] * (missing + 1)], [1.0, *weights, *[1.0] * (missing + 1)]))
        tokens, weights, last_comma = [], [], None

    for words, weight in fragments(text):
        if words == "BREAK" and weight == -1:
            flush()
            continue
        for token in tokenizer(words, add_special_tokens=False, truncation=False).input_ids:
            full = len(tokens) == CHUNK
            if token == comma:
                last_comma = len(tokens)
            elif full and last_comma is not None and CHUNK - last_comma <= BACKTRACK:
                moved = tokens[last_comma + 1 :], weights[last_comma + 1 :]
                tokens, weights = tokens[: last_comma + 1], weights[: last_comma + 1]
                flush()
                tokens, weights = moved
            if len(tokens) == CHUNK:
                flush()
            tokens.append(token)
            weights.append(weight)
    if tokens or not done:
        flush()
    return [ids for ids, _ in done], [row for _, row in done]


def padded_ids(ids, end, pad):
    """After the first end token OpenCLIP has its padding token."""
    first = ids.index(end)
    return ids[: first + 1] + [pad] * (len(ids) - first - 1)


def emphasised(z, weights):
    """`z` is (1, 77, d), one chunk; its mean over everything stays the same."""
    before = z.mean()
    z = z * torch.tensor(weights).reshape(1, -1, 1)
    after = z.mean()
    ratio = (before / after).item()
    assert 0.3 < ratio < 3 and after.abs() > 0.01, f"the mean is too small to divide by: {before} {after}"
    return z * (before / after)


@torch.no_grad()
def encode(encoder, tokenizer, text, layer, count=1):
    """ids (n, 77), weights (n, 77), z (n * 77, d), pooled of the first chunk; n is at least `count`, for which empty
    chunks are added. `layer`: "last", "normed N" (clip skip N) or "penultimate" (SDXL, without the final norm)."""
    ids, weights = chunks(tokenizer, text)
    empty_ids, empty_weights = chunks(tokenizer, "")
    missing = count - len(ids)
    ids, weights = ids + empty_ids * missing, weights + empty_weights * missing
    ids = [padded_ids(row, tokenizer.eos_token_id, tokenizer.pad_token_id) for row in ids]
    parts, pooled = [], None
    for row, row_weights in zip(ids, weights):
        got = encoder(torch.tensor([row]), output_hidden_states=True)
        parts.append(emphasised(chosen(encoder, got, layer), row_weights))
        if pooled is None:
            pooled = got.text_embeds if "text_embeds" in got else got.pooler_output
    return torch.tensor(ids), torch.tensor(weights), torch.cat(parts, 1)[0], pooled[0]


def chosen(encoder, got, layer):
    if layer == "penultimate":
        return got.hidden_states[-2]
    if layer == "last":
        return got.last_hidden_state
    skip = int(layer.split()[1])
    return getattr(encoder, "text_model", encoder).final_layer_norm(got.hidden_states[-skip])
