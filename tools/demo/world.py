"""Pictures and captions of the world, drawn by `cargo run --example demo_world`."""
import json
import subprocess
from pathlib import Path

import numpy as np
import torch

SIDE = 64
STYLE = "striped"


class World:
    """The program that draws and checks, and the folder where what it drew is kept."""

    def __init__(self, program, folder):
        self.program, self.folder = str(program), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        listed = self.folder / "captions.json"
        if not listed.exists():
            subprocess.run([self.program, "captions", listed], check=True)
        self.scenes = json.loads(listed.read_text())

    def draw(self, count, seed, kind="plain", of="train"):
        """(count, 64, 64, 3) u8, and the scenes' numbers."""
        raw = self.folder / f"{kind}-{of}-{seed}-{count}.raw"
        numbers = raw.with_suffix(".json")
        if not numbers.exists():
            command = [self.program, "draw", "--count", str(count), "--seed", str(seed)]
            subprocess.run([*command, "--kind", kind, "--of", of, raw, numbers], check=True)
        pictures = np.fromfile(raw, np.uint8).reshape(count, SIDE, SIDE, 3)
        return pictures, np.array(json.loads(numbers.read_text()))

    def check(self, pictures, numbers):
        """What of its scene each picture shows."""
        raw = self.folder / "checked.raw"
        np.ascontiguousarray(pictures, np.uint8).tofile(raw)
        listed = raw.with_suffix(".json")
        listed.write_text(json.dumps([int(number) for number in numbers]))
        done = subprocess.run([self.program, "check", raw, listed], check=True, capture_output=True)
        return json.loads(done.stdout)

    def rates(self, pictures, numbers):
        """Share of pictures that show their scene's shape, colours and so on."""
        seen = self.check(pictures, numbers)
        rates = {key: float(np.mean([s[key] for s in seen])) for key in ("shape", "colour", "background", "size", "place")}
        rates["all three"] = float(np.mean([s["shape"] and s["colour"] and s["background"] for s in seen]))
        return rates


def to_tensor(pictures):
    """u8 pictures as (rows, 3, 64, 64) from -1 to 1."""
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    return (x.float() / 127.5 - 1).contiguous()


def to_pictures(x):
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()


def sheet(pictures, columns, path, scale=1):
    """Writes pictures side by side."""
    from PIL import Image

    rows = -(-len(pictures) // columns)
    out = np.full((rows * (SIDE + 2), columns * (SIDE + 2), 3), 128, np.uint8)
    for k, picture in enumerate(pictures):
        y, x = (k // columns) * (SIDE + 2), (k % columns) * (SIDE + 2)
        out[y : y + SIDE, x : x + SIDE] = picture
    image = Image.fromarray(out)
    image.resize((image.width * scale, image.height * scale), Image.NEAREST).save(path)
