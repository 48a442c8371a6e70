"""The autoencoder's decoder goes on alone: the latents stay what the denoiser was trained on."""
import argparse
import json
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from world import World, sheet, to_pictures, to_tensor

parser = argparse.ArgumentParser()
parser.add_argument("--program", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--vae", required=True)
parser.add_argument("--out", required=True)
parser.add_argument("--minutes", type=float, default=0.0)
parser.add_argument("--steps", type=int, default=6000)
parser.add_argument("--batch", type=int, default=12)
parser.add_argument("--rate", type=float, default=1e-3)
parser.add_argument("--noise", type=float, default=0.05, help="on the latents, in their units: a denoiser is not exact")
args = parser.parse_args()
torch.set_num_threads(1)
torch.manual_seed(8)
generator = np.random.default_rng(8)

vae = AutoencoderKL.from_pretrained(args.vae)
world = World(args.program, args.data)
counts = {"plain": 9000, "striped": 4500, "textured": 1500}
pictures = np.concatenate([world.draw(count, 41 + k, kind)[0] for k, (kind, count) in enumerate(counts.items())])
with torch.no_grad():
    latents = torch.cat([vae.encode(to_tensor(pictures[at : at + 64])).latent_dist.mode() for at in range(0, len(pictures), 64)])
print("latents", len(latents), flush=True)

parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
optimizer = torch.optim.AdamW(parameters, lr=args.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
average = [p.detach().clone() for p in parameters]


def evaluate(tag):
    trained = [p.detach().clone() for p in parameters]
    for p, a in zip(parameters, average):
        p.data.copy_(a)
    shown, result = [], {}
    with torch.no_grad():
        for kind, (drawn, numbers) in {
            "plain": world.draw(192, 21, "plain", "held-out"),
            "striped": world.draw(64, 22, "striped"),
            "textured": world.draw(32, 23, "textured"),
        }.items():
            x = to_tensor(drawn)
            y = vae.decode(vae.encode(x).latent_dist.mode()).sample
            result[f"{kind} error"] = round(F.l1_loss(y, x).item(), 4)
            if kind == "plain":
                result["rebuilt"] = world.rates(to_pictures(y), numbers)
            shown += [*drawn[:12], *to_pictures(y)[:12]]
    sheet(shown, 12, f"{args.out}-{tag}.png", 2)
    vae.save_pretrained(args.out)
    print("EVAL", tag, json.dumps(result), flush=True)
    for p, t in zip(parameters, trained):
        p.data.copy_(t)


evaluate("start")
begin, step, marks = time.time(), 0, [0.33, 0.66]
order, at = generator.permutation(len(pictures)), 0
while True:
    done = (time.time() - begin) / (60 * args.minutes) if args.minutes else step / args.steps
    if done >= 1:
        break
    for group in optimizer.param_groups:
        group["lr"] = args.rate * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
    if at + args.batch > len(order):
        order, at = generator.permutation(len(pictures)), 0
    rows = order[at : at + args.batch]
    at += args.batch
    x, z = to_tensor(pictures[rows]), latents[rows]
    with torch.autocast("cpu", torch.bfloat16):
        y = vae.decode(z + args.noise * torch.rand(len(z), 1, 1, 1) * torch.randn_like(z)).sample
    y = y.float()
    across = F.l1_loss(y[..., 1:] - y[..., :-1], x[..., 1:] - x[..., :-1])
    down = F.l1_loss(y[..., 1:, :] - y[..., :-1, :], x[..., 1:, :] - x[..., :-1, :])
    loss = F.l1_loss(y, x) + 0.5 * F.mse_loss(y, x) + 0.5 * (across + down)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    step += 1
    with torch.no_grad():
        torch._foreach_lerp_(average, [p.data for p in parameters], 1 - min(0.995, (1 + step) / (10 + step)))
    if step % 100 == 0:
        print(f"step {step} {time.time() - begin:.0f} s loss {loss.item():.4f}", flush=True)
    if marks and done >= marks[0]:
        evaluate(f"{marks.pop(0):.2f}")
evaluate("final")
