"""Which tokens transformers' logits processors keep, and at which probabilities.

    python tests/parity/sampling/make_sampling.py

Writes sampling.json beside this script: random logits, settings, and for each pair the tokens that
can be drawn with their probabilities after repetition penalty, temperature, top-k, top-p and min-p,
in the order in which transformers applies them. Made with transformers 5.24.0, torch 2.15.0.
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

SETTINGS = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.9},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 1000},
    {"top_p": 0.1},
    {"top_p": 0.5},
    {"top_p": 0.9, "temperature": 0.6},
    {"top_p": 0.999},
    {"min_p": 0.05},
    {"min_p": 0.5, "temperature": 1.5},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7, "temperature": 0.9},
    {"temperature": 0.8, "top_k": 12, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.1},
    {"temperature": 1.2, "top_k": 3, "top_p": 0.95, "repetition_penalty": 1.5},
]


def processors(settings):
    """In the order of `GenerationMixin._get_logits_processor`."""
    made = []
    if "repetition_penalty" in settings:
        made.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    if "temperature" in settings:
        made.append(TemperatureLogitsWarper(settings["temperature"]))
    if "top_k" in settings:
        made.append(TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        made.append(TopPLogitsWarper(settings["top_p"]))
    if "min_p" in settings:
        made.append(MinPLogitsWarper(settings["min_p"]))
    return LogitsProcessorList(made)


def main():
    torch.manual_seed(5)
    cases = []
    for row in range(6):
        logits = torch.randn(40) * (0.5, 2.0, 6.0)[row % 3]
        if row == 4:
            logits = logits.round()  # ties
        context = torch.randint(0, 40, (1, 9))
        for settings in SETTINGS:
            if row == 4 and "top_p" in settings:
                continue  # which of several equal tokens top-p keeps depends on torch's sort
            scores = processors(settings)(context, logits[None].clone())[0]
            p = torch.softmax(scores.double(), -1)
            kept = {int(i): float(p[i]) for i in torch.nonzero(p > 0).flatten()}
            cases.append({
                "logits": row,
                "context": context[0].tolist(),
                "settings": settings,
                "kept": [[i, kept[i]] for i in sorted(kept)],
            })
        next(c for c in cases if c["logits"] == row)["values"] = [float(x) for x in logits]
    out = {"peer": {"transformers": transformers.__version__, "torch": torch.__version__}, "cases": cases}
    path = Path(__file__).parent / "sampling.json"
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
