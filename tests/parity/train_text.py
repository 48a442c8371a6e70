"""Rows of training texts as token ids with the ones that are learnt, for tests/text_data.rs.

Versions: Python 3.11, transformers 5.24.0, tokenizers 0.23.3, jinja2 3.1.6. Writes train_text.json:

    python tests/parity/train_text.py

Ids are those of transformers' tokenizers and chat templates (chat.json, with CHATML and MARKED below).
What is learnt is worked out in three ways, none of which is the program's:

- text, prompt and completion: as SFTTrainer of TRL does it, the end-of-text token appended to the text;
  the prompt's tokens are those whose bytes lie in it (byte-level vocabularies: from their own letters)
- conversations under a template with `{% generation %}`: `return_assistant_tokens_mask`
- others: conversations up to a turn, rendered; where such a beginning is none of the whole (QWEN, PHI,
  DEEPSEEK), the turns are found by a pattern in the rendered text

    {"versions", "now", "cases": [{"name", "tokenizer": folder, "template": source or null, "config": keys
      of tokenizer_config.json, "ends": ids or null, "max_length", "train_on", "append_eos",
      "rows": [row…], "tokens": [[id…]…], "trained": ["0110…"…],
      "refused": rows without a learnt token, refused by the template, or of which it shows no turns}]}
"""

import json
import pathlib
import re
import shutil
import tempfile

import jinja2
import tokenizers
import transformers
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

import make_chat

HERE = pathlib.Path(__file__).parent
CHAT = "decoders/chat/model"
SOURCES = {entry["name"]: entry["source"] for entry in json.loads((HERE / "chat.json").read_text())["templates"]}
MARKED = """{% for m in messages %}
    {{- '<|im_start|>' + m.role + '\n' }}
    {%- if m.role == 'assistant' %}
        {% generation %}
            {{- m.content | trim + '<|im_end|>' }}
        {%- endgeneration %}

{{ '' }}
    {%- else %}
        {{- m.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
# Phi-3's with end tokens that the small vocabulary has.
PHI = SOURCES["phi-3"].replace("<|end|>", "<|im_end|>")
PATTERNS = {
    "qwen-3": (r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", r"\n"),
    "phi-3": (r"<\|assistant\|>\n(.*?<\|im_end\|>)", r"\n<\|endoftext\|>"),
    "deepseek": ("<｜Assistant｜>(.*?<｜end▁of▁sentence｜>)", ""),
}
WITH_BOS = {"bos_token": "<|endoftext|>"}
CONVERSATIONS = [
    [["user", "2+2?"], ["assistant", "4"]],
    [["system", "Be kind."], ["user", "One"], ["assistant", "Two"], ["user", "Three"], ["assistant", "Four"]],
    [["user", "Grüße, 世界! 👩‍🚀"], ["assistant", "مرحبا"], ["user", "e\u0301\u00a0?"], ["assistant", "ﬁ 🇩🇪."]],
    [["user", "Why?"], ["assistant", "<think>\nfirst\n</think>\n\nBecause."], ["user", "And?"],
     ["assistant", "<think>\nsecond\n</think>\n\nSo."]],
    [["user", "  spaces  "], ["assistant", "\n\n around \n"], ["user", "again"]],
]
PAIRS = [
    ("Hello", " world"), ("Hello ", "world"), ("Hel", "lo there"), ("a\n", "  b"), ("a\n\n", "\nb"), ("", "Nothing before."),
    ("one two ", "  three"), ("x<|eot|>", "y"), ("The time is", " 12:34</s>"), ("👩", "‍🚀 flies"), ("naï", "ve café"),
    ("def f(x):\n", "    return x\n"), ("12", "345"), ("Ends ", " "),
]
TEXTS = ["A plain text.", "two\nlines  and 世界", "x", "ends itself<|eot|>", "ends itself</s>"]


class Refused(Exception):
    """The template writes a beginning otherwise once the conversation goes on."""


chat_template_utils.datetime = make_chat.FixedTime


def folder_of(case):
    """A copy of the case's tokenizer with its template."""
    folder = pathlib.Path(tempfile.mkdtemp())
    for name in ["tokenizer.json", "tokenizer_config.json"]:
        shutil.copy(HERE / case["tokenizer"] / name, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= case["config"]
    if case["template"]:
        config["chat_template"] = case["template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def letters():
    """GPT-2's letter for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, more = {chr(b): b for b in printable}, 256
    for b in range(256):
        if b not in printable:
            table[chr(more)] = b
            more += 1
    return table


LETTERS = letters()


def ranges(tokenizer, ids, text):
    """Bytes of the text that each id stands for; none for what was put around it."""
    added = {i: t.content for i, t in tokenizer.added_tokens_decoder.items()}
    rest, at, result = text.encode(), 0, []
    for i in ids:
        if i in added:
            own = added[i].encode()
        else:
            own = bytes(LETTERS[c] for c in tokenizer.convert_ids_to_tokens(i))
        if not rest[at:].startswith(own):
            own = b""
            assert i in added
        result.append((at, at + len(own)))
        at += len(own)
    assert at == len(rest), (text, at)
    return result


def completion(tokenizer, case, prompt, answer):
    eos = tokenizer.eos_token
    if case["append_eos"] and not answer.endswith(eos):
        answer += eos
    text = prompt + answer
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids = encoded.input_ids
    if case["tokenizer"].endswith("spm"):  # its offsets are whole, in characters
        spans, edge = encoded.offset_mapping, len(prompt)
    else:
        spans, edge = ranges(tokenizer, ids, text), len(prompt.encode())
    given = next((n for n, (_, end) in enumerate(spans) if end > edge), len(ids))
    alone = tokenizer(prompt).input_ids
    if ids[: len(alone)] == alone and not prompt == "":
        # SFTTrainer counts the tokens of the prompt alone.
        assert given == len(alone), (prompt, answer, given, alone)
    return ids, [n >= given for n in range(len(ids))]


def spans_of(tokenizer, name, messages):
    def render(count, prompt=False):
        return tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=prompt)

    whole = render(len(messages))
    turns = [n for n, m in enumerate(messages) if m["role"] == "assistant"]
    if name in PATTERNS:
        inside, last = PATTERNS[name]
        found = [m.span(1) for m in re.finditer(inside, whole, re.S)]
        assert len(found) == len(turns), whole
        if turns[-1] == len(messages) - 1:
            start, end = found[-1]
            assert re.fullmatch(last, whole[end:]), whole[end:]
            found[-1] = (start, len(whole))
        return whole, found
    found = []
    for n in turns:
        before, after = render(n, True), render(n + 1)
        if not (whole.startswith(before) and whole.startswith(after)):
            raise Refused
        found.append((len(before), len(after)))
    return whole, found


def conversation(tokenizer, name, messages):
    if "generation %}" in tokenizer.chat_template:
        tokenizer.backend_tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
        out = tokenizer.apply_chat_template(
            messages, return_dict=True, tokenize=True, return_assistant_tokens_mask=True)
        return out["input_ids"], [m == 1 for m in out["assistant_masks"]]
    whole, found = spans_of(tokenizer, name, messages)
    ids = tokenizer(whole, add_special_tokens=False).input_ids
    found = [(len(whole[:a].encode()), len(whole[:b].encode())) for a, b in found]
    at = ranges(tokenizer, ids, whole)
    return ids, [any(end > a and start < b for a, b in found) for start, end in at]


def one(tokenizer, case, row):
    if "text" in row:
        return completion(tokenizer, case, "", row["text"])
    if "prompt" in row:
        return completion(tokenizer, case, row["prompt"], row["completion"])
    return conversation(tokenizer, case["name"], row["messages"])


def run(case, rows):
    tokenizer = AutoTokenizer.from_pretrained(folder_of(case))
    case |= {"rows": [], "tokens": [], "trained": [], "refused": []}
    for row in rows:
        try:
            ids, learnt = one(tokenizer, case, row)
        except (Refused, jinja2.exceptions.TemplateError):
            case["refused"].append(row)
            continue
        if case["train_on"] == "all":
            learnt = [True] * len(ids)
        learnt = [False, *learnt[1:]][: case["max_length"]]
        if not any(learnt):
            case["refused"].append(row)
            continue
        case["rows"].append(row)
        case["tokens"].append(ids[: case["max_length"]])
        case["trained"].append("".join(str(int(flag)) for flag in learnt))
    assert case["rows"], case["name"]
    return case


def case(name, tokenizer, template=None, config=None, ends=None, max_length=4096, train_on="answers", append_eos=True):
    return {"name": name, "tokenizer": tokenizer, "template": template, "config": config or {}, "ends": ends,
            "max_length": max_length, "train_on": train_on, "append_eos": append_eos}


def cases():
    pairs = [{"prompt": prompt, "completion": answer} for prompt, answer in PAIRS]
    texts = [{"text": text} for text in TEXTS]
    chats = [{"messages": [{"role": r, "content": c} for r, c in talk]} for talk in CONVERSATIONS]
    for folder in ["gpt2", "llama3", "qwen2", "spm"]:
        yield run(case(f"{folder} pairs", f"tokenizers/{folder}"), pairs)
    yield run(case("gpt2 pairs without end", "tokenizers/gpt2", append_eos=False), pairs)
    yield run(case("llama3 pairs, all, cut", "tokenizers/llama3", train_on="all", max_length=4), pairs)
    yield run(case("spm texts", "tokenizers/spm"), texts)
    yield run(case("gpt2 texts, cut", "tokenizers/gpt2", max_length=5), texts)
    yield run(case("as it is", CHAT), chats)
    yield run(case("chatml, all, cut", CHAT, SOURCES["chatml"], train_on="all", max_length=40), chats)
    yield run(case("marked", CHAT, MARKED), chats)
    for name in ["chatml-tools", "llama-2", "llama-3", "mistral", "gemma", "gemma-3", "zephyr", "smollm-3",
                 "qwen-3", "deepseek"]:
        yield run(case(name, CHAT, SOURCES[name], WITH_BOS), chats)
    yield run(case("phi-3", CHAT, PHI, {"eos_token": "<|endoftext|>"}, [511, 509]), chats)


if __name__ == "__main__":
    result = {"versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
              "now": make_chat.NOW, "cases": list(cases())}
    text = json.dumps(result, ensure_ascii=True, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (HERE / "train_text.json").write_text(text + "\n")
