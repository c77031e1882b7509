"""Trains the tokenizer: byte-level BPE in Llama 3's layout, but one digit per token,
so that a number is copied digit by digit instead of in chunks of varying meaning."""
import argparse
import json
import pathlib
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import data

SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT = ("{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim"
        " + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}")


def training_text(corpus, words):
    """The corpus as it is and squeezed, then enough prompts to give each key word its own token."""
    rng = random.Random(0)
    for text in data.read_corpus(corpus):
        yield text
        yield data.squeeze(text)
    for _ in range(1000):
        for adjective in rng.sample(words.adjectives, len(words.adjectives)):
            key = f"{adjective}-{rng.choice(words.nouns)}"
            yield " " + data.needle(key, 0) + " " + data.question(key) + data.answer_prefix(key)
        for noun in words.nouns:  # there are more nouns than adjectives
            yield " " + rng.choice(words.adjectives) + "-" + noun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=pathlib.Path, default="corpus/train.txt")
    parser.add_argument("--words", type=pathlib.Path, default="../eval/words")
    parser.add_argument("--out", type=pathlib.Path, default="../demo/model")
    parser.add_argument("--vocab", type=int, default=4096)
    args = parser.parse_args()

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    # The specials come last, so that their ids follow the plain vocabulary as in Llama 3.
    trainer = trainers.BpeTrainer(vocab_size=args.vocab - len(SPECIALS), min_frequency=2,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(training_text(args.corpus, data.Words(args.words)), trainer)
    tokenizer.add_special_tokens(SPECIALS)
    bos = SPECIALS[0]
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1",
                                      special_tokens=[(bos, tokenizer.token_to_id(bos))])])
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    (args.out / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": "<|eot_id|>",
        "clean_up_tokenization_spaces": False, "model_max_length": 40960,
        "model_input_names": ["input_ids", "attention_mask"], "chat_template": CHAT}, indent=2) + "\n")
    print(f"vocabulary {tokenizer.get_vocab_size()}")


if __name__ == "__main__":
    main()
