"""The folder in diffusers' StableDiffusionPipeline: draws a few captions into one PNG."""
import sys

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from world import sheet

torch.set_num_threads(1)
folder, out, *prompts = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
pipeline.set_progress_bar_config(disable=True)
drawn = []
for seed, prompt in enumerate(prompts, 1):
    generator = torch.Generator().manual_seed(seed)
    drawn.append(pipeline(prompt, num_inference_steps=25, guidance_scale=2.0, generator=generator, output_type="np").images[0])
sheet([(255 * picture).round().astype(np.uint8) for picture in drawn], 8, out)
