"""Tokens per second of transformers + PEFT, for benches/decode.rs.

    python decode_peer.py BASE ADAPTER THREADS PROMPT_TOKENS NEW_TOKENS

Greedy decoding in f32 with a key-value cache, batches of 1 and of 8 rows, the adapter at its own
scale in all rows (PEFT has no strength for a row). The pass over the prompt is not counted. Tried
with torch 2.15.0, transformers 5.24.0, peft 0.21.2.
"""

import sys
import time

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base, adapter, threads, prompt, new = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()


@torch.inference_mode()
def decode(rows: int) -> float:
    ids = torch.tensor([[7 + 13 * i for i in range(prompt)]] * rows)
    out = model(input_ids=ids, use_cache=True)
    token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
    start = time.perf_counter()
    for _ in range(new):
        out = model(input_ids=token, past_key_values=cache, use_cache=True)
        token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
    return time.perf_counter() - start


for rows in (1, 8):
    decode(rows)
    seconds = sorted(decode(rows) for _ in range(3))[1]
    print(f"transformers + PEFT, {rows} row(s): {seconds:.2f} s, {rows * new / seconds:.1f} tokens/s")
