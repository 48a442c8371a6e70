"""The denoiser, on latents of drawn pictures and states of the text encoder, both frozen."""
import argparse
import copy
import json
import math
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from captions import token_ids, with_nonsense
from sampling import SCHEDULER, PlainAttention, sample, write_folder
from world import World, sheet, to_tensor

parser = argparse.ArgumentParser()
parser.add_argument("--program", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--tokenizer", required=True)
parser.add_argument("--text-encoder", required=True)
parser.add_argument("--vae", required=True)
parser.add_argument("--out", required=True, help="checkpoints, sheets and figures")
parser.add_argument("--folder", required=True, help="the pipeline, written again at each checkpoint")
parser.add_argument("--channels", default="64,80")
parser.add_argument("--groups", type=int, default=16)
parser.add_argument("--count", type=int, default=60000)
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--rate", type=float, default=1.5e-3)
parser.add_argument("--steps", type=int, default=0, help="length of the schedule")
parser.add_argument("--until", default="", help="or when it ends, HH:MM; the day's change counts")
parser.add_argument("--every", type=float, default=8.0, help="minutes between checkpoints")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--resume", default="")
parser.add_argument("--bench", type=int, default=0)
parser.add_argument("--compile", action="store_true")
parser.add_argument("--last", action="store_true", help="channels_last")
args = parser.parse_args()

torch.set_num_threads(args.threads)
torch.manual_seed(4)
generator = np.random.default_rng(4)
begin = time.time()
out = Path(args.out)
out.mkdir(parents=True, exist_ok=True)

tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
text_encoder = CLIPTextModel.from_pretrained(args.text_encoder).eval().requires_grad_(False)
vae = AutoencoderKL.from_pretrained(args.vae).eval().requires_grad_(False)
channels = [int(c) for c in args.channels.split(",")]
unet = UNet2DConditionModel(
    sample_size=8,
    block_out_channels=channels,
    down_block_types=["CrossAttnDownBlock2D"] * len(channels),
    up_block_types=["CrossAttnUpBlock2D"] * len(channels),
    layers_per_block=1,
    cross_attention_dim=text_encoder.config.hidden_size,
    attention_head_dim=4,  # a number of heads, whatever its name says
    norm_num_groups=args.groups,
)
if args.last:
    unet = unet.to(memory_format=torch.channels_last)
unet.set_attn_processor(PlainAttention())
print("parameters", sum(p.numel() for p in unet.parameters()), flush=True)
parameters = list(unet.parameters())
average = [p.detach().clone() for p in parameters]
optimizer = torch.optim.AdamW(parameters, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
step = 0
if args.resume:
    state = torch.load(args.resume)
    unet.load_state_dict(state["unet"])
    optimizer.load_state_dict(state["optimizer"])
    average, step = state["average"], state["step"]

world = World(args.program, args.data)


@torch.no_grad()
def encode_texts(texts):
    return torch.cat([text_encoder(token_ids(tokenizer, texts[at : at + 256])).last_hidden_state for at in range(0, len(texts), 256)])


@torch.no_grad()
def encode_pictures(pictures):
    parts = []
    for at in range(0, len(pictures), 128):
        parts.append(vae.encode(to_tensor(pictures[at : at + 128])).latent_dist.mode())
    return torch.cat(parts) * vae.config.scaling_factor


# latents of all pictures
count = args.count if not args.bench else 512
kept = out / f"latents-{count}.pt"
pictures, numbers = world.draw(count, 31)
if kept.exists():
    latents = torch.load(kept)
else:
    latents = encode_pictures(pictures)
    torch.save(latents, kept)
print(f"{len(latents)} latents {time.time() - begin:.0f} s, std {latents.std().item():.3f}", flush=True)

# states of all captions: plain, with nonsense, empty
texts = sorted({text for scene in world.scenes if not scene["held_out"] for text in scene["captions"]})
if args.bench:
    texts = sorted({text for n in numbers for text in world.scenes[n]["captions"]})
row_of = {text: row for row, text in enumerate(texts)}
noisy = [(text, with_nonsense(text, generator)) for text in (texts[i] for i in generator.integers(0, len(texts), 24 if args.bench else 8000))]
noisy_rows = {}
for row, (text, _) in enumerate(noisy):
    noisy_rows.setdefault(text, []).append(len(texts) + row)
states = encode_texts([*texts, *(text for _, text in noisy), ""]).bfloat16()
empty_row = len(states) - 1
captions_of = [[row_of.get(text, -1) for text in scene["captions"]] for scene in world.scenes]
print(f"{len(states)} captions {time.time() - begin:.0f} s", flush=True)


def caption_rows(scenes):
    """A row of `states` for each scene: one of its eight captions, 12 % with a nonsense word, 10 % empty."""
    rows = []
    for number in scenes:
        kind = generator.random()
        if kind < 0.1:
            rows.append(empty_row)
            continue
        row = captions_of[number][2 * generator.integers(0, 4) + int(generator.random() < 0.3)]
        if kind < 0.22:
            row = generator.choice(noisy_rows.get(texts[row], [row]))
        rows.append(row)
    return torch.tensor(np.array(rows))


held_out = [n for n, scene in enumerate(world.scenes) if scene["held_out"]]
judged = np.random.default_rng(5).choice(held_out, 96, replace=False)
judged_states = encode_texts([world.scenes[n]["captions"][0] for n in judged])
empty_state = encode_texts([""])


def checkpoint(tag, guidances=(2.0,)):
    start = time.time()
    shadow = copy.deepcopy(unet)
    for p, a in zip(shadow.parameters(), average):
        p.data.copy_(a)
    shadow.eval()
    write_folder(args.folder, shadow, text_encoder, vae, args.tokenizer)
    torch.save({"unet": unet.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}, out / "state.new")
    (out / "state.new").rename(out / "state.pt")
    for guidance in guidances:
        drawn = sample(shadow, vae, judged_states, empty_state, guidance)
        sheet(drawn, 16, out / f"{tag}-{guidance}.png")
        rates = {key: round(rate, 3) for key, rate in world.rates(drawn, judged).items()}
        line = {"step": step, "guidance": guidance, **rates, "minutes": round((time.time() - begin) / 60, 1)}
        print("EVAL", json.dumps(line), f"{time.time() - start:.0f} s", flush=True)
        with open(out / "figures.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")


alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod
model = torch.compile(unet) if args.compile else unet
order, at = generator.permutation(len(latents)), 0
first, first_step, losses = time.time(), step, []
ends = 0.0
if args.until:
    end = datetime.now().replace(hour=int(args.until[:2]), minute=int(args.until[3:]), second=0)
    ends = (end - datetime.now()).total_seconds()
    ends += 86400 if ends < 0 else 0
ends += first
due = time.time() + 60 * args.every
bench_from = 0.0
while True:
    done = step / args.steps if args.steps else (time.time() - begin) / (ends - begin)
    if done >= 1:
        break
    rate = args.rate * min(1, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimizer.param_groups:
        group["lr"] = rate
    if at + args.batch > len(order):
        order, at = generator.permutation(len(latents)), 0
    chosen = order[at : at + args.batch]
    at += args.batch
    z = latents[chosen]
    context = states[caption_rows(numbers[chosen])]
    # one timestep from each of as many equal parts as there are rows
    t = ((torch.arange(args.batch) + torch.rand(args.batch)) * 1000 / args.batch).long()
    noise = torch.randn_like(z)
    keep = alphas[t].view(-1, 1, 1, 1)
    x = keep.sqrt() * z + (1 - keep).sqrt() * noise
    velocity = keep.sqrt() * noise - (1 - keep).sqrt() * z
    if args.last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x, t, encoder_hidden_states=context).sample
    loss = (found.float() - velocity).square().mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    step += 1
    with torch.no_grad():
        torch._foreach_lerp_(average, [p.data for p in parameters], 1 - min(0.999, (1 + step) / (10 + step)))
    losses.append(loss.item())
    if step % 200 == 0:
        spent = time.time() - first
        print(f"step {step} {spent:.0f} s {(step - first_step) * args.batch / spent:.0f}/s loss {np.mean(losses[-200:]):.4f}", flush=True)
    if args.bench:
        if step == 3:
            bench_from = time.time()
        if step == args.bench + 3:
            print(f"BENCH {args.bench * args.batch / (time.time() - bench_from):.0f}/s")
            raise SystemExit
    if time.time() > due:
        checkpoint(f"step{step}", (1.5, 2.0, 3.0) if step % 2 else (2.0,))
        due = time.time() + 60 * args.every
checkpoint("final", (1.0, 1.5, 2.0, 3.0, 4.0))
