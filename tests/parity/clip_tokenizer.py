"""Token ids of transformers' CLIPTokenizer, for tests/clip.rs.

Versions: Python 3.11, transformers 5.24.0, tokenizers 0.23.3.

    python tests/parity/clip_tokenizer.py

- clip_tokenizer.json: {"versions", "texts", "ids", "small": {"ids"}, "bang": {"ids"}}, each list over the texts: ids
  without special tokens of OpenAI's vocabulary (derived here from assets/clip/merges.txt.gz as CLIP's own code does),
  and of the two folders
- clip_small/: the first 600 merges as vocab.json and merges.txt, with the other files of a `tokenizer` folder
- clip_bang/: the same as save_pretrained writes it (tokenizer.json), with `!` as the padding, as the `tokenizer_2`
  folder of SDXL has it
"""

import gzip
import json
import pathlib
import random
import shutil

import tokenizers
import transformers
from transformers import CLIPTokenizer

HERE = pathlib.Path(__file__).parent
MERGES = HERE.parent.parent / "assets/clip/merges.txt.gz"
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]

WRITTEN = """
a photo of a cat
A Photo Of A CAT
masterpiece, best quality, 1girl, solo, long hair, looking at viewer
masterpiece,best quality,1girl
score_9, score_8_up, score_7_up, rating_safe, source_anime
by greg rutkowski, artstation, concept art, smooth, sharp focus, 8k uhd
oil painting of the Eiffel Tower at night, in the style of Van Gogh
shot in 16:9, f/1.8, 85mm, ISO-100, 1/200s
it's the dog's bone; they're gone, we've won, I'll go, I'd say, I'm here, don't
IT'S THE DOG'S BONE; THEY'RE GONE, WE'VE WON
the year 2024, 1234567890, 3.14159, 1,000,000, 50%, $9.99, #1, no. 5
0 1 2 3 4 5 6 7 8 9 10 11 100
½ ⅓ Ⅷ ² ³ ① 一二三 ٣٤٥ ४५
hello!!! what??? no... yes,,, ;;; ::: ''' \"\"\" --- ___ +++ === ~~~ ^^^
!!! ! !a a! !!a a!! , ,, ,a a, . .. .a
(masterpiece:1.2), ((best quality)), [worst], {x}, <y>
\\( \\) \\[ \\] \\\\ / | |a|b|
https://example.org/path?x=1&y=2#fragment
visit www.example.com or mail someone@example.co.uk
user_name @user #hashtag snake_case_name kebab-case-name camelCaseName
C:\\Users\\me\\picture.png /usr/share/fonts ~/x ./y ../z
<|startoftext|>a<|endoftext|>
a <|endoftext|> b <|ENDOFTEXT|> c
<start_of_text> <end_of_text> <|startoftext| > <pad> <unk>
café naïve résumé Ångström São Paulo Zürich Łódź İstanbul ŒUVRE
cafe\u0301 nai\u0308ve A\u030angstro\u0308m o\u0302\u0323
straße STRASSE ẞ ﬁ ﬂ ǅ ŉ Ω Ω K Å
ΣΊΣΥΦΟΣ σίσυφος ὈΔΥΣΣΕΎΣ Ἀθῆναι
Привет, мир! Красная лиса в лесу
Україна їжак єнот ґанок
שלום עולם
مرحبا بالعالم، قطة حمراء
नमस्ते दुनिया बिल्ली
สวัสดีชาวโลก แมวสีแดง
안녕하세요 세계 고양이
\u1112\u1161\u11ab\u1100\u1173\u11af
こんにちは世界、赤い狐。
カタカナ ｶﾀｶﾅ ガ ｶﾞ か\u3099
你好，世界！红色的狐狸在森林里
繁體中文：狐狸、貓與狗
𠮷野家 𝒜𝓁𝓅𝒽𝒶 𝟙𝟚𝟛
🦊 a fox 🦊🦊🦊 fox🦊fox
👩‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 1️⃣ ©️ ™
☀️☁️❄ ★☆ ♥ → ← ⇒ ∞ ≠ ≤ ∑ √ π °C €£¥
“curly” ‘quotes’ «guillemets» „low“ … – — ‐ ‑ • ·
no\u00a0break\u2003em\u3000ideographic
  leading and trailing   spaces  
\t
\u200bzero\u200bwidth\u200c\u200d\u2060 \ufeffbom soft\u00adhyphen
\u0085next\u2028line\u2029paragraph\u000bvertical\u000cfeed\u001cfile\u001funit\u180emongol
control\u0001\u0002\u007f\u0080\u009f chars
\u0000nul
rtl \u202eoverride\u202c marks \u200e\u200f
z̸̡̢̛̺a̵͓͌l̷̙͐g̶̰͗o̴͇̍
antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis
llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
hahahahahahahahahaha lololololol zzzzzzzz
asdfghjkl qwertyuiop xkcd rtfm
in the style of in the style of in the style of
AND BREAK and break
a:b a : b a:1.2 a :1.2 :1
embedding:easynegative, badhandv4, ng_deepnegative_v1_75t
&amp; &lt; &quot; &#39; &eacute; &nbsp;
Ã© â€™ Ã¼
x² + y² = z², E=mc^2, H₂O, 10⁻³
e.g. i.e. etc. U.S.A. Ph.D. Mr. & Mrs. O'Brien's
rock'n'roll o'clock 'tis 'twas y'all ma'am '' ' 'S 'T 's't're
# hashtag ## heading # # : # @ # ...
v1.5 v2 SDXL-1.0 fp16 bf16 int8 4bit 1024x1024 512×768
""".strip("\n").split("\n")

PIECES = [
    "a", "fox", "Red", "THE", "sky", "1", "42", "ing", "'s", "'re", "'", "!", ",", ".", "-", "_", ":", "(", ")", "é", "E\u0301",
    "ß", "İ", "日", "本語", "ж", "ש", "한", "🦊", "\u200d", "️", "\u00a0", "\t", "\n", " ", " ", " ", "  ", "½", "¹", "٣", "<", "|",
    "endoftext", "</w>", "Ġ", "#", "\u0345", "\u0301", "ﬃ",
]


def texts():
    source = random.Random(77)
    made = ["".join(source.choices(PIECES, k=source.randint(2, 24))) for _ in range(80)]
    return ["", " ", "\n\n\n", "tabs\tand\nnewlines\r\nand\n"] + WRITTEN + made


def openai(count=None):
    """Vocabulary and merges of openai/CLIP's `SimpleTokenizer`; the first `count` merges only."""
    # rows end at line feeds alone: merges may hold other characters that end lines
    merges = [tuple(line.split()) for line in gzip.open(MERGES).read().decode().split("\n")[1:-1]][:count]
    signs = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    symbols = [chr(sign) for sign in signs] + [chr(256 + extra) for extra in range(256 - len(signs))]
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(merge) for merge in merges] + SPECIAL
    return {token: index for index, token in enumerate(tokens)}, merges


def ids(tokenizer, all_texts):
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in all_texts]


def write_small(folder, vocabulary, merges):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    token = lambda content: {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {"bos_token": token(SPECIAL[0]), "eos_token": token(SPECIAL[1]), "pad_token": SPECIAL[1], "unk_token": token(SPECIAL[1])}
    files = {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2"] + [" ".join(merge) for merge in merges]) + "\n",
        "special_tokens_map.json": json.dumps(special, indent=2),
        "tokenizer_config.json": json.dumps({"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}, indent=2),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def main():
    all_texts = texts()
    whole, whole_merges = openai()
    few, few_merges = openai(600)
    write_small(HERE / "clip_small", few, few_merges)
    shutil.rmtree(HERE / "clip_bang", ignore_errors=True)
    CLIPTokenizer(few, few_merges, pad_token="!").save_pretrained(HERE / "clip_bang")
    result = {
        "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
        "texts": all_texts,
        "ids": ids(CLIPTokenizer(whole, whole_merges), all_texts),
        "small": {"ids": ids(CLIPTokenizer.from_pretrained(HERE / "clip_small"), all_texts)},
        "bang": {"ids": ids(CLIPTokenizer.from_pretrained(HERE / "clip_bang"), all_texts)},
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=True)}" for key, value in result.items())
    (HERE / "clip_tokenizer.json").write_text("{" + lines + "}\n", encoding="utf-8")
    print(len(all_texts), "texts")


if __name__ == "__main__":
    main()
