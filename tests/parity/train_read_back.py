"""Do the peers read the adapters that lora-eval trains? A check run by hand, with the environment of make_fixtures.py:

    python tests/parity/train_read_back.py target/release/lora-eval --base BASE ADAPTER [ADAPTER …]

BASE is a transformers folder with its tokenizer, or one of diffusion/sd1, diffusion/sd2, diffusion/sdxl; an ADAPTER is a
PEFT folder, a kohya file or a diffusers file. PEFT or diffusers load it and

- merge it: all weights are those that `lora-eval merge` writes, to a share of 1e-5 of a tensor's largest value;
- every layer that it has changes its weight;
- compute with it: each token that `lora-eval generate` chooses has the peer's largest logit (up to 1e-3), each value of
  its picture is that of diffusers' pipeline (up to 2 of 255).

Prints a table; exits 1 when a check fails.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import read_back
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from PIL import Image
from read_back import LIMIT, Program, Report, load_renamed, worst
from tiny_bases import components_of, pipeline_state
from transformers import AutoModelForCausalLM, AutoTokenizer

import diffusion_models
import peers

PROMPT, NEGATIVE = "a red star on a green background, long hair", "lowres, blurry"
TEXT, NEW_TOKENS = "What is the river?", 24
SEED, STEPS, GUIDANCE = 7, 20, 7.5
NEAR, LEVELS = 1e-3, 2


def main():
    parser = argparse.ArgumentParser(description="Do the peers read the adapters that lora-eval trains?")
    parser.add_argument("binary", help="the lora-eval program")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("adapters", type=Path, nargs="+")
    options = parser.parse_args()
    read_back.diffusers.utils.logging.disable_progress_bar()
    read_back.transformers.utils.logging.disable_progress_bar()
    report = Report(None)
    kind = Pictures if (options.base / "model_index.json").exists() else Texts
    with tempfile.TemporaryDirectory() as work:
        program = Program(options.binary, Path(work))
        for adapter in options.adapters:
            peer = kind(program, options.base.resolve(), adapter.resolve())
            report.check(f"{adapter.name} merged", peer.merged)
            report.check(f"{adapter.name} changes every layer it has", peer.changes)
            report.check(f"{adapter.name} in use", peer.in_use)
    print(f"{len(report.rows) - report.failed} of {len(report.rows)} good")
    sys.exit(1 if report.failed else 0)


def unchanged(models):
    """The share of LoRA layers whose change is zero or not finite; no layer at all is a failure."""
    layers = [m for model in models for m in model.modules() if isinstance(m, LoraLayer)]
    changes = [layer.get_delta_weight(name) for layer in layers for name in layer.active_adapters]
    assert changes, "the peer found no layer"
    return sum(not 0 < change.abs().max().item() < float("inf") for change in changes) / len(changes)


class Texts:
    """A language model: PEFT."""

    def __init__(self, program, base, adapter):
        self.program, self.base, self.adapter = program, base, adapter

    def model(self):
        return PeftModel.from_pretrained(self.plain(self.base), self.adapter).eval()

    def plain(self, folder):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def merged(self):
        out = self.program("merge", "--base", self.base, "--lora", f"{self.adapter}:1", "--out", "OUT")
        return worst(self.plain(out).state_dict(), self.model().merge_and_unload().state_dict()), LIMIT

    def changes(self):
        return unchanged([self.model()]), 0.0

    @torch.no_grad()
    def in_use(self):
        given = AutoTokenizer.from_pretrained(self.base)(TEXT).input_ids
        words = ["generate", TEXT, "--base", self.base, "--lora", f"{self.adapter}:1", "--max-new-tokens", NEW_TOKENS, "--json"]
        done = subprocess.run([self.program.binary, *map(str, words)], capture_output=True, text=True, check=True)
        chosen = json.loads(done.stdout)["tokens"]
        assert chosen, "no token was generated"
        logits = self.model()(input_ids=torch.tensor([given + chosen])).logits[0, len(given) - 1 : -1]
        short = logits.max(1).values - logits.gather(1, torch.tensor(chosen)[:, None])[:, 0]
        return short.max().item(), NEAR


class Pictures:
    """Stable Diffusion: diffusers' own loader, whatever the format."""

    def __init__(self, program, base, adapter):
        assert base.name in diffusion_models.FAMILIES, f"{base}: a folder of diffusion/ is wanted"
        self.program, self.base, self.adapter, self.family = program, base, adapter, base.name

    def parts(self, pipe):
        return [getattr(pipe, name) for name in components_of(self.family) if name != "vae"]

    def loaded(self):
        pipe = diffusion_models.load_pipeline(self.base.parent, self.family)
        pipe.load_lora_weights(self.adapter.parent, weight_name=self.adapter.name, adapter_name="a")
        return pipe

    def merged(self):
        out = self.program("merge", "--base", self.base, "--lora", f"{self.adapter}:1", "--out", "OUT")
        got = pipeline_state(load_renamed(out, self.family), self.family)
        want = peers.diffusers_fused(self.base.parent, self.family, [(self.adapter, 1.0)])
        flat = ({f"{n}/{k}": v for n, state in side.items() for k, v in state.items()} for side in (got, want))
        return worst(*flat), LIMIT

    def changes(self):
        return unchanged(self.parts(self.loaded())), 0.0

    def in_use(self):
        settings = {"seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "width": 64, "height": 64, "negative": NEGATIVE}
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        out = self.program(
            "generate", PROMPT, "--base", self.base, "--lora", f"{self.adapter}:1", *words, "--out", "OUT.png"
        )
        want = self.loaded()(
            PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=GUIDANCE, width=64, height=64,
            generator=torch.Generator("cpu").manual_seed(SEED), output_type="np",
        ).images[0]  # fmt: skip
        got = np.asarray(Image.open(out).convert("RGB"), np.float64)
        return float(np.abs(got - (255 * want).round()).max()), LEVELS


if __name__ == "__main__":
    main()
