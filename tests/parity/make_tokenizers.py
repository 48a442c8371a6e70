"""Trains small tokenizers and records what transformers does with them, for tests/tokenizer.rs.

Versions: Python 3.11, transformers 5.24.0, tokenizers 0.23.3, gguf 0.19.0 (on the path of the same
interpreter, or of the one named by GGUF_SITE). Writes the folder tokenizers/ beside this file:

    python tests/parity/make_tokenizers.py

- gpt2/, llama3/, qwen2/, spm/: tokenizer.json, tokenizer_config.json as save_pretrained writes them
- NAME.gguf: the vocabulary of gpt2 (as `gpt-2` and as `smollm`), llama3, qwen2 and spm with one
  tiny tensor, written by the `gguf` package
- texts.json: the texts
- reader.gguf: every type of metadata, for tests/gguf.rs
- expected.json: {name: {"ids": …, "plain_ids": …, "text": …, "skipped": …}}, each a list over the
  texts: with special tokens; without (null: the same); decoded (null: the text itself); decoded
  without special tokens (null: as decoded). For the GGUF files the reference is the tokenizer.json
  that the file was made of ({"like": name} where that is a folder), and "peer_differs" lists the
  texts for which transformers' own GGUF reader gives other ids (it does not apply NFC).
"""

import json
import os
import pathlib
import random
import shutil
import sys
import tempfile

import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges

sys.path.append(os.environ.get("GGUF_SITE", "/usr/lib/python3/dist-packages"))
import gguf  # noqa: E402
import numpy  # noqa: E402

HERE = pathlib.Path(__file__).parent / "tokenizers"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

WORDS = """the of and to in is you that it he was for on are as with his they I at be this have from
or one had by word but not what all were we when your can said there use an each which she do how
their if will up other about out many then them these so some her would make like him into time has
look two more write go see number no way could people my than first water been call who oil its now
find long down day did get come made may part over new sound take only little work know place year
live me back give most very after thing our just name good sentence man think say great where help
through much before line right too mean old any same tell boy follow came want show also around form
three small set put end does another well large must big even such because turn here why ask went men
read need land different home us move try kind hand picture again change off play spell air away
animal house point page letter mother answer found study still learn should world don't it's we're
I've you'll he'd Größe naïve café Straße élan über 你好 世界 こんにちは привет мир""".split()


def corpus(seed):
    rng = random.Random(seed)
    marks = [".", ",", "!", "?", ";", ":", " -", "...", "\n", "\n\n", "  ", "\t"]
    for _ in range(1500):
        words = [rng.choice(WORDS) for _ in range(rng.randint(3, 14))]
        words[0] = words[0].capitalize()
        if rng.random() < 0.3:
            words.insert(rng.randrange(len(words)), str(rng.randint(0, 99999)))
        text = ""
        for word in words:
            text += word + (rng.choice(marks) if rng.random() < 0.2 else "") + " "
        yield text.strip() + rng.choice([".", "!", "?", "\n"])


def texts():
    rng = random.Random(7)
    fixed = [
        "", " ", "  ", "   ", "\n", "\n\n", " \n ", "\t", "\r\n", "a", " a", "a ", "  a  b  ", "Hello world",
        "Hello, world! It's 2024; I'LL don't DON'T we're", "1234567890", "12 345 6.78e-9", "x=1+2*3//4",
        "Größe naïve café", "e\u0301 vs \u00e9", "ﬁ ﬂ ½ ²", "你好，世界！", "こんにちは。", "привет мир",
        "👍👩‍🚀🇩🇪🏳️‍🌈", "a👍b", "\u00a0nbsp\u2003em\u3000ideographic\u200bzero", "مرحبا بالعالم", "हिन्दी भाषा",
        "<s>", "</s>", "<unk>", " <s> ", "a<s>b", "a <s> b", "<s></s>", "<s> text</s>\n", "<|eot|>", "x<|eot|>y",
        " <|eot|> z", "<think>", "a <think> b</think>", "<0x41>", "<0x0A>", "\x00", "\x01\x02", "a\x00b", "\u2028\u2029",
        "\ufffd", "a\ufffdb", "▁", "▁▁a", "a▁b", "Ġ", "ĊĠ", "'", "''s", "\"quoted\"", "{\"json\": [1, 2, null]}",
        "def f(x):\n    return x\n", "    indented\n\tmixed\n", "https://example.org/a?b=c&d=%20", "C:\\path\\to", "\\n",
        "ALLCAPS camelCase snake_case kebab-case", "İstanbul ıI ſ ß ẞ", "Ǆ ǅ ǆ", "ΑΣ ς", "\U0001d54f\U00010400", "\u1100\u1161",
        "가각 한국어", "a" * 50, " " * 20 + "x", "\n" * 10, "ab" * 30, "the the the", "don't", "don’t", "¡Hola! ¿Qué?",
        "x\u0301\u0323", "\u0041\u030a", "…—–", "$€£¥", "①②③ⅣⅤ", "10³ m²", "۱۲۳", "१२३", "a\nb\r\nc\rd", " a\n b\n  c",
        "end ", "end\n", "end \n", "end\n ", "<s", "s>", "<|eot", "|>", "<|eot|><|eot|>", "<s> <s>", "\u0085next", "\x1c\x1d",
    ]
    pool = list("abcdeABC 0123  \n\t.,!?'\"-_/\\<>|{}()é\u0301ßдж中日👍ñ▁Ġ\u00a0") + [" the", " world", "<s>", "</s>", "<|eot|>", "<think>", "ing", "'s"]
    drawn = ["".join(rng.choice(pool) for _ in range(rng.randint(1, 40))) for _ in range(110)]
    prose = list(corpus(99))[:20]
    return fixed + drawn + prose


def save(tokenizer, name, **config):
    folder = HERE / name
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **config)
    fast.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def byte_level(pattern, special, seed, nfc=False, bos=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=bos is not None))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    if pattern == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif pattern == "digits":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(seed), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer


def spm(legacy):
    """A SentencePiece-like vocabulary: <unk> <s> </s>, 256 bytes, pieces with scores."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False)
    trained.train_from_iterator(corpus(3), trainer)
    pieces = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    single = [piece for piece, _ in pieces if len(piece) == 1]
    merged = [piece for piece, _ in pieces if len(piece) > 1]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + merged + single
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(merged))] + [-1e4 - i for i in range(len(single))]
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = generate_merges(vocab, dict(zip(tokens, scores)))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer, tokens, scores


def write_gguf(path, model, pre, tokens, types, merges=None, scores=None, ids=(), flags=(), template=None):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges is not None:
        writer.add_token_merges(merges)
    if scores is not None:
        writer.add_token_scores(scores)
    for key, value in ids:
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", value)
    for key, value in flags:
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    if template:
        writer.add_chat_template(template)
    writer.add_tensor("f32", numpy.arange(6, dtype=numpy.float32).reshape(2, 3))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_reader(path):
    """Every type of metadata, a tensor of each kind of storage, another alignment."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("t.u8", 200)
    writer.add_int8("t.i8", -100)
    writer.add_uint16("t.u16", 60000)
    writer.add_int16("t.i16", -30000)
    writer.add_uint32("t.u32", 4_000_000_000)
    writer.add_int32("t.i32", -5)
    writer.add_uint64("t.u64", 2**63 + 1)
    writer.add_float32("t.f32", 0.5)
    writer.add_int64("t.i64", -(2**40))
    writer.add_float64("t.f64", 0.1)
    writer.add_bool("t.bool", True)
    writer.add_string("t.text", "Größe")
    writer.add_array("t.texts", ["a", "", "世界"])
    writer.add_array("t.f32s", [0.5, -1.0])
    writer.add_array("t.i32s", [1, -2])
    writer.add_array("t.bools", [True, False])
    writer.add_array("t.nested", [[1, 2], [3]])
    writer.add_tensor("f32", numpy.arange(6, dtype=numpy.float32).reshape(2, 3))
    writer.add_tensor("f16", numpy.arange(4, dtype=numpy.float16))
    rows = numpy.linspace(-1, 1, 512, dtype=numpy.float32).reshape(2, 256)
    for kind in ("Q8_0", "Q4_0", "BF16"):
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(kind.name, gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_of(fast, path, pre, **options):
    data = json.loads(fast.backend_tokenizer.to_str())
    size = len(fast)
    tokens = [fast.convert_ids_to_tokens(index) for index in range(size)]
    added = {token["id"]: token["special"] for token in data["added_tokens"]}
    types = [1 if i not in added else 3 if added[i] else 4 for i in range(size)]
    merges = [" ".join(merge) for merge in data["model"]["merges"]]
    write_gguf(path, "gpt2", pre, tokens, types, merges=merges, **options)


def expected(tokenizer, sample):
    ids = [tokenizer.encode(text, add_special_tokens=True) for text in sample]
    plain = [tokenizer.encode(text, add_special_tokens=False) for text in sample]
    decoded = [tokenizer.decode(row) for row in ids]
    skipped = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    same = lambda found, other: [None if a == b else a for a, b in zip(found, other)]
    return {
        "ids": ids,
        "plain_ids": same(plain, ids),
        "text": same(decoded, sample),
        "skipped": same(skipped, decoded),
    }


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    sample = texts()
    chat = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    folders = {
        "gpt2": save(byte_level("gpt2", ["<|eot|>"], 1), "gpt2", eos_token="<|eot|>", bos_token="<|eot|>"),
        "llama3": save(
            byte_level(LLAMA3, ["<s>", "</s>", "<|eot|>"], 2, bos="<s>"),
            "llama3", bos_token="<s>", eos_token="<|eot|>", chat_template=chat, clean_up_tokenization_spaces=True,
        ),
        "qwen2": save(byte_level(QWEN2, ["<|eot|>", "</s>"], 4, nfc=True), "qwen2", eos_token="<|eot|>", pad_token="</s>"),
    }
    legacy, tokens, scores = spm(True)
    folders["spm"] = save(legacy, "spm", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    result = {name: expected(tokenizer, sample) for name, tokenizer in folders.items()}

    first, _, _ = spm(False)
    digits = byte_level("digits", ["<|eot|>"], 5)
    references = {
        "gpt2": folders["gpt2"],
        "llama3": folders["llama3"],
        "qwen2": folders["qwen2"],
        "smollm": PreTrainedTokenizerFast(tokenizer_object=digits, eos_token="<|eot|>"),
        "spm": PreTrainedTokenizerFast(tokenizer_object=first, bos_token="<s>", eos_token="</s>", unk_token="<unk>"),
    }
    eot = {name: tokenizer.convert_tokens_to_ids("<|eot|>") for name, tokenizer in references.items()}
    gguf_of(references["gpt2"], HERE / "gpt2.gguf", "gpt-2", ids=[("bos", eot["gpt2"]), ("eos", eot["gpt2"])])
    llama3 = folders["llama3"]
    gguf_of(
        llama3, HERE / "llama3.gguf", "llama-bpe", template=chat,
        ids=[("bos", llama3.bos_token_id), ("eos", llama3.convert_tokens_to_ids("</s>")), ("eot", eot["llama3"])],
    )
    gguf_of(
        folders["qwen2"], HERE / "qwen2.gguf", "qwen2", flags=[("add_bos_token", False)],
        ids=[("eos", eot["qwen2"]), ("padding", folders["qwen2"].pad_token_id), ("bos", eot["qwen2"])],
    )
    gguf_of(references["smollm"], HERE / "smollm.gguf", "smollm", ids=[("eos", eot["smollm"])])
    types = [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259)
    write_gguf(
        HERE / "spm.gguf", "llama", "default", tokens, types, scores=scores,
        ids=[("bos", 1), ("eos", 2), ("unknown", 0)], flags=[("add_bos_token", True), ("add_eos_token", False)],
    )
    write_reader(HERE / "reader.gguf")
    for name, reference in references.items():
        entry = expected(reference, sample)
        peer = AutoTokenizer.from_pretrained(HERE, gguf_file=f"{name}.gguf")
        if entry == result.get(name):
            entry = {"like": name}
        entry["peer_differs"] = [
            index for index, text in enumerate(sample)
            if peer.encode(text, add_special_tokens=False)
            != reference.encode(text, add_special_tokens=False)
        ]
        print(name, "peer differs on", [sample[i] for i in entry["peer_differs"]][:6], len(entry["peer_differs"]))
        result[f"{name}.gguf"] = entry
    result["versions"] = {"transformers": transformers.__version__, "gguf": "0.19.0"}
    write = lambda name, data: (HERE / name).write_text(
        json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    write("texts.json", sample)
    write("expected.json", result)
    for path in HERE.glob("*/*"):
        if path.name == "tokenizer.json":
            path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")))
    print(len(sample), "texts,", sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file()), "bytes")


if __name__ == "__main__":
    main()
