"""
The tokenizers. `load_tokenizer(name)` returns a tiktoken.Encoding:

    "codegen"   phi-1's (codegen-350M-mono's): GPT-2's BPE and 38 tokens for runs of spaces and tabs, 50,295 ids. Exact: the
                same ids as transformers' CodeGenTokenizer. GPT-2's ranks are downloaded once and cached by tiktoken.
    "bytes"     256 bytes and <|endoftext|>, 257 ids. Needs no download.
    a path      of ranks in tiktoken's format (*.tiktoken: base64 of a token, space, rank; a line each), whose next id is
                <|endoftext|>. `train_bpe` makes them from any text; the demo's 1,023 + 1 ids are made so.

    encoding = load_tokenizer("codegen")
    encoding.encode_ordinary("    return x")   # [50284, 7783, 2124]: four spaces are one token
    encoding.eot_token                         # 50256, <|endoftext|>: between documents, and where generation stops

encode_ordinary never returns <|endoftext|>, even for a text that spells it out: training data cannot forge a document's end.
"""
import base64
import collections
import json
import os
import re

import tiktoken

# One whitespace-run token is cut out of the text before BPE, longest first, and what precedes it is treated as the end of a
# text, which matters for GPT-2's \s+(?!\S). Alternatives without look-around stand together in one group: that is faster.
CODEGEN_PATTERN = (r"(?:'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+| {2,31}|\t{2,9})"
                   r"|(?:[^\S \t]| (?! )|\t(?!\t))+(?!\S)|\s")
WHITESPACE_RUNS = {b" " * n: 50288 - n for n in range(2, 32)} | {b"\t" * n: 50296 - n for n in range(2, 10)}


def load_tokenizer(name):
    """The tiktoken.Encoding called `name`. Ends the program if the name is unknown or GPT-2's ranks cannot be had."""
    if name == "bytes":
        ranks, pattern = {bytes([i]): i for i in range(256)}, r"(?s).{1,64}"
    elif name == "codegen":
        # The runs must be ordinary ranks: as special tokens they would match shortest first.
        ranks, pattern = gpt2_ranks() | WHITESPACE_RUNS, CODEGEN_PATTERN
    elif name.endswith(".tiktoken"):
        ranks, pattern = read_ranks(name), CODEGEN_PATTERN
    else:
        raise SystemExit(f"no tokenizer is called {name!r}: 'codegen' and 'bytes' are, or the path of a .tiktoken file")
    eot = 50256 if name == "codegen" else len(ranks)
    return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": eot},
                             explicit_n_vocab=len(ranks) + 1)


def gpt2_ranks():
    from tiktoken_ext.openai_public import r50k_base
    try:
        return r50k_base()["mergeable_ranks"]
    except Exception as error:  # requests' many kinds of no network, a proxy's HTML in place of the file, a full disk
        raise SystemExit(f"GPT-2's ranks, which the codegen tokenizer is built on, cannot be had ({type(error).__name__}). On a "
                         "machine without network, copy tiktoken's cache of r50k_base from another and name its folder in "
                         "TIKTOKEN_CACHE_DIR; --tokenizer=bytes needs none.")


def read_ranks(path):
    """{token: rank} of a file in tiktoken's format. Ends the program if it is not there or not such a file."""
    try:
        with open(path, "rb") as f:
            ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in map(bytes.split, filter(bytes.strip, f))}
    except OSError as error:
        where = "" if os.path.isabs(path) else " (the path is relative to the folder where the model was trained)"
        raise SystemExit(f"{path}: {error.strerror}{where}; the data and the model were made with this tokenizer and cannot be read without it")
    except ValueError as error:
        raise SystemExit(f"{path} is not a file of ranks in tiktoken's format: {error}")
    if sorted(ranks.values()) != list(range(len(ranks))) or not all(bytes([i]) in ranks for i in range(256)):
        raise SystemExit(f"{path}: {len(ranks):,} ranks, which are not 0, 1, 2 ..., or not all 256 bytes are among the tokens")
    return ranks


def train_bpe(texts, size):
    """{token: rank} of `size` tokens by byte-pair encoding: begin with the 256 bytes and join, again and again, the two neighbours that
    stand side by side most often. Pairs are counted inside words, numbers, signs and runs of white space, as they will be used; the
    2,000 most frequent of these are enough to rank a few hundred pairs."""
    pieces = collections.Counter(piece for text in texts for piece in re.findall(r" ?[^\W\d_]+| ?\d+| ?[^\s\w]+|_+| {2,31}|\s", text))
    pieces = [([bytes([b]) for b in piece.encode()], count) for piece, count in pieces.most_common(2000)]
    ranks = {bytes([i]): i for i in range(256)}
    while len(ranks) < size:
        pairs = collections.Counter()
        for tokens, count in pieces:
            for pair in zip(tokens, tokens[1:]):
                pairs[pair] += count
        if not pairs:
            raise ValueError(f"the texts give {len(ranks)} tokens, not {size}")
        pair = max(pairs, key=lambda pair: (pairs[pair], pair))  # of equals the last in order, so that every machine makes the same
        ranks.setdefault(pair[0] + pair[1], len(ranks))
        for tokens, _ in pieces:
            i = 0
            while i < len(tokens) - 1:
                if (tokens[i], tokens[i + 1]) == pair:
                    tokens[i:i + 2] = [pair[0] + pair[1]]
                i += 1
    return ranks


def write_ranks(path, ranks):
    """Write {token: rank} in tiktoken's format, whole or not at all."""
    with open(path + ".tmp", "wb") as f:
        for token, rank in ranks.items():
            f.write(base64.b64encode(token) + b" %d\n" % rank)
    os.replace(path + ".tmp", path)


def write_hf_tokenizer(folder):
    """Write phi-1's tokenizer as the files that transformers' CodeGenTokenizer reads: vocab.json, merges.txt,
    added_tokens.json, special_tokens_map.json, tokenizer_config.json. Says so and writes none where the ranks are missing."""
    try:
        ranks = gpt2_ranks()
    except SystemExit as error:
        print(f"no tokenizer files in {folder}: {error}")
        return
    # GPT-2 writes a byte as a printable character: itself where it is one, else one of those from U+0100 on
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    character = {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(others)}
    spelled = lambda token: "".join(character[b] for b in token)

    merges = []
    for token, rank in ranks.items():
        if len(token) > 1:  # merge with lower ranks only: two parts are left, and they are this token's rule
            parts = [bytes([b]) for b in token]
            while len(parts) > 2:
                best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], rank))
                parts[best:best + 2] = [parts[best] + parts[best + 1]]
            merges.append((rank, " ".join(map(spelled, parts))))
    eot = "<|endoftext|>"
    files = {
        "vocab.json": {spelled(token): rank for token, rank in ranks.items()} | {eot: 50256},
        "added_tokens.json": {run.decode(): i for run, i in WHITESPACE_RUNS.items()},
        "special_tokens_map.json": {"bos_token": eot, "eos_token": eot, "unk_token": eot},
        "tokenizer_config.json": {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False, "bos_token": eot, "eos_token": eot,
                                  "unk_token": eot, "model_max_length": 2048, "clean_up_tokenization_spaces": False}}
    for file, content in files.items():
        with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
            json.dump(content, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(["#version: 0.2", *(merge for _, merge in sorted(merges))]) + "\n")
