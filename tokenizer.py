"""
The tokenizers. `load_tokenizer(name)` returns a tiktoken.Encoding:

    "codegen"   phi-1's (codegen-350M-mono's): GPT-2's BPE and 38 tokens for runs of spaces and tabs, 50,295 ids. Exact: the
                same ids as transformers' CodeGenTokenizer. GPT-2's ranks are downloaded once and cached by tiktoken.
    "bytes"     256 bytes and <|endoftext|>, 257 ids. Needs no download; the demo's.

    encoding = load_tokenizer("codegen")
    encoding.encode_ordinary("    return x")   # [50284, 7783, 2124]: four spaces are one token
    encoding.eot_token                         # 50256, <|endoftext|>: between documents, and where generation stops

encode_ordinary never returns <|endoftext|>, even for a text that spells it out: training data cannot forge a document's end.
"""
import json
import os

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
    else:
        raise SystemExit(f"no tokenizer is called {name!r}: 'codegen' and 'bytes' are")
    eot = 256 if name == "bytes" else 50256
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
