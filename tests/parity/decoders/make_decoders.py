"""Makes the decoder parity fixtures: tiny random models, adapters, expected values.

Made with torch 2.15.0 (CPU), transformers 5.24.0, peft 0.21.2, tokenizers 0.23.3,
gguf 0.19.0. Everything comes from fixed seeds. To make all of it again, or some cases:

    python tests/parity/decoders/make_decoders.py [CASE ...]

`gguf` is not among the peers' packages: a virtual environment over them with
`pip install gguf==0.19.0` is enough. Cases named adapter-* use the model of `llama`,
and phi3-apart that of `phi3`, so those two must exist.

Each case is a folder: `model/` (or a .gguf, or another case's model, as "model" in
expected.json says), `adapter/` or `adapter-NAME/`, and

  expected.json         prompts, strengths, how the reference was run, the smallest
                        top-1/top-2 gap along all greedy rows (min_gap), how far the peer's
                        own logits move between a cached and an uncached run (peer_noise),
                        and how far when a feature is switched off (moved_when_off)
  expected.safetensors  logits.p{P}.s{S}: f32 (length, vocabulary);
                        greedy.p{P}.s{S}: i64 (64)

P counts prompts and S strengths. Run verify.py to check the files against the peers.
"""

import sys

from build import attempt_folder, search
from cases import CORE, KINDS, ROPE
from chat import CHAT, attempt_chat
from gguf_files import GGUF, attempt_gguf


def main(wanted):
    jobs = [(case, attempt_folder) for case in CORE + ROPE + KINDS]
    jobs += [(case, attempt_gguf) for case in GGUF] + [(CHAT, attempt_chat)]
    for case, attempt in jobs:
        if not wanted or case["name"] in wanted or case.get("group") in wanted:
            search(case, attempt)


if __name__ == "__main__":
    main(sys.argv[1:])
