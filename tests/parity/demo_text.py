"""What transformers' greedy search writes after the prompts of examples/demo/text-suite.yaml.

    python tests/parity/demo_text.py          # writes demo_text.json beside this file

Made with torch 2.15 and transformers 5.24 in f32.
"""

import json
from pathlib import Path

import torch
import transformers
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BASE = ROOT / "assets/demo/text"


def main():
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE)
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    suite = yaml.safe_load((ROOT / "examples/demo/text-suite.yaml").read_text())
    outputs = {}
    for prompt in suite["prompts"]:
        messages = [{"role": "user", "content": prompt["prompt"]}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).input_ids
        with torch.inference_mode():
            written = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=suite["defaults"]["max_new_tokens"],
            )
        outputs[prompt["id"]] = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    document = {"made_with": versions, "outputs": outputs}
    (HERE / "demo_text.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
