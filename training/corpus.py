"""Builds the training text and the demo document from a Go distribution.

Prose is taken from doc comments and from doc/*.md|html, plus a share of plain
source. The language specification is the demo document: it is the haystack of
the evaluation, so it never enters the training text.
"""
import argparse
import hashlib
import html
import pathlib
import re

HELD_OUT = {"go_spec.html"}
DOCUMENT_END = "\nExpressions\n"  # the specification up to here is as long as the model reads well
DOC_END = "\f\n"  # separates the documents of a corpus file


def html_to_text(source):
    """Plain text of one Go documentation page: no tags, entities resolved, at most one empty line."""
    source = re.sub(r"<!--.*?-->|<(script|style).*?</\1>", "", source, flags=re.S)
    source = re.sub(r"<li>\s*", "- ", source)
    source = re.sub(r"</t[dh]>", " ", source)
    text = html.unescape(re.sub(r"</?[a-zA-Z][^<>]*>", "", source))
    text = re.sub(r"[ \t]+\n", "\n", text.replace("\u00a0", " "))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def comments(source):
    """The comment blocks of a Go file without their markers; directives and licence heads are dropped."""
    for block in re.findall(r"(?:^[ \t]*//[^\n]*\n)+|/\*.*?\*/", source, flags=re.M | re.S):
        if block.startswith("/*"):
            text = block[2:-2].strip()
        else:
            lines = [re.sub(r"^[ \t]*//[ \t]?", "", line) for line in block.splitlines()
                     if not re.match(r"\s*//(go:|line |export |\+build)", line)]
            text = "\n".join(lines).strip()
        if len(text) >= 60 and " " in text and not re.match(r"Copyright|Code generated|Output:|ERROR", text):
            yield text


def documents(goroot, code_share):
    """All training documents as (path, text); repeated comments are kept once."""
    seen = set()
    for path in sorted((goroot / "doc").rglob("*")) + sorted(goroot.glob("*.md")):
        if path.name in HELD_OUT:
            continue
        if path.suffix == ".html":
            yield str(path.relative_to(goroot)), html_to_text(path.read_text())
        elif path.suffix == ".md":
            yield str(path.relative_to(goroot)), path.read_text()
    for path in sorted(p for p in (goroot / "src").rglob("*.go") if p.is_file()):
        name = str(path.relative_to(goroot))
        source = path.read_text(errors="replace")
        if "/testdata/" in name or "\ufffd" in source or re.search(r"^// Code generated", source, re.M):
            continue
        fresh = [text for text in comments(source) if not (text in seen or seen.add(text))]
        if fresh:
            yield name, "\n\n".join(fresh) + "\n"
        if share(name + "#code") < code_share and not name.endswith("_test.go"):
            yield name + "#code", source


def share(name):
    """A number in [0, 1) that depends on the name only: a split without a random generator."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--goroot", type=pathlib.Path, default="/usr/local/go")
    parser.add_argument("--out", type=pathlib.Path, default="corpus")
    parser.add_argument("--document", type=pathlib.Path, default="../demo/document.txt")
    parser.add_argument("--code-share", type=float, default=0.15, help="share of the source files taken whole")
    parser.add_argument("--valid-share", type=float, default=0.01)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    document = html_to_text((args.goroot / "doc/go_spec.html").read_text())
    args.document.write_text(document[:document.index(DOCUMENT_END)])
    parts = {"train": [], "valid": []}
    for name, text in documents(args.goroot, args.code_share):
        parts["valid" if share(name) < args.valid_share else "train"].append(text)
    for part, texts in parts.items():
        (args.out / f"{part}.txt").write_text(DOC_END.join(texts))
        print(f"{part}: {len(texts)} documents, {sum(map(len, texts)) / 1e6:.2f} M characters")
    print(f"document: {args.document.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
