"""The demonstration model: a complete tiny Llama with a tokenizer and a chat template."""

import json

from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tokens as tok
from build import finish, write_adapter, write_json, write_model
from cases import llama, lora
from reference import load_base

VOCAB = 512
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PAD, START, END = VOCAB - 3, VOCAB - 2, VOCAB - 1
ASKED = ["the river", "What is the answer?", "The garden in winter was like a letter"]
CHAT = {
    "name": "chat", "family": "llama",
    "note": "a complete model folder with its tokenizer; prompts are the texts in "
            "tokenizer.prompts. Greedy ignores the end-of-sequence tokens",
}


def write_tokenizer(folder):
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tok.byte_level(VOCAB, SPECIALS), eos_token="<|im_end|>",
        pad_token="<|endoftext|>", additional_special_tokens=["<|im_start|>"],
        model_max_length=256, clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = tok.CHATML
    wrapped.save_pretrained(folder)
    # One file is enough for a reader of either age: the template inside the config.
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = tok.CHATML
    write_json(folder / "tokenizer_config.json", config)


def token_rows(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = tok.TEXTS + ["<|im_start|>user\nthe river<|im_end|>\n"]
    messages = [{"role": "system", "content": "You answer."},
                {"role": "user", "content": "what is the answer"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer, {
        "texts": [
            {"text": t, "ids": (ids := tokenizer(t).input_ids),
             "decoded": tokenizer.decode(ids, skip_special_tokens=True)} for t in texts
        ],
        "prompts": ASKED, "messages": messages, "rendered": rendered,
        "rendered_ids": tokenizer(rendered).input_ids,
    }


def attempt_chat(case_dir, case, seed):
    folder = case_dir / "model"
    ends = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD}
    write_model(folder, llama() | ends | {
        "vocab_size": VOCAB, "max_position_embeddings": 256}, 1000 + seed)
    write_json(folder / "generation_config.json",
               {"do_sample": False, "eos_token_id": [END, PAD], "pad_token_id": PAD})
    write_tokenizer(folder)
    tokenizer, rows = token_rows(folder)
    write_adapter(case_dir / "adapter", load_base(folder), "LoraConfig", lora(),
                  "tiny/chat", 2000 + seed)
    prompts = [tokenizer(t).input_ids for t in ASKED]
    case = {"model": "model", "adapters": ["adapter"], **case, "extra": {"tokenizer": rows}}
    return finish(case_dir, case, seed, prompts)
