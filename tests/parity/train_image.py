"""diffusers' training of denoisers, for the trainer's parity: writes train/image.json and what it needs beside it.

    python tests/parity/train_image.py

LoRA (kohya's set of layers) on the tiny pipelines of diffusion/, on the pictures and captions of train/pictures, which this
script makes too. Random numbers are those of train_random.py. Each run is made three times: f32 in whole batches, f32 in
batches of one that are accumulated, and in f64; `rounding` is how far the first two lie from the last. train/README.md says
what the numbers are. Needs torch, diffusers, transformers, peft, accelerate and pillow (versions: see the file); minutes.
"""

import shutil
import sys

sys.dont_write_bytecode = True

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import _collate_lora_metadata, compute_snr
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

import train_common as common
from diffusion_adapters import sort_metadata
from diffusion_models import FAMILIES, load_pipeline
from diffusion_outputs import encoders_of, token_ids
from train_common import FOLDER, HERE, SEED, STEPS
from train_random import Random, steps_of

RATE, TEXT_RATE, RANK, ALPHA = 1e-3, 5e-4, 4, 2
LAYERS = {  # kohya's: linear layers and 1x1 convolutions of the transformers
    "unet": ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"],
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
}
WIDE = 3  # the picture of 96x64; the others have 64x64
CAPTIONS = [
    "a photo of a cat", "a painting of a house on a hill", "a red star on a green background, striped style",
    "a castle above the clouds in the morning light, wide angle", "1girl, solo, long hair, blue eyes, smile",
    "a portrait of an old man with a red hat", "city street at night, rain, cinematic lighting", "a blue circle",
]  # fmt: skip
DEFAULTS = {
    "batch": 2, "text_encoder": False, "init": "kaiming", "min_snr_gamma": None, "noise_offset": 0.0,
    "class_examples": [], "prior_weight": 1.0, "max_grad_norm": 1.0, "adapter": None,
}  # fmt: skip
RUNS = {
    "sd1": {"base": "sd1"},
    "sd1-text-encoder": {"base": "sd1", "text_encoder": True, "min_snr_gamma": 5.0, "batch": 3, "adapter": True},
    "sd1-prior": {"base": "sd1", "class_examples": [1, 4, 7], "prior_weight": 0.5, "max_grad_norm": 0.1},
    "sd2": {"base": "sd2", "init": "gaussian"},
    "sd2-offset": {"base": "sd2", "min_snr_gamma": 5.0, "noise_offset": 0.1},
    "sdxl": {"base": "sdxl", "adapter": True},
}


def main():
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    make_pictures()
    make_moments()
    report = {
        "made_by": "tests/parity/train_image.py",
        "command": "python tests/parity/train_image.py",
        "versions": common.versions("diffusers", "transformers", "pillow"),
        "seed": SEED, "steps": STEPS, "rank": RANK, "alpha": ALPHA, "learning_rate": RATE, "text_encoder_lr": TEXT_RATE,
        "weight_decay": common.WEIGHT_DECAY, "examples": len(CAPTIONS),
        "runs": {name: make_run(name, DEFAULTS | run) for name, run in RUNS.items()},
    }  # fmt: skip
    common.write_report(FOLDER / "image.json", report)


# ---------------------------------------------------------------- examples


def make_pictures():
    """Blocks of random colours."""
    folder = FOLDER / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index, caption in enumerate(CAPTIONS):
        width, height = (96 if index == WIDE else 64), 64
        blocks = Random(SEED, "pictures").at(index, 0, 0).uniforms(width * height * 3 // 64)
        blocks = (256 * blocks).astype(np.uint8).reshape(height // 8, width // 8, 3)
        Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(caption + "\n", encoding="utf-8")


def make_moments():
    """latents.safetensors: mean and logarithm of the variance that each family's autoencoder gives for each picture."""
    out = {}
    for family in FAMILIES:
        vae = load_pipeline(HERE / "diffusion", family).vae
        for index in range(len(CAPTIONS)):
            pixels = np.asarray(Image.open(FOLDER / "pictures" / f"{index}.png"), np.float32) / 127.5 - 1.0
            with torch.no_grad():
                posterior = vae.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None]).latent_dist
            out[f"{family}.{index}.mean"] = posterior.mean[0].contiguous()
            out[f"{family}.{index}.logvar"] = posterior.logvar[0].contiguous()
    save_file(out, FOLDER / "latents.safetensors")
    (FOLDER / "latents.safetensors").chmod(0o644)


# ---------------------------------------------------------------- a run


def make_run(name, run):
    order = steps_of(SEED, len(CAPTIONS), run["batch"], STEPS)
    variants = {
        f"batches of {run['batch']}": (run["batch"], torch.float32),
        "batches of 1": (1, torch.float32),
        "exact": (run["batch"], torch.float64),
    }
    results = {}
    for variant, (batch, dtype) in variants.items():
        training = Training(run, dtype)
        results[variant] = common.train(
            training.layers, training.groups(), run["max_grad_norm"],
            lambda optimizer: get_scheduler("constant", optimizer),
            lambda step: training.micro_losses(order[step], batch),
        )  # fmt: skip
        if len(results) == 1 and run["adapter"]:
            training.save(FOLDER / f"image-{name}.safetensors")
    peer, exact = next(iter(results.values())), results["exact"]
    return run | {
        "base": f"diffusion/{run['base']}",
        "adapter": f"image-{name}.safetensors" if run["adapter"] else None,
        "order": [[example for example, _ in step] for step in order],
        "timesteps": [[timestep_of(*sample) for sample in step] for step in order],
        "losses": peer["losses"], "grad_norms": peer["grad_norms"],
        "exact_losses": exact["losses"], "exact_grad_norms": exact["grad_norms"],
        "untrained_losses": peer["untrained"],
        "rounding": common.rounding(results),
        "norms": peer["norms"],
    }  # fmt: skip


def timestep_of(example, visit):
    return Random(SEED, "timestep").at(example, visit, 0).below(1000)


class Training:
    """The adapters of one run on their base, in one type."""

    def __init__(self, run, dtype):
        self.run, self.dtype, self.family = run, dtype, run["base"]
        self.pipe = load_pipeline(HERE / "diffusion", self.family).to(dtype)
        self.scheduler = DDPMScheduler.from_config(self.pipe.scheduler.config)
        if dtype == torch.float64:  # diffusers computes its table in f32
            sigmas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=dtype)
            self.scheduler.alphas_cumprod = torch.cumprod(1 - sigmas**2, 0)
        self.moments = load_file(FOLDER / "latents.safetensors")
        for name in common.COMPONENTS:
            if hasattr(self.pipe, name):
                getattr(self.pipe, name).requires_grad_(False)
        names = ["unet", "text_encoder"] if run["text_encoder"] else ["unet"]
        self.trained = {name: getattr(self.pipe, name) for name in names}
        for name, model in self.trained.items():
            inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LAYERS[name]), model)
        self.layers = common.layers_of(self.trained)
        common.begin(self.layers, run["init"], dtype)

    def groups(self):
        rates = {"unet": RATE, "text_encoder": TEXT_RATE}
        models = self.trained.items()
        return [{"params": [p for p in m.parameters() if p.requires_grad], "lr": rates[n]} for n, m in models]

    def micro_losses(self, samples, batch):
        """The sum of a batch's losses over the number of samples of the step. Pictures of one size go through the
        denoiser together."""
        for at in range(0, len(samples), batch):
            sizes = {}
            for example, visit in samples[at : at + batch]:
                sizes.setdefault(self.moments[f"{self.family}.{example}.mean"].shape, []).append((example, visit))
            yield sum(self.losses(same).sum() for same in sizes.values()) / len(samples)

    def losses(self, samples):
        """The weighted loss of each sample."""
        latents = torch.stack([self.latent(*sample) for sample in samples])
        noise = torch.stack([self.noise(*sample) for sample in samples])
        steps = torch.tensor([timestep_of(*sample) for sample in samples])
        noisy = self.scheduler.add_noise(latents, noise, steps)
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(latents, noise, steps) if velocity else noise
        context, added = self.conditions([example for example, _ in samples], latents.shape)
        output = self.pipe.unet(noisy, steps, context, added_cond_kwargs=added).sample
        losses = (output - target).pow(2).mean((1, 2, 3))
        if (gamma := self.run["min_snr_gamma"]) is not None:
            snr = compute_snr(self.scheduler, steps).to(self.dtype)
            losses = losses * snr.clamp(max=gamma) / (snr + 1 if velocity else snr)
        classes = [example in self.run["class_examples"] for example, _ in samples]
        return losses * torch.where(torch.tensor(classes), self.run["prior_weight"], 1.0)

    def latent(self, example, visit):
        mean, logvar = (self.moments[f"{self.family}.{example}.{k}"].to(self.dtype) for k in ("mean", "logvar"))
        noise = self.normal("latent", example, visit, 0, mean.shape)
        return (mean + torch.exp(0.5 * logvar) * noise) * self.pipe.vae.config.scaling_factor

    def noise(self, example, visit):
        shape = self.moments[f"{self.family}.{example}.mean"].shape
        offset = self.normal("noise", example, visit, 1, (shape[0], 1, 1))
        return self.normal("noise", example, visit, 0, shape) + self.run["noise_offset"] * offset

    def normal(self, purpose, example, visit, lane, shape):
        values = Random(SEED, purpose).at(example, visit, lane).normals(int(np.prod(shape)))
        return torch.from_numpy(values.astype(np.float32).reshape(shape)).to(self.dtype)

    def conditions(self, examples, shape):
        """SD 1 and 2: the encoder's last layer with its norm. SDXL: both encoders' last layer but one, the second's
        pooled output, and the sizes of a picture that was not cropped."""
        outputs = []
        for name, tokenizer in encoders_of(self.pipe, self.family):
            ids = token_ids(tokenizer, [CAPTIONS[example] for example in examples])
            outputs.append(getattr(self.pipe, name)(ids, output_hidden_states=True))
        if self.family != "sdxl":
            return outputs[0].last_hidden_state, None
        size = [8.0 * side for side in shape[2:]]
        sizes = torch.tensor([size + [0.0, 0.0] + size] * len(examples), dtype=self.dtype)
        context = torch.cat([output.hidden_states[-2] for output in outputs], 2)
        return context, {"text_embeds": outputs[1].text_embeds, "time_ids": sizes}

    def save(self, path):
        """In diffusers' format. Not through its `convert_state_dict_to_diffusers`, which renames attention's layers only, so
        that its loader would leave them out."""
        state = {f"{name}_lora_layers": get_peft_model_state_dict(model) for name, model in self.trained.items()}
        metadata = _collate_lora_metadata(self.trained)
        for settings in metadata.values():
            settings["target_modules"] = sorted(settings["target_modules"])
        type(self.pipe).save_lora_weights(path.parent, weight_name=path.name, **state, **metadata)
        sort_metadata(path)
        path.chmod(0o644)


if __name__ == "__main__":
    main()
