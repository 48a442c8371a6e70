"""The figures and the sheet of the model card: pictures of held-out scenes by `lora-eval grid`, checked."""
import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from world import SIDE, World

parser = argparse.ArgumentParser()
parser.add_argument("--program", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--lora-eval", required=True)
parser.add_argument("--base", required=True)
parser.add_argument("--run", required=True, help="the run directory; what is there is not drawn again")
parser.add_argument("--prompts", type=int, default=64)
parser.add_argument("--seeds", default="1,2")
parser.add_argument("--guidance", default="1.5,2,3")
parser.add_argument("--samplers", default="ddim")
parser.add_argument("--of", default="held-out", choices=["held-out", "trained"], help="which scenes")
parser.add_argument("--shape", default="", help="scenes of this shape only")
parser.add_argument("--forms", default="0", help="which of a scene's captions, by number, in turn")
parser.add_argument("--sheet", default="", help="PNG of the first 48 pictures, captions below")
args = parser.parse_args()

world = World(args.program, args.data)
among = [n for n, scene in enumerate(world.scenes) if scene["held_out"] == (args.of == "held-out") and scene["scene"]["shape"].startswith(args.shape)]
chosen = np.random.default_rng(6).permutation(among)[: args.prompts]
forms = [int(form) for form in args.forms.split(",")]
prompts = [world.scenes[n]["captions"][forms[k % len(forms)]] for k, n in enumerate(chosen)]
guidances = [float(g) for g in args.guidance.split(",")]
samplers = args.samplers.split(",")
suite = {
    "name": "demo-image",
    "defaults": {"steps": 25, "width": SIDE, "height": SIDE},
    "seeds": [int(seed) for seed in args.seeds.split(",")],
    "strengths": [0],
    "prompts": [{"id": f"scene-{n}", "group": "base", "prompt": prompt} for n, prompt in zip(chosen, prompts)],
    "axes": {"guidance": guidances, "sampler": samplers},
}
run = Path(args.run)
run.parent.mkdir(parents=True, exist_ok=True)
written = run.with_suffix(".yaml")
written.write_text(json.dumps(suite, indent=1))  # JSON is YAML
subprocess.run([args.lora_eval, "grid", written, "--base", args.base, "--out", run], check=True, stdout=subprocess.DEVNULL)

cells = [json.loads(line) for file in sorted((run / "cells").rglob("*.json*")) for line in file.read_text().splitlines()]
rows = {}
for cell in cells:
    key = (cell["axes"]["sampler"], cell["axes"]["guidance"])
    picture = np.array(Image.open(run / cell["output"]).convert("RGB"))
    rows.setdefault(key, []).append((cell["prompt_id"], cell["seed"], int(cell["prompt_id"].split("-")[1]), picture))

print("| sampler | guidance | pictures | shape | colour | background | both colours | size | place | all |\n|---|---|---|---|---|---|---|---|---|---|")
for (sampler, guidance), drawn in sorted(rows.items()):
    seen = world.check(np.stack([d[3] for d in drawn]), [d[2] for d in drawn])
    colours = [s["colour"] and s["background"] for s in seen]
    all_five = [all(s[k] for k in ("shape", "colour", "background", "size", "place")) for s in seen]
    shares = [np.mean([s[k] for s in seen]) for k in ("shape", "colour", "background")] + [np.mean(colours)]
    shares += [np.mean([s[k] for s in seen]) for k in ("size", "place")] + [np.mean(all_five)]
    print(f"| {sampler} | {guidance} | {len(drawn)} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")

if args.sheet:
    (_, drawn), *_ = [(k, v) for k, v in sorted(rows.items()) if k[1] == 2.0 or len(rows) == 1]
    first = {n: picture for _, seed, n, picture in sorted(drawn, key=lambda d: -d[1])}
    font, columns, wide, high = ImageFont.load_default(9), 8, 112, 138
    shown = list(zip(chosen, prompts))[:48]
    sheet = Image.new("RGB", (columns * wide, -(-len(shown) // columns) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for k, (n, prompt) in enumerate(shown):
        x, y = k % columns * wide, k // columns * high
        sheet.paste(Image.fromarray(first[n]).resize((96, 96), Image.BICUBIC), (x + 8, y + 6))
        lines, line = [], ""
        for word in prompt.split():
            if pen.textlength(f"{line} {word}", font=font) > wide - 6:
                lines, line = [*lines, line], word
            else:
                line = f"{line} {word}".strip()
        for j, text in enumerate([*lines, line]):
            pen.text((x + wide / 2, y + 104 + 9 * j), text, fill="black", font=font, anchor="ma")
    sheet.quantize(256).save(args.sheet, optimize=True)
