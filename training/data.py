"""Training samples: plain text and the "needle in a haystack" questions of RULER.

Every sample is a fixed number of tokens with a loss weight and a position for each. The
values of the needles are random digits, so they carry no loss where they are planted and
a high one where they are asked for.
"""
import collections
import pathlib
import re

import numpy as np
from tokenizers import Tokenizer

from corpus import DOC_END, share

INTRO = ("A special magic number is hidden within the following text. Make sure to memorize it. "
         "I will quiz you about the number afterwards.\n")
ANSWER_WEIGHT = 8.0
# The first digit is the one that needs the key; the others follow by copying on.
VALUE_WEIGHTS = [5 * ANSWER_WEIGHT] + [ANSWER_WEIGHT] * 6


def question(key):
    return f"What is the special magic number for {key} mentioned in the provided text?"


def answer_prefix(key):
    return f" The special magic number for {key} mentioned in the provided text is"


def needle(key, value):
    return f"One of the special magic numbers for {key} is: {value}."


def squeeze(text):
    return " ".join(text.split())


def sentences(text):
    """Sentences of squeezed text, cut after a full stop, question or exclamation mark before a blank."""
    return re.split(r"(?<=[.!?]) ", squeeze(text))


def pick(rng, items):
    return items[rng.integers(len(items))]


def read_corpus(path):
    return pathlib.Path(path).read_text().split(DOC_END)


class Words:
    """The word lists of the keys. One key in ten is held out of training, by its hash."""

    def __init__(self, folder):
        self.adjectives = (pathlib.Path(folder) / "adjectives.txt").read_text().split()
        self.nouns = (pathlib.Path(folder) / "nouns.txt").read_text().split()

    def key(self, rng, held_out=False):
        while True:
            key = f"{pick(rng, self.adjectives)}-{pick(rng, self.nouns)}"
            if (share(key) < 0.1) == held_out:
                return key


def prompt(words, rng, sents, needles, held_out=True):
    """One RULER prompt as (user message, key, value): `needles` of them, the first is asked for."""
    keys, values = [], []
    while len(keys) < needles:
        key, value = words.key(rng, held_out), str(rng.integers(1000000, 10000000))
        if key not in keys and value not in values:
            keys.append(key)
            values.append(value)
    depths = rng.choice(np.round(np.linspace(0, 100, 40)), needles, replace=False)  # RULER's 40 depths
    cuts = [0] + sorted(int(len(sents) * d / 100) for d in depths) + [len(sents)]
    order = rng.permutation(needles)
    parts = []
    for i, start in enumerate(cuts[:-1]):
        parts.append(" ".join(sents[start:cuts[i + 1]]))
        if i < needles:
            parts.append(needle(keys[order[i]], values[order[i]]))
    return INTRO + " ".join(parts) + "\n" + question(keys[0]), keys[0], values[0]


class Corpus:
    """A tokenized corpus file: as it is, and squeezed with the start of each sentence."""

    def __init__(self, path, tokenizer):
        cache = pathlib.Path(path).with_suffix(".npz")
        if not cache.exists():
            texts = read_corpus(path)
            encode = lambda batch: [e.ids for e in tokenizer.encode_batch(batch, add_special_tokens=False)]
            end = tokenizer.token_to_id("<|end_of_text|>")
            raw = np.concatenate([np.array(ids + [end], np.uint16) for ids in encode(texts)])
            sents = encode([" " + s for text in texts for s in sentences(text) if s])
            count = collections.Counter(re.findall(r"\b[a-z]{3,12}\b", "".join(texts)))
            np.savez(cache, raw=raw, words=np.array(sorted(w for w in count if count[w] >= 20)), squeezed=np.concatenate([np.array(ids, np.uint16) for ids in sents]),
                     starts=np.cumsum([0] + [len(ids) for ids in sents]))
        arrays = np.load(cache)
        self.words = arrays["words"].tolist()
        self.raw, self.squeezed, self.starts = arrays["raw"], arrays["squeezed"], arrays["starts"]


class Sampler:
    """Draws training samples of any length, of the form "mix" or one of the three of `pairs`."""

    def __init__(self, corpus, tokenizer, words, seed=0, max_position=40960):
        self.corpus, self.words, self.max_position = corpus, words, max_position
        self.rng = np.random.default_rng(seed)
        self.tokenizer, self.form = tokenizer, "mix"
        self.cache = {}
        # Tokens that a needle may follow in text that is not squeezed.
        self.ends = np.array([tokenizer.decode([i]).endswith((".", "\n")) for i in range(tokenizer.get_vocab_size())])
        special = tokenizer.token_to_id
        newlines = self.encode("\n\n")
        self.bos, self.eot = [special("<|begin_of_text|>")], [special("<|eot_id|>")]
        self.user, self.assistant = ([special("<|start_header_id|>")] + self.encode(role)
                                     + [special("<|end_header_id|>")] + newlines for role in ("user", "assistant"))

    def encode(self, text):
        """Tokens of a short text. The pieces of a sample are cut before a blank or after a
        newline, where the tokenizer never joins, so encoding them one by one changes nothing."""
        if text not in self.cache:
            self.cache[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.cache[text]

    def value(self):
        return [self.encode(d)[0] for d in str(self.rng.integers(1000000, 10000000))]

    def keys(self, count):
        """Distinct keys. Half of the time many share their adjective or noun, so that only
        the match of both tells them apart; some are plain words of the text, not of the lists."""
        rng, keys = self.rng, set()
        related = rng.random() < 0.5
        while len(keys) < count:
            key = self.words.key(rng)
            if related and keys and rng.random() < 0.6:
                adjective, noun = sorted(keys)[rng.integers(len(keys))].split("-")
                key = (f"{adjective}-{pick(rng, self.words.nouns)}" if rng.random() < 0.5
                       else f"{pick(rng, self.words.adjectives)}-{noun}")
                if share(key) < 0.1:
                    continue
            elif rng.random() < 0.1:
                key = f"{pick(rng, self.corpus.words)}-{pick(rng, self.corpus.words)}"
            keys.add(key)
        return [str(key) for key in rng.permutation(sorted(keys))]

    def key_ids(self, key):
        adjective, noun = key.split("-")
        return self.encode(" " + adjective) + self.encode("-" + noun)

    def haystack(self, count):
        """Sentences of consecutive text, `count` tokens in total, the last one cut. A third of the time with its line breaks."""
        if count > 60 and self.rng.random() < 0.35:
            start = self.rng.integers(len(self.corpus.raw) - count - 1)
            ids = self.corpus.raw[start:start + count]
            cuts = np.flatnonzero(self.ends[ids[:-1]]) + 1
            return [piece.tolist() for piece in np.split(ids, cuts) if len(piece)]
        starts, first = self.corpus.starts, self.rng.integers(len(self.corpus.starts) - 1)
        pieces, total = [], 0
        while total < count:
            piece = self.corpus.squeezed[starts[first]:starts[first + 1]].tolist()[:count - total]
            pieces.append(piece)
            total += len(piece)
            first = (first + 1) % (len(starts) - 1)
        return pieces

    def sample(self, length):
        """One sample of length + 1 tokens (input and shifted target) as tokens, weights, positions."""
        r = self.rng.random()
        if self.form != "mix":
            parts = self.pairs(length)
        elif r < 0.1:
            parts = self.plain(length)
        elif r < 0.13:
            parts = self.copies(length)
        elif r < 0.33:
            parts = self.recall(length)
        else:
            parts = self.chat(length, dense=self.rng.random() < (0.85 if length <= 2048 else 0.75))
        tokens = np.array([t for ids, _ in parts for t in ids][:length + 1])
        weights = np.array([w for ids, weight in parts for w in
                            (weight if isinstance(weight, list) else [weight] * len(ids))][:length + 1], np.float32)
        return tokens, weights, self.positions([len(ids) for ids, _ in parts], length + 1)

    def positions(self, sizes, length):
        """Positions with random jumps between parts, so that short samples teach long distances."""
        positions, rng = np.arange(length), self.rng
        room = self.max_position - length
        if self.form == "mix" and rng.random() < 0.6 and len(sizes) > 2:
            room = int(room * rng.random() ** 2)
            ends = np.cumsum(sizes)[:-1]
            for cut in rng.choice(ends, min(len(ends), rng.integers(1, 9)), replace=False):
                jump = int(room * rng.random())
                positions[cut:] += jump
                room -= jump
        return positions

    def plain(self, length):
        text = self.corpus.raw if self.rng.random() < 0.5 else self.corpus.squeezed
        start = self.rng.integers(len(text) - length - 1)
        return [(text[start:start + length + 1].tolist(), 1.0)]

    def pairs(self, length):
        """The lookup and nothing else: unrelated keys with two digits each, then all of them again
        in random order. "bare": key and digits; "link": a word between; "wording": needle and answer."""
        rng, asked = self.rng, ("", "")
        stated = asked
        if self.form == "link":
            stated = asked = pick(rng, ["", " for"]), pick(rng, ["", " ", ": ", " is ", " is: "])
        elif self.form == "wording":
            stated = " One of the special magic numbers for", " is: "
            asked = " The special magic number for", " mentioned in the provided text is "
        size = sum(len(self.encode(text)) for text in stated + asked) + 10
        count = max(2, min(24, length // size))
        keys = [f"{a}-{n}" for a, n in zip(rng.choice(self.words.adjectives, count, replace=False),
                                           rng.choice(self.words.nouns, count, replace=False))]
        known = {key: self.value()[1:3] for key in keys}
        parts = []
        for (start, end), order, weights in ((stated, keys, [0.0] * 2),
                                             (asked, rng.permutation(keys), VALUE_WEIGHTS[:2])):
            for key in order:
                head = self.encode(start) + self.key_ids(key) + self.encode(end)
                parts.append((head + known[key] + self.encode("."), [0.0] * len(head) + weights + [0.0]))
        return parts + [(self.eot * max(0, length + 1 - sum(len(ids) for ids, _ in parts)), 0.0)]

    def copies(self, length):
        """A segment again and again: key words, any tokens, or text. Every token of it is a
        question, so this is the densest exercise in finding what followed the same words before."""
        rng = self.rng
        size = int(rng.integers(8, max(9, min(length // 2, 200))))
        kind = rng.random()
        if kind < 0.5:
            segment = [t for _ in range(size // 2 + 1) for t in self.key_ids(self.words.key(rng))][:size]
            rng.shuffle(segment)
        elif kind < 0.75:
            segment = rng.integers(0, self.bos[0], size).tolist()
        else:
            start = rng.integers(len(self.corpus.squeezed) - size)
            segment = self.corpus.squeezed[start:start + size].tolist()
        weight = ANSWER_WEIGHT if kind < 0.75 else 1.0
        parts, total = [(segment, 0.0)], size
        while total <= length:
            parts.append((segment, [0.0] + [weight] * (size - 1)))
            total += size
        return parts

    def recall(self, length):
        """Needles and the same keys again in another order, with text between. Mostly in fewer
        words and digits, down to the bare key and digit: a short sample then holds many of them,
        and the match of the key is learnt from its plainest form on."""
        rng = self.rng
        digits, starts, ends = 7, [" One of the special magic numbers for"], [" is: "]
        if rng.random() < 0.75:
            digits, starts, ends = int(rng.integers(1, 5)), ["", " for"], ["", " ", ": ", " is ", " is: "]
        start, end = pick(rng, starts), pick(rng, ends)
        start_again, end_again = start, end
        if rng.random() < 0.3:
            start_again, end_again = " The special magic number for", " mentioned in the provided text is "

        def fact(key, start, end, weights):
            head = self.encode(start) + self.key_ids(key) + self.encode(end)
            return head + known[key] + self.encode("."), [0.2] * len(head) + weights + [0.2]

        size = len(self.encode(start)) + len(self.encode(start_again)) + 2 * digits + 10
        count = max(2, min(40, int(length * rng.uniform(0.5, 0.95) / size)))
        known = {key: self.value()[:digits] for key in self.keys(count)}
        first = [fact(key, start, end, [0.0] * digits) for key in known]
        again = [fact(key, start_again, end_again, VALUE_WEIGHTS[:digits]) for key in rng.permutation(list(known))]
        room = max(0, length + 1 - sum(len(ids) for ids, _ in first + again))
        gap = int(room * rng.random() * 0.3)
        return self.bury(first, room - gap) + self.bury(again, gap)

    def bury(self, needles, room):
        """The needles, in order, at random places between the sentences of a haystack."""
        hay = [(piece, 1.0) for piece in self.haystack(room)] if room > 0 else []
        for at, part in zip(sorted(self.rng.integers(0, len(hay) + 1, len(needles)))[::-1], needles[::-1]):
            hay.insert(at, part)
        return hay

    def chat(self, length, dense):
        """RULER's prompt. Sparse: 1 or 4 needles and one question, as evaluated. Dense: many
        needles, and one further turn of the conversation for each further question."""
        rng = self.rng
        if dense:
            questions = int(np.clip(length * rng.uniform(0.15, 0.5) / 50, 1, 24))
            count = questions + int(rng.integers(0, questions + 3))
        else:
            questions, count = 1, int(rng.choice([1, 4]))
        if length < 256:
            count = min(count, 3)
        known = {key: self.value() for key in self.keys(count)}
        asked = list(known)[:questions]
        turns = []
        for i, key in enumerate(asked):
            ask = self.encode("What is the special magic number for") + self.key_ids(key)
            ask += self.encode(" mentioned in the provided text?")
            tail = self.key_ids(key) + self.encode(" mentioned in the provided text is")
            if rng.random() < 0.6:  # the prefix is given, so it carries no loss
                said = self.encode(" The special magic number for") + tail
                said_weight = [0.0] * len(said)
            else:
                said = self.encode("The special magic number for") + tail
                said_weight = [1.0] * len(said)  # but the key, which has to be copied from the question
                at = len(said) - len(tail)
                said_weight[at:at + len(self.key_ids(key))] = [ANSWER_WEIGHT] * len(self.key_ids(key))
            head = self.user if i else []
            answer = self.encode(" ") + known[key]
            turns.append((head + ask + self.eot + self.assistant, 0.1))
            turns.append((said + answer + self.encode(".") + self.eot,
                          said_weight + [1.0] + VALUE_WEIGHTS + [1.0, 1.0]))
        order = [str(key) for key in rng.permutation(list(known))]
        head, tail = self.encode(" One of the special magic numbers for"), self.encode(" is: ")
        planted = [(head + self.key_ids(key) + tail + known[key] + self.encode("."),
                    [0.2] * (len(head) + len(self.key_ids(key)) + len(tail)) + [0.0] * 7 + [0.2]) for key in order]
        start = [(self.bos + self.user + self.encode(INTRO), 0.1)]
        newline = [(self.encode(" \n" if rng.random() < 0.05 else "\n"), 0.1)]
        room = length + 1 - sum(len(ids) for ids, _ in start + newline + planted + turns)
        hay = self.bury(planted, room)
        if hay and rng.random() < 0.9:  # a context starts without a blank, except with a needle first
            text = self.tokenizer.decode(hay[0][0])
            if not text.startswith(" One of the special"):
                hay[0] = (self.tokenizer.encode(text.lstrip(), add_special_tokens=False).ids, 1.0)
        parts = start + hay + newline + turns
        missing = length + 1 - sum(len(ids) for ids, _ in parts)
        return parts if missing <= 0 else parts + [(self.eot * missing, 0.0)]

    def batch(self, rows, length):
        samples = [self.sample(length) for _ in range(rows)]
        return [np.stack(column) for column in zip(*samples)]
