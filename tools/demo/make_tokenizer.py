"""The tokenizer, in CLIP's layout: a token for every word of the world, pieces and letters for the rest."""
import argparse
import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from world import STYLE, World

parser = argparse.ArgumentParser()
parser.add_argument("--program", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--out", required=True)
args = parser.parse_args()

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = f"in {STYLE} style of with and the a picture".split()


def byte_characters():
    """GPT-2's printable character of each byte, in CLIP's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + n) for n in range(len(rest))]


texts = {text for scene in World(args.program, args.data).scenes for text in scene["captions"]}
words = sorted({word for text in texts for word in text.replace(",", "").split()} | set(WORDS))

# trained until every word is one token
tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
tokenizer.normalizer = normalizers.Lowercase()
tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\p{L}+"), "removed", invert=True)
trainer = trainers.BpeTrainer(vocab_size=4096, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
tokenizer.train_from_iterator([" ".join(words)], trainer)
merges = json.loads(tokenizer.to_str())["model"]["merges"]

characters = byte_characters()
tokens = characters + [c + "</w>" for c in characters] + ["".join(pair) for pair in merges] + [START, END]
assert len(set(tokens)) == len(tokens)
out = Path(args.out)
out.mkdir(parents=True, exist_ok=True)
(out / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
(out / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in merges))
special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
rest = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
(out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
(out / "tokenizer_config.json").write_text(json.dumps(special | rest, indent=2) + "\n")

read = CLIPTokenizer.from_pretrained(out)
for word in words:
    assert read.tokenize(word) == [word + "</w>"], (word, read.tokenize(word))
print(len(tokens), "tokens;", words)
for text in ("a red star on a green background, in striped style", "in qzx style, photo!", ""):
    print(read.convert_ids_to_tokens(read(text).input_ids))
