"""BLEU, KL divergence and perplexity of a small run, by sacreBLEU and by transformers with PEFT.

    python check.py > check.json        (sacrebleu 2.6.0, torch 2.15, transformers 5.24, peft 0.21.2)

The suite stands in the output; tests/check.rs runs it with the program on the same model and adapter
(decoders/chat) and compares what `check` says of it with these numbers.
"""

import json
import pathlib

import peft
import sacrebleu
import torch
import transformers

HERE = pathlib.Path(__file__).parent / "decoders" / "chat"
NEW = 10
STARTS = [
    "the water", "The river was very long", "the light was", "a stone", "it was the", "and the little",
    "before the", "all of the",
]
ENDS = [
    "and the light was little.", "was very long, and the", "of the water and the", "the river was the light",
    "a little river", "before the light was", "it was very long", "and all the water was",
]

torch.set_num_threads(1)
torch.manual_seed(0)
tokenizer = transformers.AutoTokenizer.from_pretrained(HERE / "model")
model = transformers.AutoModelForCausalLM.from_pretrained(HERE / "model", dtype=torch.float32).eval()
model = peft.PeftModel.from_pretrained(model, HERE / "adapter").eval()

@torch.no_grad()
def greedy(ids):
    ids, made = list(ids), []
    for _ in range(NEW):
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


def reference(prompt, end):
    """Words of what is generated, so that BLEU has something to find, and words that are not."""
    ids = tokenizer(prompt).input_ids
    with model.disable_adapter():
        texts = [greedy(ids)]
    words = " ".join([greedy(ids), *texts]).split(" ")
    return " ".join([w for w in words if w.isascii() and w.isprintable()] + [end])


eos = model.generation_config.eos_token_id
stops = set(eos if isinstance(eos, list) else [eos])
prompts = [
    {"id": f"{group}-{n}", "group": group, "prompt": STARTS[n], "references": [reference(STARTS[n], ENDS[(n + shift) % len(ENDS)])]}
    for group, shift in (("heldout", 0), ("base", 3))
    for n in range(len(STARTS))
]
out = {
    "peer": {"sacrebleu": sacrebleu.__version__, "torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
    "suite": {"strengths": [0, 1], "defaults": {"max_new_tokens": NEW, "temperature": 0}, "prompts": prompts},
    "outputs": {}, "groups": {},
}
for group in ("heldout", "base"):
    own = [p for p in prompts if p["group"] == group]
    sums = {"kl": 0.0, "nll": 0.0, "base_nll": 0.0, "tokens": 0}
    for prompt in own:
        ids = tokenizer(prompt["prompt"]).input_ids
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
print(json.dumps(out, indent=1))
