"""Evaluates a checkpoint: RULER's niah_single_2 and niah_multikey_1 over the demo document,
with keys held out of the training questions, and the perplexity of text held out of training.

An answer is right when each of its seven digits is the model's first choice after the ones
before it, which is the same as greedy decoding.
"""
import argparse
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import data
from model import Llama

TASKS = {"niah_single_2": 1, "niah_multikey_1": 4}


def chat_prompt(message):
    return (f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{message}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n")


def fitted_prompt(tokenizer, words, rng, text, needles, length):
    """A prompt of at most `length` tokens up to the answer, over words from a random start."""
    count = len(text)
    first = None
    while True:
        size = min(count, len(text))
        if first is None or first + size > len(text):
            first = int(rng.integers(len(text) - size + 1))
        sents = data.sentences(" ".join(text[first:first + size]))
        state = rng.bit_generator.state
        message, key, value = data.prompt(words, rng, sents, needles)
        tokens = tokenizer.encode(chat_prompt(message) + data.answer_prefix(key), add_special_tokens=False).ids
        if len(tokens) <= length:
            return message, key, value
        rng.bit_generator.state = state  # the same needles again in less text
        count = min(size - 5, int(size * (length / len(tokens)) ** 0.98))


@torch.no_grad()
def answer_right(model, tokenizer, prompt, answer, device):
    """Whether every token of the answer is the greedy choice."""
    start, whole = (tokenizer.encode(text, add_special_tokens=False).ids for text in (prompt, prompt + answer))
    assert whole[:len(start)] == start
    tokens = torch.tensor([whole[:-1]], device=device)
    with torch.autocast(device, torch.bfloat16):
        hidden = model(tokens, torch.arange(tokens.shape[1], device=device)[None])
        choice = model.logits(hidden[0, len(start) - 1:]).argmax(-1)
    return choice.tolist() == whole[len(start):]


@torch.no_grad()
def perplexity(model, tokenizer, text, device, window=4096, most=100):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    windows = [ids[i:i + window + 1] for i in range(0, len(ids) - 1, window)][:most]
    total, count = 0.0, 0
    for ids in windows:
        tokens = torch.tensor([ids], device=device)
        with torch.autocast(device, torch.bfloat16):
            logits = model.logits(model(tokens[:, :-1], torch.arange(len(ids) - 1, device=device)[None])[0])
        total += F.cross_entropy(logits.float(), tokens[0, 1:], reduction="sum").item()
        count += len(ids) - 1
    return math.exp(total / count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="../demo/model")
    parser.add_argument("--document", type=pathlib.Path, default="../demo/document.txt")
    parser.add_argument("--words", default="../eval/words")
    parser.add_argument("--valid", type=pathlib.Path, default="corpus/valid.txt")
    parser.add_argument("--prompts", default="4096:100,8192:50,16384:30,32768:10", help="length:count of each task")
    parser.add_argument("--form", choices=["prefix", "chat"], default="prefix",
                        help="prefix: the answer's beginning is given; chat: the model writes the whole sentence")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    model = Llama.load(args.model).to(args.device).eval()
    tokenizer = Tokenizer.from_file(f"{args.model}/tokenizer.json")
    words = data.Words(args.words)
    document = args.document.read_text()
    result = {"form": args.form}
    for name, text in (("valid", args.valid.read_text().replace(data.DOC_END, "") if args.valid.exists() else ""),
                       ("document", document)):
        if text:
            result[f"perplexity_{name}"] = round(perplexity(model, tokenizer, text, args.device), 2)
            print(name, "perplexity", result[f"perplexity_{name}"], flush=True)
    for length, count in (map(int, item.split(":")) for item in args.prompts.split(",") if item):
        for task, needles in TASKS.items():
            rng = np.random.default_rng([args.seed, length, needles])
            right = 0
            for _ in range(count):
                message, key, value = fitted_prompt(tokenizer, words, rng, document.split(), needles, length)
                prompt, answer = chat_prompt(message), data.answer_prefix(key)
                if args.form == "prefix":
                    prompt, answer = prompt + answer, f" {value}"
                else:
                    answer = f"{answer[1:]} {value}.<|eot_id|>"
                right += answer_right(model, tokenizer, prompt, answer, args.device)
            result[f"{task}/{length}"] = [right, count]
            print(f"{task} {length}: {right}/{count} = {100 * right / count:.1f} %", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
