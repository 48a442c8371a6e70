"""BLEU, KL divergence and perplexity of a small run, by sacreBLEU and by transformers with PEFT.

    python check.py chat > check.json        (sacrebleu 2.6.0, torch 2.15, transformers 5.24, peft 0.21.2)
    python check.py demo > check_demo.json

`chat` is a model of random weights (decoders/chat); its suite is made here and stands in the output. `demo` is
the demo model with the adapter that comes with the program and the suite of `lora-eval demo`
(examples/demo/text-suite.yaml). tests/check.rs runs both with the program and compares what `check` says of
them with these numbers.
"""

import json
import pathlib
import sys

import peft
import sacrebleu
import torch
import transformers
import yaml

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
FOLDERS = {
    "chat": (HERE / "decoders/chat/model", HERE / "decoders/chat/adapter"),
    "demo": (ROOT / "assets/demo/text", ROOT / "assets/demo/adapters/house-style"),
}
STARTS = [
    "the water", "The river was very long", "the light was", "a stone", "it was the", "and the little",
    "before the", "all of the",
]
ENDS = [
    "and the light was little.", "was very long, and the", "of the water and the", "the river was the light",
    "a little river", "before the light was", "it was very long", "and all the water was",
]

KIND = sys.argv[1]
torch.set_num_threads(1)
torch.manual_seed(0)
folder, adapter = FOLDERS[KIND]
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
model = peft.PeftModel.from_pretrained(model, adapter).eval()


@torch.no_grad()
def greedy(ids):
    ids, made = list(ids), []
    for _ in range(suite["defaults"]["max_new_tokens"]):
        logits = model(torch.tensor([ids])).logits[0, -1].float()
        token = int(logits.argmax())
        if token in stops:
            break
        made.append(token)
        ids.append(token)
    return tokenizer.decode(made, skip_special_tokens=True)


@torch.no_grad()
def along(ids, target):
    logits = model(torch.tensor([ids + target])).logits[0].float()
    return torch.log_softmax(logits[len(ids) - 1 : len(ids) - 1 + len(target)], -1).double()


def tokens(prompt):
    if not suite["defaults"].get("chat"):
        return tokenizer(prompt).input_ids
    messages = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False).input_ids


def reference(prompt, end):
    """Words of what is generated, so that BLEU has something to find, and words that are not."""
    ids = tokens(prompt)
    with model.disable_adapter():
        texts = [greedy(ids)]
    words = " ".join([greedy(ids), *texts]).split(" ")
    return " ".join([w for w in words if w.isascii() and w.isprintable()] + [end])


eos = model.generation_config.eos_token_id
stops = set(eos if isinstance(eos, list) else [eos])
if KIND == "demo":
    suite = yaml.safe_load((ROOT / "examples/demo/text-suite.yaml").read_text())
    suite["strengths"] = [0, 1]
    prompts = suite["prompts"]
else:
    suite = {"strengths": [0, 1], "defaults": {"max_new_tokens": 10, "temperature": 0}}
    prompts = [
        {
            "id": f"{group}-{n}",
            "group": group,
            "prompt": STARTS[n],
            "references": [reference(STARTS[n], ENDS[(n + shift) % len(ENDS)])],
        }
        for group, shift in (("heldout", 0), ("base", 3))
        for n in range(len(STARTS))
    ]
    suite["prompts"] = prompts
out = {
    "peer": {
        "sacrebleu": sacrebleu.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    },
    "suite": suite,
    "outputs": {},
    "groups": {},
}
for group in ("heldout", "base"):
    own = [p for p in prompts if p["group"] == group]
    sums = {"kl": 0.0, "nll": 0.0, "base_nll": 0.0, "tokens": 0}
    for prompt in own:
        ids = tokens(prompt["prompt"])
        target = tokenizer(prompt["references"][0], add_special_tokens=False).input_ids
        with model.disable_adapter():
            base_text, base = greedy(ids), along(ids, target)
        text, adapted = greedy(ids), along(ids, target)
        out["outputs"][prompt["id"]] = [base_text, text]
        picked = torch.tensor(target)[:, None]
        sums["kl"] += float((base.exp() * (base - adapted)).sum())
        sums["nll"] -= float(adapted.gather(1, picked).sum())
        sums["base_nll"] -= float(base.gather(1, picked).sum())
        sums["tokens"] += len(target)
    texts = [[out["outputs"][p["id"]][n] for p in own] for n in (0, 1)]
    references = [[p["references"][0] for p in own]]
    bleu = sacrebleu.BLEU()
    n = sums["tokens"]
    out["groups"][group] = {
        "bleu": [bleu.corpus_score(t, references).score for t in texts],
        "chrf": [sacrebleu.CHRF().corpus_score(t, references).score for t in texts],
        "base-bleu": sacrebleu.BLEU(effective_order=True).corpus_score(texts[1], [texts[0]]).score,
        "kl": sums["kl"] / n,
        "perplexity": [float(torch.tensor(sums[k] / n, dtype=torch.float64).exp()) for k in ("base_nll", "nll")],
    }
print(json.dumps(out, indent=1, ensure_ascii=KIND == "chat"))
