"""diffusers' times and results, for benches/diffusion.rs.

    python diffusion_peer.py BASE CONFIG LORA THREADS INPUTS OUTPUTS

BASE is a single file, CONFIG the folder of its configuration. A command a line on standard input, one line of JSON on
standard output for each:

- `load float32` or `load float16`: the whole pipeline but the tokenizers from the file; the last one is kept
- `load unet`: the denoiser alone, in f32
- `step`, `decode`: one pass of the denoiser and of the autoencoder's decoder; `adapter`: attaches LORA with PEFT
- `sweep`: a step at each of the strengths, one after another; setting a strength is not counted
- `save`: writes all results to OUTPUTS and tells the peak of memory

{"seconds": s} is what was timed, {"peak": bytes} the process's largest resident set. Tried with torch 2.15.0, diffusers
0.42.1, peft 0.21.2.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import torch
import transformers
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

base, config, lora, threads, inputs, outputs = sys.argv[1:]
torch.set_num_threads(int(threads))
for library in (diffusers, transformers):
    library.utils.logging.disable_progress_bar()
    library.utils.logging.set_verbosity_error()


class Peer:
    def __init__(self):
        self.inputs = load_file(inputs)
        self.outputs = {}

    def load(self, what):
        self.pipe = self.unet = None
        start = time.perf_counter()
        if what == "unet":
            self.unet = UNet2DConditionModel.from_single_file(
                base, config=config, subfolder="unet", torch_dtype=torch.float32
            )
        else:
            self.pipe = StableDiffusionPipeline.from_single_file(
                base, config=config, torch_dtype=getattr(torch, what), tokenizer=None, safety_checker=None
            )
            self.unet = self.pipe.unet
        return time.perf_counter() - start

    def forward(self, name):
        given = self.inputs
        added = {k: given[k] for k in ("text_embeds", "time_ids") if k in given}
        start = time.perf_counter()
        output = self.unet(given["latents"], given["timesteps"], given["tokens"], added_cond_kwargs=added).sample
        seconds = time.perf_counter() - start
        self.outputs[name] = output
        return seconds

    def step(self):
        return self.forward("step")

    def decode(self):
        vae = self.pipe.vae
        latents = self.inputs["latents"][:1] / vae.config.scaling_factor
        start = time.perf_counter()
        self.outputs["decode"] = vae.decode(latents).sample
        return time.perf_counter() - start

    def adapter(self):
        start = time.perf_counter()
        self.pipe.load_lora_weights(Path(lora).parent, weight_name=Path(lora).name, adapter_name="bench")
        return time.perf_counter() - start

    def sweep(self):
        seconds = 0.0
        for index, strength in enumerate(self.inputs["strengths"].tolist()):
            self.pipe.set_adapters("bench", adapter_weights=strength)
            seconds += self.forward(f"sweep.{index}")
        return seconds

    def save(self):
        save_file({name: tensor.contiguous() for name, tensor in self.outputs.items()}, outputs)
        status = Path("/proc/self/status").read_text().split()
        return 1024 * int(status[status.index("VmHWM:") + 1])


peer = Peer()
with torch.inference_mode():
    for line in sys.stdin:
        command, *arguments = line.split()
        value = getattr(peer, command)(*arguments)
        print(json.dumps({"peak" if command == "save" else "seconds": value}), flush=True)
