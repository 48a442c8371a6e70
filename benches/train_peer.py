"""Training with PEFT, transformers and diffusers, for benches/train.rs.

    python train_peer.py bases FOLDER
    python train_peer.py text FOLDER/llama THREADS STEPS [checkpointing]
    python train_peer.py image FOLDER/sd15-small THREADS STEPS [checkpointing]

`bases` writes two models with random weights, f32: `llama/` (34 million parameters, the tokenizer of the tests' chat model)
and `sd15-small/`, a diffusers folder whose denoiser is SD 1.5's at two fifths of its width (142 million) beside a small text
encoder and a tiny autoencoder.

The others train LoRA of rank 8 on all linear layers (of the denoiser kohya's set) with AdamW and print one line of JSON:
the median time of a step (forward, backward, clipping, optimizer), `rate` in tokens or pictures a second, the first step's
loss, and the process's largest resident set at the end (`peak`) and before the model was read (`imported`), in bytes. A
first step is not counted. Batches: 8 rows of 256 tokens, all of them learnt; 2 latents of 32x32 with contexts of 77x768. Their
numbers are formulas or those of tests/parity/train_random.py, so that the loss can be compared: token i of row r is
(7 + 13 i + 101 r) mod 8000; purposes `latent`, `noise`, `context` and `timestep` under seed 0, one index a row.

Tried with torch 2.15.0, transformers 5.24.0, diffusers 0.42.1, peft 0.21.2 (Linux).
"""

import json
import os
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

PARITY = Path(__file__).resolve().parent.parent / "tests" / "parity"
sys.path.insert(0, str(PARITY))
sys.dont_write_bytecode = True

import diffusers
import torch
import transformers
from peft import LoraConfig, get_peft_model

from train_random import Random

warnings.filterwarnings("ignore")

RANK, RATE, CLIP = 8, 1e-4, 1.0
VOCABULARY, ROWS, TOKENS = 8000, 8, 256
PICTURES, LATENT, CONTEXT = 2, (4, 32, 32), (77, 768)
DENOISER = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]

# ---------------------------------------------------------------- bases


def bases(folder):
    import diffusion_models as models
    from diffusion_tokenizer import save_tokenizer, write_json

    folder = Path(folder)
    torch.manual_seed(0)
    llama = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(llama).save_pretrained(folder / "llama")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(PARITY / "decoders" / "chat" / "model" / name, folder / "llama" / name)

    unet = diffusers.UNet2DConditionModel(
        sample_size=32, block_out_channels=(128, 256, 512, 512), cross_attention_dim=CONTEXT[1]
    )
    text_config = models.text_config(CONTEXT[1], 2, "quick_gelu")
    text_config.num_attention_heads = 12
    pipe = diffusers.StableDiffusionPipeline(
        unet=unet, vae=models.vae_of("sd1"), text_encoder=transformers.CLIPTextModel(text_config), tokenizer=None,
        scheduler=models.DEFAULTS["sd1"].from_config(models.SCHEDULERS["sd1"]), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    root = folder / "sd15-small"
    pipe.save_pretrained(root)
    save_tokenizer(root / "tokenizer", models.END)
    write_json(root / "scheduler" / "scheduler_config.json", models.SCHEDULERS["sd1"])
    write_json(root / "model_index.json", models.model_index(pipe, "sd1"))


# ---------------------------------------------------------------- training


def text(base, checkpointing):
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    settings = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, settings).train()
    ids = (7 + 13 * torch.arange(TOKENS) + 101 * torch.arange(ROWS)[:, None]) % VOCABULARY
    return model, ROWS * TOKENS, lambda: model(input_ids=ids, labels=ids).loss


def image(base, checkpointing):
    unet = diffusers.UNet2DConditionModel.from_pretrained(base, subfolder="unet", torch_dtype=torch.float32)
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=DENOISER))
    if checkpointing:
        unet.enable_gradient_checkpointing()
    scheduler = diffusers.DDPMScheduler.from_pretrained(base, subfolder="scheduler")
    steps = torch.tensor([Random(0, "timestep").at(row, 0, 0).below(1000) for row in range(PICTURES)])
    latents, noise, context = normal("latent", LATENT), normal("noise", LATENT), normal("context", CONTEXT)

    def loss():
        noisy = scheduler.add_noise(latents, noise, steps)
        return torch.nn.functional.mse_loss(unet(noisy, steps, context).sample, noise)

    return unet.train(), PICTURES, loss


def normal(purpose, shape):
    count = torch.Size(shape).numel()
    rows = [torch.from_numpy(Random(0, purpose).at(row, 0, 0).normals(count)).float() for row in range(PICTURES)]
    return torch.stack(rows).reshape(PICTURES, *shape)


def measure(what, base, threads, steps, checkpointing):
    torch.set_num_threads(threads)
    imported = peak()
    model, count, loss_of = {"text": text, "image": image}[what](base, checkpointing)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    seconds, first = [], None
    for _ in range(steps + 1):
        start = time.perf_counter()
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        first = loss.item() if first is None else first
    median = sorted(seconds[1:])[steps // 2]
    line = {
        "what": what, "threads": threads, "checkpointing": checkpointing, "trained": sum(p.numel() for p in parameters),
        "seconds": median, "rate": count / median, "loss": first, "peak": peak(), "imported": imported,
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    command, path, *rest = sys.argv[1:]
    if command == "bases":
        bases(path)
    else:
        measure(command, path, int(rest[0]), int(rest[1]), rest[2:] == ["checkpointing"])
