"""The autoencoder: AutoencoderKL, factor 8, four latent channels."""
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
parser.add_argument("--out", required=True)
parser.add_argument("--steps", type=int, default=4000)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--channels", default="16,32,48,48")
parser.add_argument("--rate", type=float, default=2e-3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--count", type=int, default=30000)
parser.add_argument("--minutes", type=float, default=0.0, help="stop the schedule after so long")
parser.add_argument("--crops", type=float, default=0.6, help="part of the training that sees quarters of pictures")
parser.add_argument("--bench", type=int, default=0)
parser.add_argument("--start", default="", help="weights to go on from")
args = parser.parse_args()

torch.set_num_threads(args.threads)
torch.manual_seed(1)
channels = [int(c) for c in args.channels.split(",")]
levels = len(channels)
vae = AutoencoderKL(
    block_out_channels=channels,
    down_block_types=["DownEncoderBlock2D"] * levels,
    up_block_types=["UpDecoderBlock2D"] * levels,
    layers_per_block=1,
    norm_num_groups=8,
    latent_channels=4,
    sample_size=64,
    scaling_factor=1.0,
    force_upcast=False,
)
if args.start:
    vae.load_state_dict(AutoencoderKL.from_pretrained(args.start).state_dict())
with torch.no_grad():  # starts with little noise on the latents, else it stays long at the mean colour
    if not args.start:
        vae.quant_conv.bias[4:] -= 5.0
        vae.quant_conv.weight[4:] *= 0.1
print("parameters", sum(p.numel() for p in vae.parameters()), flush=True)

world = World(args.program, args.data)
parts = [
    world.draw(args.count // 2, 11, "plain")[0],
    world.draw(args.count // 5, 12, "striped")[0],
    world.draw(args.count * 3 // 10, 13, "textured")[0],
]
pictures = np.concatenate(parts)
print("pictures", len(pictures), flush=True)

optimizer = torch.optim.AdamW(vae.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.0)
average = [p.detach().clone() for p in vae.parameters()]
generator = np.random.default_rng(2)
order, at = generator.permutation(len(pictures)), 0
begin, step = time.time(), 0
bf16 = torch.autocast("cpu", torch.bfloat16)


def evaluate(tag):
    trained = [p.detach().clone() for p in vae.parameters()]
    for p, a in zip(vae.parameters(), average):
        p.data.copy_(a)
    vae.eval()
    with torch.no_grad():
        kinds = [world.draw(192, 21, "plain", "held-out"), world.draw(64, 22, "striped"), world.draw(32, 23, "textured")]
        shown, result = [], {}
        for name, (drawn, numbers) in zip(("plain", "striped", "textured"), kinds):
            x = to_tensor(drawn)
            y = vae.decode(vae.encode(x).latent_dist.mode()).sample
            result[f"{name} error"] = round(F.l1_loss(y, x).item(), 4)
            if name == "plain":
                rebuilt = to_pictures(y)
                result["drawn"] = world.rates(drawn, numbers)
                result["rebuilt"] = world.rates(rebuilt, numbers)
            if name == "striped":
                result["still striped"] = float(np.mean([s["striped"] for s in world.check(to_pictures(y), numbers)]))
            shown += [*drawn[:12], *to_pictures(y)[:12]]
        sheet(shown, 12, f"{args.out}-{tag}.png", 2)
        z = vae.encode(to_tensor(world.draw(2048, 24, "plain")[0])).latent_dist.mode()
        result["scaling"] = 1 / z.std().item()
        result["mean"] = [round(v, 3) for v in z.mean((0, 2, 3)).tolist()]
        result["std"] = [round(v, 3) for v in z.std((0, 2, 3)).tolist()]
    vae.register_to_config(scaling_factor=round(result["scaling"], 5))
    vae.save_pretrained(args.out)
    json.dump(result, open(f"{args.out}/result.json", "w"), indent=1)
    print("EVAL", tag, json.dumps(result), flush=True)
    for p, t in zip(vae.parameters(), trained):
        p.data.copy_(t)
    vae.train()


marks = [0.4, 0.8]
while True:
    done = (time.time() - begin) / (60 * args.minutes) if args.minutes else step / args.steps
    if done >= 1:
        break
    rate = args.rate * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimizer.param_groups:
        group["lr"] = rate
    if at + args.batch > len(order):
        order, at = generator.permutation(len(pictures)), 0
    rows = order[at : at + args.batch]
    at += args.batch
    if done < args.crops:
        y0, x0 = generator.integers(0, 33, 2)
        x = to_tensor(pictures[rows, y0 : y0 + 32, x0 : x0 + 32])
    else:
        x = to_tensor(pictures[rows[: args.batch // 2]])
    with bf16:
        posterior = vae.encode(x).latent_dist
        z = posterior.mean + torch.exp(0.5 * posterior.logvar) * torch.randn_like(posterior.mean)
        y = vae.decode(z).sample
    y = y.float()
    mean, log = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean**2 + log.exp() - 1 - log).mean()
    # differences of neighbours keep edges crisp
    across = F.l1_loss(y[..., 1:] - y[..., :-1], x[..., 1:] - x[..., :-1])
    down = F.l1_loss(y[..., 1:, :] - y[..., :-1, :], x[..., 1:, :] - x[..., :-1, :])
    loss = F.l1_loss(y, x) + 0.5 * F.mse_loss(y, x) + 0.5 * (across + down) + 1e-3 * divergence
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimizer.step()
    step += 1
    with torch.no_grad():
        torch._foreach_lerp_(average, [p.data for p in vae.parameters()], 1 - min(0.995, (1 + step) / (10 + step)))
    if step % 50 == 0:
        spent = time.time() - begin
        print(f"step {step} {spent:.0f} s {step / spent:.1f}/s loss {loss.item():.4f} l1 {F.l1_loss(y, x).item():.4f} kl {divergence.item():.2f}", flush=True)
    if args.bench and step >= args.bench:
        raise SystemExit
    if marks and done >= marks[0]:
        evaluate(f"{marks.pop(0):.1f}")
evaluate("final")
