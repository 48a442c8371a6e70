"""What the WebUI 1.10.1 gives its text encoders, for tests/image_prompts.rs.

Versions: Python 3.11, torch 2.15, transformers 5.24.0, lark 1.1.2.

    python tests/parity/chunks.py

`tokenize_line` of modules/sd_hijack_clip.py, the look-up of modules/prompt_parser.py and `EmphasisOriginal` of
modules/sd_emphasis.py are written down here a second time; schedules, parts and emphasis are those of
prompt_reference.py, the tokenizer is transformers' CLIPTokenizer with OpenAI's vocabulary.

chunks.json: {"versions", "lines", "plans", "emphasis"}

- lines: [{"text", "rows": [{"ids", "weights", "end"}], "tokens"}], with the padding of OpenAI; `end` is the first
  end of the text, after which OpenCLIP's rows hold 0. `weights` are pairs of a weight and how often it follows itself
- plans: [{"prompt", "negative", "steps", "at": for each step [[text, weight], …]}]
- emphasis: [{"z", "weights", "expected"}], rows of vectors, in single precision
"""

import json
import math
import pathlib
import re

import torch
import transformers
from clip_tokenizer import openai
from prompt_reference import fragments, parts, schedule
from transformers import CLIPTokenizer

HERE = pathlib.Path(__file__).parent
WILD = json.loads((HERE / "wild_prompts.json").read_text(encoding="utf-8"))["prompts"]
LENGTH, BACKTRACK = 75, 20
TOKENIZER = CLIPTokenizer(*openai())
START, END = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id
COMMA = TOKENIZER.get_vocab()[",</w>"]


def rows_of(text):
    """`tokenize_line`: rows of 77 (id, weight), and the number of tokens."""
    rows, row, count, comma = [], [], 0, None

    def flush(used):
        nonlocal row, count, comma
        count += used
        filler = [(END, 1.0)] * (LENGTH - len(row))
        rows.append([(START, 1.0), *row, *filler, (END, 1.0)])
        row, comma = [], None

    for words, weight in fragments(text):
        if words == "BREAK" and weight == -1:
            flush(LENGTH)
            continue
        for token in TOKENIZER(words, add_special_tokens=False)["input_ids"]:
            if token == COMMA:
                comma = len(row)
            elif BACKTRACK != 0 and len(row) == LENGTH and comma is not None and len(row) - comma <= BACKTRACK:
                moved, row = row[comma + 1 :], row[: comma + 1]
                flush(LENGTH)
                row = moved
            if len(row) == LENGTH:
                flush(LENGTH)
            row.append((token, weight))
    if row or not rows:
        flush(len(row))
    return rows, count


def runs(values):
    found = []
    for value in values:
        if found and found[-1][0] == value:
            found[-1][1] += 1
        else:
            found.append([value, 1])
    return found


def line(text):
    rows, tokens = rows_of(text)
    rows = [
        {"ids": [i for i, _ in row], "weights": runs([w for _, w in row]), "end": [i for i, _ in row].index(END)}
        for row in rows
    ]
    return {"text": text, "rows": rows, "tokens": tokens}


def without_tags(text):
    return re.sub(r"<(\w+):([^>]+)>", "", text)


def plan(prompt, negative, steps):
    """What is looked up at each step, counted from 1."""
    if negative:
        pieces = [[prompt, 1.0]]
    else:
        pieces = parts(without_tags(prompt))
    pieces = [(schedule(text, steps), weight) for text, weight in pieces]

    def at(step, table):
        return next(text for end, text in table if step <= end)

    per_step = [[[at(step, table), weight] for table, weight in pieces] for step in range(1, steps + 1)]
    return {"prompt": prompt, "negative": negative, "steps": steps, "at": per_step}


def emphasis(seed, mean, width, weights):
    generator = torch.Generator().manual_seed(seed)
    z = torch.round((torch.randn(1, 77, width, generator=generator) + mean) * 1000) / 1000
    multipliers = torch.asarray([weights])
    original = z.mean()
    out = z * multipliers.reshape(multipliers.shape + (1,)).expand(z.shape)
    out = out * (original / out.mean())
    return {"z": z.flatten().tolist(), "weights": weights, "expected": out.flatten().tolist()}


LINES = [
    "", " ", ",", "a", "BREAK", "a BREAK", "BREAK a", "BREAK BREAK", "a BREAK b BREAK c", "(a BREAK b)", "(BREAK:-1)",
    "(a:1.2)(b:1.2), c", "((a)) [b] c", "(a:0), (b:-1), (c:2.5)", "a<|endoftext|>b, c", "<|startoftext|>",
    "a (b:1.1)c", "don(')t", "a, (b, c:1.3), d",
    " ".join(["a"] * 74), " ".join(["a"] * 75), " ".join(["a"] * 76), " ".join(["a"] * 150), " ".join(["a"] * 151),
    # the comma is the 75th, the 76th, the 55th, the 56th, the 54th token, and is taken back or not
    " ".join(["a"] * 74) + ", b c", " ".join(["a"] * 75) + ", b c", " ".join(["a"] * 54) + "," + " b" * 30,
    " ".join(["a"] * 55) + "," + " b" * 30, " ".join(["a"] * 53) + "," + " b" * 30,
    " ".join(["a"] * 60) + "," + " b" * 14 + ", c d e", " ".join(["a"] * 60) + "," + " b" * 15 + ", c d e",
    "a, " * 37 + "b c d e", "a, " * 38 + "b c d e", "a, " * 80, "," * 90, ", " * 76,
    " ".join(["a"] * 60) + ", (" + " b" * 30 + ":1.4), c", " ".join(["a"] * 70) + ", BREAK" + " b" * 80 + ", c",
    " ".join(["a"] * 75) + " BREAK b", " ".join(["a"] * 75) + "BREAK b",
]
PLANS = [
    ("a cat", False, 3), ("a cat", True, 3), ("a AND b", False, 2), ("a AND b :2", True, 2), ("a:1.5 AND b AND a:1.5", False, 2),
    ("[a:b:3]", False, 6), ("[a:b:0.5] AND [c|d|e]:0.3", False, 7), ("[a:b:0.5] AND [c|d]:0.3", True, 5),
    ("x [a::2] AND AND y", False, 4), ("<lora:i:1>[a:<lora:j:1>b:2]", False, 4), ("<lora:i:1> [a|b]", True, 3), ("", False, 2), ("", True, 2),
]
PROMPTS = PLANS + [(prompt, False, 8) for prompt in WILD]


def main():
    torch.set_num_threads(1)
    plans = [plan(*arguments) for arguments in PROMPTS]
    scheduled = [text for one in plans if one["prompt"] in WILD for step in one["at"] for text, _ in step]
    texts = dict.fromkeys(LINES + scheduled)
    swing = [1.0] + [1.0 + 0.3 * math.sin(i) for i in range(75)] + [1.0]
    result = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "lark": "1.1.2"},
        "lines": [line(text) for text in texts],
        "plans": plans,
        "emphasis": [emphasis(1, 0.1, 8, swing), emphasis(2, -0.02, 16, [1.0] * 40 + [1.3] * 5 + [1.0] * 32), emphasis(3, 0.5, 4, [1.0] * 77)],
    }
    text = ",\n".join(
        f"{json.dumps(key)}: " + ("[\n" + ",\n".join(map(json.dumps, value)) + "\n]" if isinstance(value, list) else json.dumps(value))
        for key, value in result.items()
    )
    (HERE / "chunks.json").write_text("{\n" + text + "\n}\n", encoding="utf-8")
    print(len(texts), "texts,", len(plans), "plans")


if __name__ == "__main__":
    main()
