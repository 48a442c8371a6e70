"""Trainings of transformers' Trainer with PEFT that go wrong in known ways: writes doctor/ beside this file.

A random Llama of two layers learns eight random sequences. `overfit`: held-out sequences of the same
kind cannot get better, so their loss rises while the training loss falls. `diverged`: the same at a
learning rate of 30. `small_scale`: alpha 0.05 at rank 8 and a rate of 10^-5. Each folder holds the
state and the adapter of the last checkpoint.

Needs: pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 accelerate==1.15.0
Run:   python doctor.py
"""

import shutil
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

HERE = Path(__file__).parent / "doctor"
CASES = {
    "overfit": {"learning_rate": 1e-2, "lora_alpha": 16},
    "diverged": {"learning_rate": 30.0, "lora_alpha": 16},
    "small_scale": {"learning_rate": 1e-5, "lora_alpha": 0.05},
}


def sequences(count, seed):
    draws = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 64, (count, 24), generator=draws)
    return [{"input_ids": row, "labels": row} for row in rows]


def train(name, learning_rate, lora_alpha):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=32, initializer_range=0.2,
    )
    lora = LoraConfig(r=8, lora_alpha=lora_alpha, target_modules="all-linear")
    model = get_peft_model(LlamaForCausalLM(config), lora)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch, learning_rate=learning_rate, max_steps=80, logging_steps=1,
            per_device_train_batch_size=4, eval_strategy="steps", eval_steps=8, save_steps=80,
            lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[], seed=0, use_cpu=True,
            logging_nan_inf_filter=False,
        )
        Trainer(
            model, arguments, train_dataset=sequences(8, 1), eval_dataset=sequences(8, 2)
        ).train()
        folder = HERE / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("trainer_state.json", "adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(Path(scratch) / "checkpoint-80" / file, folder / file)


if __name__ == "__main__":
    torch.set_num_threads(1)
    shutil.rmtree(HERE, ignore_errors=True)
    for name, settings in CASES.items():
        train(name, **settings)
