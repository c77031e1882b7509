#!/usr/bin/env python3
"""Makes jieba.gz, the tables of Python's jieba 0.42.1 (MIT, see LICENSE-jieba), from its source package:

    pip download --no-deps --no-binary :all: jieba==0.42.1 && tar xzf jieba-0.42.1.tar.gz
    python3 make_data.py jieba-0.42.1 jieba.gz

The file, before gzip; u is an unsigned varint, f a little-endian float64:
    u      number of distinct counts, then their natural logarithms f in rising order, as Python's math.log gives them;
    f      the logarithm of the sum of all counts (a word listed twice is in it twice, as in jieba);
    u      number of trie nodes, breadth first, node 0 the root; the children of a node follow one another by
           character. Then three rows with one u per node: how many children, the character (less that of the sibling
           before), and the number of its count from 1 (0: no word ends here);
    f * 4  start probabilities of B, E, M, S;
    f * 16 transitions from B, E, M, S to B, E, M, S;
    u      number of characters with emissions, then for each: u the character (less the one before), f * 4.
Logarithms are carried because another math library may round them otherwise, and a tie then breaks the other way.
"""
import gzip
import importlib.util
import math
import struct
import sys

MIN_FLOAT = -3.14e100  # what jieba takes for a probability it does not have
STATES = "BEMS"


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def floats(values):
    return b"".join(struct.pack("<d", v) for v in values)


def table(folder, name):
    spec = importlib.util.spec_from_file_location(name, f"{folder}/jieba/finalseg/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.P


def dictionary(folder):
    counts, total = {}, 0
    with open(f"{folder}/jieba/dict.txt", encoding="utf-8") as f:
        for line in f:
            word, count = line.split(" ")[:2]
            counts[word] = int(count)
            total += int(count)
    distinct = sorted(set(counts.values()))
    number = {c: i + 1 for i, c in enumerate(distinct)}
    out = [varint(len(distinct)), floats(map(math.log, distinct)), floats([math.log(total)])]

    root = ({}, 0)
    for word, count in counts.items():
        children = root[0]
        for ch in word[:-1]:
            children = children.setdefault(ch, [{}, 0])[0]
        children.setdefault(word[-1], [{}, 0])[1] = number[count]
    degrees, chars, numbers, n = [varint(len(root[0]))], [varint(0)], [varint(0)], 1
    level = [root]
    while level:
        below = []
        for children, _ in level:
            before = 0
            for ch in sorted(children):
                node = children[ch]
                degrees.append(varint(len(node[0])))
                chars.append(varint(ord(ch) - before))
                numbers.append(varint(node[1]))
                before, n = ord(ch), n + 1
                below.append(node)
        level = below
    return b"".join(out + [varint(n)] + degrees + chars + numbers)


def model(folder):
    start, trans, emit = (table(folder, "prob_" + n) for n in ("start", "trans", "emit"))
    out = [floats(start[s] for s in STATES)]
    out.append(floats(trans[a].get(b, MIN_FLOAT) for a in STATES for b in STATES))
    chars = sorted(set().union(*emit.values()))
    out.append(varint(len(chars)))
    before = 0
    for ch in chars:
        out.append(varint(ord(ch) - before) + floats(emit[s].get(ch, MIN_FLOAT) for s in STATES))
        before = ord(ch)
    return b"".join(out)


folder, to = sys.argv[1:]
with open(to, "wb") as f:
    f.write(gzip.compress(dictionary(folder) + model(folder), 9, mtime=0))
