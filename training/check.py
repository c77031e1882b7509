"""Checks a checkpoint against transformers: equal logits in f32, equal prompt tokens, one generated answer."""
import argparse

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import data
from evaluate import chat_prompt
from model import Llama


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="../demo/model")
    parser.add_argument("--document", default="../demo/document.txt")
    parser.add_argument("--words", default="../eval/words")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    theirs = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    ours = Llama.load(args.model).eval()
    text = " ".join(open(args.document).read().split()[:1500])
    message, key, value = data.prompt(data.Words(args.words), np.random.default_rng(0), data.sentences(text), 4)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": message}], add_generation_prompt=True,
                                        return_tensors="pt")
    plain = tokenizer(chat_prompt(message), add_special_tokens=False).input_ids
    assert ids[0].tolist() == plain, "chat template"
    assert tokenizer.decode(plain) == chat_prompt(message), "decoding"
    assert tokenizer("a").input_ids[0] == tokenizer.bos_token_id, "begin token"
    with torch.no_grad():
        a = theirs(ids).logits
        b = ours.logits(ours(ids, torch.arange(ids.shape[1])[None]))
        said = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40)[0, ids.shape[1]:]
    difference = (a - b).abs().max().item()
    print(f"{ids.shape[1]} tokens, largest logit {a.abs().max():.2f}, largest difference {difference:.2e}")
    assert difference < 1e-3, "logits"
    print(f"planted {value} for {key}; generated: {tokenizer.decode(said)}")


if __name__ == "__main__":
    main()
