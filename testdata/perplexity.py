# python3 testdata/perplexity.py > testdata/perplexity.json      (torch 2.13.0, transformers 4.57.6)
#
# The mean negative log-likelihood of n ids under each of testdata/models, by transformers in float32 with a float64 softmax: what
# model(ids, labels=ids).loss is to seven digits. Lengths lie below and beyond the row tiles that the engine computes in.
import json, pathlib, torch
from transformers import AutoModelForCausalLM

table = {}
for path in sorted(pathlib.Path(__file__).parent.glob("models/*")):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    for n in (130, 2049, 4096):
        ids = torch.tensor([(i * i // 7 + 31 * i) % model.config.vocab_size for i in range(n)])
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1].double()
        table.setdefault(path.name, {})[n] = torch.nn.functional.cross_entropy(logits, ids[1:]).item()
print(json.dumps(table, indent=1))
