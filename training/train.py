"""Trains the model, by stages of growing sequence length.

A stage "mix:4096:1000:0.97" draws sequences of up to 4096 tokens for at most 1000 steps and ends
early once 97 % of the first digits asked at that length are right (running mean). The forms
bare, link and wording are the bare lookup that has to come first (see data.Sampler.pairs); mix is
text and questions in RULER's wording. The learning rate is constant after its warm-up and falls
to zero over the last stage if --decay is given. Checkpoints are Hugging Face folders;
--resume-from takes one up again, with a fresh optimizer.

Several processes (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT as torchrun sets them) average
their gradients: on a busy CPU one thread each is far quicker than one process of many threads.
"""
import argparse
import json
import os
import pathlib
import queue
import shutil
import signal
import threading
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Tokenizer

import data
from model import Config, Llama


def draw_length(rng, longest):
    """Most batches have the longest length, a quarter half of it, the rest any shorter one."""
    lengths = [256 << i for i in range(20) if 256 << i <= longest]
    r = rng.random()
    if r < 0.6 or len(lengths) < 2:
        return longest
    return lengths[-2] if r < 0.85 else lengths[rng.integers(len(lengths) - 1)]


def batches(sampler, lengths, longest, tokens, out, stop):
    while not stop.is_set():
        length = draw_length(lengths, longest)
        batch = sampler.batch(max(1, tokens // length), length)
        while not stop.is_set():
            try:
                out.put((length, batch), timeout=1)
                break
            except queue.Full:
                pass


def make_optimizers(model, lr, kind):
    """Muon for the weight matrices, AdamW for the embedding, the head and the norms; or AdamW for all."""
    groups = {"matrix": [], "embed": [], "other": []}
    for name, p in model.named_parameters():
        kind_of = "embed" if name.startswith("embed") else "other" if "norm" in name or "head" in name else "matrix"
        groups[kind_of].append(p)
    adam = [{"params": groups["embed"], "lr": 2 * lr}, {"params": groups["other"], "lr": lr / 3}]
    options = dict(betas=(0.9, 0.98), weight_decay=0.0)
    if kind == "adamw":
        matrices = {"params": groups["matrix"], "lr": lr / 3, "weight_decay": 0.1}
        return [torch.optim.AdamW([matrices] + adam, **options)]
    return [torch.optim.Muon(groups["matrix"], lr=lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(adam, **options)]


def losses(model, forward, batch, device, text_share, rng):
    """Mean loss of the text, mean loss of the asked digits, share of right first digits."""
    tokens, weights, positions = batch
    targets, weights = tokens[:, 1:].reshape(-1), weights[:, 1:].reshape(-1)
    asked = weights >= data.ANSWER_WEIGHT
    # The head over the whole vocabulary is dear, so only a share of the text tokens is scored.
    scored = np.flatnonzero(asked | ((weights > 0) & (rng.random(weights.size) < text_share)))
    move = lambda x: torch.from_numpy(x).to(device, non_blocking=True)
    with torch.autocast(device, torch.bfloat16):
        hidden = forward(move(tokens[:, :-1].copy()), move(positions[:, :-1].copy()))
        logits = model.logits(hidden.flatten(0, 1)[move(scored)])
    targets, weights, asked = move(targets[scored]), move(weights[scored]), move(asked[scored])
    nll = F.cross_entropy(logits.float(), targets, reduction="none")
    text = (nll * weights * ~asked).sum() / (weights * ~asked).sum().clamp_min(1)  # none in a bare lookup
    if not asked.any():
        return text, None, None
    right = (logits.argmax(-1) == targets).float()
    first = weights > data.ANSWER_WEIGHT
    return text, (nll * weights)[asked].sum() / weights[asked].sum(), right[first].mean().item() if first.any() else None


def average(model, extra):
    """Averages the gradients, and a few numbers with them, over the processes."""
    grads = [p.grad for p in model.parameters()]
    flat = torch.cat([g.flatten() for g in grads] + [torch.tensor(extra, device=grads[0].device)])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for g, part in zip(grads, flat.split([g.numel() for g in grads] + [len(extra)])):
        g.copy_(part.view_as(g))
    return flat[-len(extra):].tolist()


def save(model, tokenizer, folder, tokenizer_from):
    """Writes beside the old checkpoint and swaps, so that a reader never sees half of one."""
    folder, ids = pathlib.Path(folder), tokenizer.token_to_id
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save(fresh, {"bos_token_id": ids("<|begin_of_text|>"),
                       "eos_token_id": [ids("<|end_of_text|>"), ids("<|eot_id|>")]})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(pathlib.Path(tokenizer_from) / name, fresh / name)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="corpus/train.txt")
    parser.add_argument("--words", default="../eval/words")
    parser.add_argument("--tokenizer", default="../demo/model", help="folder of tokenizer.json")
    parser.add_argument("--resume-from", help="checkpoint folder to start from")
    parser.add_argument("--out", default="checkpoint")
    parser.add_argument("--log", default="train.jsonl")
    parser.add_argument("--stages", default="bare:128:600:0.98,link:128:600:0.98,wording:128:600:0.98")
    parser.add_argument("--decay", action="store_true", help="let the learning rate fall over the last stage")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens of a batch (at least one sequence)")
    parser.add_argument("--lr", type=float, default=6e-3, help="of Muon; twice that for the embedding, a third for AdamW's others")
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--optimizer", choices=["muon", "adamw"], default="muon")
    parser.add_argument("--text-share", type=float, default=0.25, help="share of the text tokens that are scored")
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="compile the model, once per length")
    parser.add_argument("--seed", type=int, default=0)
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                 "num_key_value_heads", "head_dim"):
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=getattr(Config, name))
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo" if args.device == "cpu" else "nccl")
    tokenizer = Tokenizer.from_file(f"{args.tokenizer}/tokenizer.json")
    if args.resume_from:
        model = Llama.load(args.resume_from)
    else:
        shape = {k: v for k, v in vars(args).items() if k in Config.__dataclass_fields__}
        model = Llama(Config(vocab_size=tokenizer.get_vocab_size(), **shape))
    model.to(args.device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    forward = torch.compile(model, dynamic=False) if args.compile else model
    torch._dynamo.config.recompile_limit = 32
    optimizers = make_optimizers(model, args.lr, args.optimizer)
    sampler = data.Sampler(data.Corpus(args.corpus, tokenizer), tokenizer, data.Words(args.words), 1000 * args.seed + rank)
    rng = np.random.default_rng(args.seed + rank)
    lengths = np.random.default_rng(args.seed)  # the same in all processes
    interrupted = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: interrupted.set())
    log = open(args.log if rank == 0 else os.devnull, "a")
    step, seen = 0, 0
    stages = [stage.split(":") for stage in args.stages.split(",")]
    for number, (sampler.form, longest, steps, goal) in enumerate(stages):
        longest, steps, goal = int(longest), int(steps), float(goal)
        ready, stop = queue.Queue(4), threading.Event()
        producer = threading.Thread(target=batches, args=(sampler, lengths, longest, args.tokens, ready, stop))
        producer.start()
        mean, since = 0.0, time.time()
        for left in range(steps, 0, -1):
            length, batch = ready.get()
            rate = min(1.0, (step + 1) / args.warmup)
            if args.decay and number == len(stages) - 1:
                rate *= left / steps
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group.setdefault("peak", group["lr"]) * rate
            text, asked, right = losses(model, forward, batch, args.device, args.text_share, rng)
            loss = text if asked is None else text + asked
            loss.backward()
            stopping = float(interrupted.is_set())
            if world > 1:
                some = 0.0 if right is None else 1.0
                right, some, stopping = average(model, [right or 0.0, some, stopping])
                right = right / some if some else None
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                if torch.isfinite(norm):  # bf16 attention overflows now and then in long sequences
                    optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step, seen = step + 1, seen + batch[0].size - len(batch[0])
            if right is not None and length == longest:
                mean += (right - mean) * 0.05
            now = time.time()
            log.write(json.dumps({
                "step": step, "form": sampler.form, "stage": longest, "length": length, "text": round(text.item(), 4),
                "asked": asked and round(asked.item(), 4), "right": right and round(right, 4), "mean": round(mean, 4),
                "norm": round(norm.item(), 3), "rate": round(rate, 4), "tokens": seen,
                "seconds": round(now - since, 3)}) + "\n")
            log.flush()
            since = now
            if rank == 0 and step % args.save_every == 0:
                save(model, tokenizer, args.out, args.tokenizer)
            if mean > goal or stopping:
                break
        stop.set()
        producer.join()
        if rank == 0:
            save(model, tokenizer, args.out, args.tokenizer)
        print(f"stage {sampler.form} {longest}: step {step}, {seen / 1e6:.1f} M tokens, first digits right {mean:.3f}", flush=True)
        if stopping:
            break


if __name__ == "__main__":
    main()
