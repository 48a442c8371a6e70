"""PEFT's training of language models, for the trainer's parity: writes train/text.json and the adapters beside it.

    python tests/parity/train_language.py

LoRA on all linear layers of tiny models, on the rows of train/text.jsonl (prompt and completion; the loss counts the
completion and the end token). Random numbers are those of train_random.py. Each run is made three times: f32 in batches of
four, f32 in batches of one with four accumulated, and in f64; `rounding` is how far the first two lie from the last.
train/README.md says what the numbers are. Needs torch, transformers and peft (versions: see the file); half a minute.
"""

import json
import shutil
import sys
import types

sys.dont_write_bytecode = True

import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

import train_common as common
from train_common import FOLDER, HERE, SEED, STEPS
from train_random import steps_of

sys.path.insert(0, str(HERE / "decoders"))

from build import settle, write_model
from cases import config

RATE, WARMUP, RANK, ALPHA, BATCH = 1e-3, 3, 4, 8, 4
CHAT = "decoders/chat/model"
PROBE = "What is the river?"
DEFAULTS = {
    "schedule": "cosine", "init": "kaiming", "dora": False, "rslora": False, "loraplus_ratio": 1.0, "max_grad_norm": 1.0,
}  # fmt: skip
RUNS = {
    "llama": {"base": CHAT},
    "qwen2": {"base": "train/qwen2", "init": "gaussian", "schedule": "linear", "max_grad_norm": 20.0},
    "llama-dora": {"base": CHAT, "dora": True},
    "llama-rslora-plus": {"base": CHAT, "rslora": True, "loraplus_ratio": 4.0},
}
VARIANTS = {"batches of 4": (BATCH, torch.float32), "batches of 1": (1, torch.float32), "exact": (BATCH, torch.float64)}


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    make_qwen2()
    examples = encode(AutoTokenizer.from_pretrained(HERE / CHAT))
    order = steps_of(SEED, len(examples), BATCH, STEPS)
    report = {
        "made_by": "tests/parity/train_language.py",
        "command": "python tests/parity/train_language.py",
        "versions": common.versions("transformers", "tokenizers"),
        "file": "text.jsonl",
        "seed": SEED, "steps": STEPS, "batch": BATCH, "rank": RANK, "alpha": ALPHA, "learning_rate": RATE,
        "warmup_steps": WARMUP, "weight_decay": common.WEIGHT_DECAY,
        "order": [[example for example, _ in step] for step in order],
        "examples": [{"tokens": ids, "first_trained": first} for ids, first in examples],
        "probe": PROBE,
        "runs": {name: make_run(name, DEFAULTS | run, examples, order) for name, run in RUNS.items()},
    }  # fmt: skip
    common.write_report(FOLDER / "text.json", report)


def make_qwen2():
    """A Qwen2 with biases and tied embeddings, under the tokenizer of decoders/chat."""
    folder = FOLDER / "qwen2"
    shutil.rmtree(folder, ignore_errors=True)
    ends = {"bos_token_id": None, "eos_token_id": 511, "pad_token_id": 509}
    more = {"vocab_size": 512, "tie_word_embeddings": True, "use_sliding_window": False}
    write_model(folder, config("qwen2", "Qwen2ForCausalLM") | ends | more, 1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(HERE / CHAT / name, folder / name)


def encode(tokenizer):
    """(tokens, the first that the loss counts) of each row: prompt and completion are read as one text, a token that
    reaches into the completion belongs to it, and the end token follows."""
    out = []
    for line in (FOLDER / "text.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        got = tokenizer(row["prompt"] + row["completion"], return_offsets_mapping=True)
        first = next(i for i, (_, end) in enumerate(got.offset_mapping) if end > len(row["prompt"]))
        out.append((got.input_ids + [tokenizer.eos_token_id], first))
    return out


def make_run(name, run, examples, order):
    results = {}
    for variant, (batch, dtype) in VARIANTS.items():
        model, layers = attached(run, dtype)
        results[variant] = common.train(
            layers, groups_of(model, run), run["max_grad_norm"],
            lambda optimizer: get_scheduler(run["schedule"], optimizer, WARMUP, STEPS),
            lambda step: micro_losses(model, [examples[i] for i, _ in order[step]], batch),
        )  # fmt: skip
        if variant == "batches of 4":
            save(model, name, run["base"])
            probe = logits_of(model, run)
    peer, exact = results["batches of 4"], results["exact"]
    return run | {
        "adapter": f"text-{name}",
        "modules": [path for _, path, _ in layers],
        "losses": peer["losses"], "grad_norms": peer["grad_norms"], "rates": peer["rates"],
        "exact_losses": exact["losses"], "exact_grad_norms": exact["grad_norms"],
        "untrained_losses": peer["untrained"],
        "rounding": common.rounding(results),
        "probe_logits": probe,
    }  # fmt: skip


def attached(run, dtype):
    model = AutoModelForCausalLM.from_pretrained(HERE / run["base"], dtype=dtype)
    if dtype == torch.float64:
        keep_precision(model)
    settings = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0,
        use_dora=run["dora"], use_rslora=run["rslora"],
    )  # fmt: skip
    model = get_peft_model(model, settings, autocast_adapter_dtype=False).train()
    layers = common.layers_of({"model": model})
    common.begin(layers, run["init"], dtype)
    return model, layers


def keep_precision(model):
    """transformers' RMS norms compute in f32 whatever the model's type is."""

    def forward(norm, x):
        return norm.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(forward, module)


def groups_of(model, run):
    """LoRA+: another rate for B."""
    of_b = [p for name, p in model.named_parameters() if p.requires_grad and "lora_B" in name]
    others = [p for name, p in model.named_parameters() if p.requires_grad and "lora_B" not in name]
    return [{"params": others, "lr": RATE}, {"params": of_b, "lr": RATE * run["loraplus_ratio"]}]


def micro_losses(model, examples, batch):
    """The sum of the trained tokens' losses in a batch over the number of trained tokens in the whole step."""
    trained = sum(len(ids) - first for ids, first in examples)
    for at in range(0, len(examples), batch):
        rows = examples[at : at + batch]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, (tokens, first) in enumerate(rows):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
            labels[row, first : len(tokens)] = ids[row, first : len(tokens)]
        logits = model(input_ids=ids, attention_mask=mask).logits
        yield F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / trained


def save(model, name, base):
    folder = FOLDER / f"text-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = f"tests/parity/{base}"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    settle(folder)


@torch.no_grad()
def logits_of(model, run):
    """Those after the probe's last token, with the trained adapter."""
    ids = AutoTokenizer.from_pretrained(HERE / run["base"])(PROBE, return_tensors="pt").input_ids
    return model.eval()(input_ids=ids).logits[0, -1].tolist()


if __name__ == "__main__":
    main()
