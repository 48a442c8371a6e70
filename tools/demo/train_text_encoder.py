"""The text encoder, before the denoiser: its states must tell what a caption says.

CLIP's was trained against pictures; here every attribute of the scene is read from the states by one
learned query of attention each, as the denoiser will read them, and each state keeps its own token.
"""
import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from captions import LENGTH, token_ids, with_nonsense
from world import World

parser = argparse.ArgumentParser()
parser.add_argument("--program", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--tokenizer", required=True)
parser.add_argument("--out", required=True)
parser.add_argument("--steps", type=int, default=700)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--width", type=int, default=96)
parser.add_argument("--rate", type=float, default=2e-3)
parser.add_argument("--threads", type=int, default=1)
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(3)
generator = np.random.default_rng(3)

tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
encoder = CLIPTextModel(
    CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.width,
        intermediate_size=4 * args.width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=args.width,
        hidden_act="quick_gelu",
        **special,
    )
)
print("parameters", sum(p.numel() for p in encoder.parameters()))

# attributes and their values; what a caption leaves unsaid is a value of its own
scenes = World(args.program, args.data).scenes
KEYS = ("shape", "colour", "background", "size", "place")
values = {key: sorted({s["scene"][key] for s in scenes}) for key in KEYS}
examples = []
for scene in scenes:
    for k, text in enumerate(scene["captions"]):
        label = [values[key].index(scene["scene"][key]) for key in KEYS]
        if k // 2 % 2 == 1:
            label[3] = len(values["size"])
        if k // 4 == 1:
            label[4] = len(values["place"])
        examples.append((text, tuple(label), scene["held_out"]))
trained = sorted({(t, l) for t, l, held_out in examples if not held_out})
unseen = sorted({(t, l) for t, l, held_out in examples if held_out})


class Reader(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.query = nn.Parameter(torch.randn(len(KEYS), width) * 0.2)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.heads = nn.ModuleList(nn.Linear(width, len(values[key]) + 1) for key in KEYS)
        self.end = nn.ModuleList(nn.Linear(width, len(values[key]) + 1) for key in KEYS)
        self.tokens = nn.Linear(width, len(tokenizer))

    def forward(self, states):
        read = F.scaled_dot_product_attention(self.query.expand(len(states), -1, -1), self.key(states), self.value(states))
        by_attention = [head(read[:, k]) for k, head in enumerate(self.heads)]
        return by_attention, [head(states[:, -1]) for head in self.end]


reader = Reader(args.width)
parameters = [*encoder.parameters(), *reader.parameters()]
optimizer = torch.optim.AdamW(parameters, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01)
begin = time.time()
for step in range(args.steps):
    for group in optimizer.param_groups:
        group["lr"] = args.rate * min(1, (step + 1) / 50) * (1 - step / args.steps)
    chosen = [trained[i] for i in generator.integers(0, len(trained), args.batch)]
    texts = [with_nonsense(text, generator) if generator.random() < 0.3 else text for text, _ in chosen]
    labels, ids = torch.tensor([label for _, label in chosen]), token_ids(tokenizer, texts)
    states = encoder(ids).last_hidden_state
    attended, ended = reader(states)
    said = sum(F.cross_entropy(a, labels[:, k]) + 0.5 * F.cross_entropy(e, labels[:, k]) for k, (a, e) in enumerate(zip(attended, ended)))
    own = F.cross_entropy(reader.tokens(states[:, :24]).flatten(0, 1), ids[:, :24].flatten())
    loss = said + 0.2 * own
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    if (step + 1) % 50 == 0:
        print(f"step {step + 1} {time.time() - begin:.0f} s said {said.item():.4f} own {own.item():.4f}", flush=True)

encoder.eval()
with torch.no_grad():
    some = [unseen[i] for i in generator.permutation(len(unseen))[:512]]
    for noisy in (False, True):
        texts = [with_nonsense(text, generator) if noisy else text for text, _ in some]
        attended, _ = reader(encoder(token_ids(tokenizer, texts)).last_hidden_state)
        labels = torch.tensor([label for _, label in some])
        print("unseen, with a nonsense word" if noisy else "unseen", {key: (attended[k].argmax(1) == labels[:, k]).float().mean().item() for k, key in enumerate(KEYS)})
    states = encoder(token_ids(tokenizer, [t for t, _ in some])).last_hidden_state
    print("std of states", states.std().item())
encoder.save_pretrained(args.out)
