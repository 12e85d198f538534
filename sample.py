"""
Complete code with a trained model.

    python sample.py out/phi1/ckpt.pt --prompt "def fibonacci(n):"
    python sample.py phi-1/ --prompt "def fibonacci(n):" --temperature 0            # a Hugging Face folder, greedy
    python sample.py out/phi1/ckpt.pt --file prompt.py -n 4 --temperature 0.8 --top_p 0.95 --seed 7
    echo "import os" | python sample.py out/phi1/ckpt.pt                            # the prompt from standard input

`generate` below is the one generation engine of the project; the evaluation uses it too.
"""
import argparse
import codecs
import collections
import os
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint (ckpt.pt, best.pt, step_N.pt) or a Hugging Face folder")
    parser.add_argument("--prompt", help="the text to continue")
    parser.add_argument("--file", help="a file with the text to continue; without --prompt and --file, standard input is read")
    parser.add_argument("-n", "--num_samples", type=int, default=1, help="how many continuations (1)")
    parser.add_argument("--max_new_tokens", type=int, default=256, help="the longest continuation (256)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 always takes the most probable token (0.8)")
    parser.add_argument("--top_k", type=int, default=0, help="sample among the k most probable tokens only; 0: among all (0)")
    parser.add_argument("--top_p", type=float, default=0.95, help="sample among the fewest tokens that have this share (0.95)")
    parser.add_argument("--seed", type=int, default=1337, help="same seed, same text, whatever the batch (1337)")
    parser.add_argument("--batch_size", type=int, default=16, help="samples generated at once (16)")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--dtype", default="auto", choices=("auto", "bf16", "fp16", "fp32"),
                        help="of the weights; auto: bf16 on a GPU, else fp32")
    args = parser.parse_args()
    for name, low, high in (("num_samples", 1, None), ("max_new_tokens", 1, None), ("temperature", 0, None), ("top_k", 0, None),
                            ("top_p", 0, 1), ("batch_size", 1, None), ("seed", 0, None)):
        value = getattr(args, name)
        if not value >= low or (high and value > high) or value == float("inf"):
            parser.error(f"--{name} is {value}; it must be at least {low}" + (f" and at most {high}" if high else ""))
    return args


if __name__ == "__main__":
    args = parse_args()  # before torch is imported, so that --help and a mistyped option answer at once

import numpy as np
import torch

from model import KVCache, load_model, pick_device
from tokenizer import load_tokenizer


def choose(logits, temperature, top_k, top_p, uniform):
    """One token id per row. logits (B, V) fp32; uniform (B,), one random number in [0, 1) per row.

    Keeps the top_k most probable tokens (0: all), of those the fewest that reach a share of top_p, in the order and with the
    meaning that transformers gives them. The id is where the cumulative probability passes the row's number: a draw from the
    distribution with a number that belongs to the row alone. Ids stay in the vocabulary's order and sums are in fp64, so
    that rounding, which differs with the size of a batch, does not shift one token's interval to another.
    """
    if temperature == 0:
        return logits.argmax(-1)
    exact = torch.float32 if logits.device.type == "mps" else torch.float64  # mps has no fp64
    probs = (logits.to(exact) / temperature).softmax(-1)
    if 0 < top_k < probs.size(-1):
        probs = probs * (probs >= probs.topk(top_k).values[:, -1:])
    if top_p < 1:
        ordered = probs.sort(descending=True).values
        before = ordered.cumsum(-1) - ordered                   # the probability of all more probable tokens
        kept = before < top_p * ordered.sum(-1, keepdim=True)
        kept[:, 0] = True
        probs = probs * (probs >= ordered.masked_fill(~kept, 2).amin(-1, keepdim=True))
    cumulative = probs.cumsum(-1)
    return torch.searchsorted(cumulative, uniform[:, None].to(exact) * cumulative[:, -1:], right=True).squeeze(-1)


@torch.inference_mode()
def generate(model, encoding, prompts, n=1, max_new_tokens=256, temperature=0.8, top_k=0, top_p=0.95, seed=1337, batch_size=16,
             stop=None, todo=None):
    """Continue every prompt n times. prompts: lists of token ids, not empty and shorter than the context.

    Yields (i, j, token) as tokens are made, for sample j of prompt i, and (i, j, None) where that sample has ended: at
    <|endoftext|> (which is not yielded), after max_new_tokens, at the end of the context, or where stop(i, j, tokens so far)
    is true. Up to batch_size samples run at once, as rows of their own length; where one ends, the next takes its place. A
    prompt is read once for its n samples. Sample (i, j) has its own random numbers, a function of (seed, i, j), so in fp32
    the text does not depend on batch_size. Ids that the tokenizer does not have (the embedding is padded) are never chosen.
    todo: the samples (i, j) to make, those of a prompt one after the other, where not all are wanted: a rank's share, or what
    an interrupted run has left. Their text is the same as among all.
    """
    device, context, eot = model.cos.device, model.config.context, encoding.eot_token
    max_new_tokens = min(max_new_tokens, context)
    waiting = collections.deque([(i, j) for i in range(len(prompts)) for j in range(n)] if todo is None else todo)
    sizes = {i: len(prompts[i]) for i, _ in waiting}
    for i, size in sizes.items():
        if not 0 < size < context:
            raise ValueError(f"prompt {i} has {size:,} tokens; 1 to {context - 1:,} leave room to generate one")
    batch_size = min(batch_size, len(waiting))
    room = min(context, max(sizes.values(), default=0) + max_new_tokens)
    cache = KVCache(model.config, batch_size, room, device, model.lm_head.weight.dtype)
    uniform = torch.zeros(batch_size, max_new_tokens, device=device)
    rows = []                    # the rows of the cache in use, from 0 on: (i, j, tokens made)
    logits = []                  # (1, V) or (B, V) tensors: of the next token of every row, in order

    def next_logits(start, idx, lengths):
        """Run idx (B, T) through rows start.. of the cache, which hold `lengths` tokens; logits (B, V) after the last."""
        cache.lengths[start:start + len(idx)] = torch.tensor(lengths, device=device)
        hidden = model.hidden(torch.tensor(idx, device=device), cache.rows(start, start + len(idx), used=max(lengths)))
        return model.lm_head(hidden[:, -1])[:, :encoding.n_vocab].float()

    while waiting or rows:
        while waiting and len(rows) < batch_size:  # the next sample enters
            i, j = waiting.popleft()
            twin = next((row for row, (other, _, _) in enumerate(rows) if other == i), None)
            if twin is None:
                prompt_logits = next_logits(len(rows), [prompts[i]], [0])
            else:                                  # another sample's row begins with the same prompt
                cache.copy_row(twin, len(rows), len(prompts[i]))
            logits.append(prompt_logits)
            if temperature:
                stream = np.random.default_rng((seed, i, j)).random(max_new_tokens, dtype=np.float32)
                uniform[len(rows)] = torch.from_numpy(stream)
            rows.append((i, j, []))

        numbers = uniform[range(len(rows)), [len(made) for _, _, made in rows]]
        tokens = choose(torch.cat(logits), temperature, top_k, top_p, numbers).tolist()
        ended = []
        for row, ((i, j, made), token) in enumerate(zip(rows, tokens)):
            if token != eot:
                made.append(token)
                yield i, j, token
            if (token == eot or len(made) == max_new_tokens or len(prompts[i]) + len(made) == context
                    or (stop is not None and stop(i, j, made))):
                yield i, j, None
                ended.append(row)
        for row in reversed(ended):                # the last row moves into the gap
            i, _, made = rows[-1]
            if row < len(rows) - 1:
                cache.copy_row(len(rows) - 1, row, len(prompts[i]) + len(made))
                uniform[row], rows[row] = uniform[len(rows) - 1], rows[-1]
            rows.pop()
        logits = []
        if rows:                                   # every other row goes on by one token
            logits = [next_logits(0, [[made[-1]] for _, _, made in rows],
                                  [len(prompts[i]) + len(made) - 1 for i, _, made in rows])]


def main(args):
    if args.prompt is not None and args.file is not None:
        raise SystemExit("--prompt and --file are both given: one prompt, please")
    device = pick_device(args.device)
    dtype = {"auto": torch.bfloat16 if device.type == "cuda" else torch.float32, "bf16": torch.bfloat16,
             "fp16": torch.float16, "fp32": torch.float32}[args.dtype]
    model, name = load_model(args.model, device, dtype)
    encoding = load_tokenizer(name)
    if args.prompt is not None:
        prompt = args.prompt
    else:
        try:
            with open(args.file, "rb") if args.file else sys.stdin.buffer as f:
                prompt = f.read().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise SystemExit(f"{args.file or 'standard input'} cannot be read: {error}")
    ids = encoding.encode_ordinary(prompt) or [encoding.eot_token]  # no prompt: a new document
    if len(ids) >= model.config.context:
        raise SystemExit(f"the prompt has {len(ids):,} tokens and the model's context is {model.config.context:,}: "
                         f"shorten it to {model.config.context - 1:,} or less")

    made = [[] for _ in range(args.num_samples)]  # the samples' tokens that wait to be printed
    done = [False] * args.num_samples
    current, text = -1, None                      # the sample being printed, and its decoder; later ones run in the same batch
    for _, j, token in generate(model, encoding, [ids], args.num_samples, args.max_new_tokens, args.temperature, args.top_k,
                                args.top_p, args.seed, args.batch_size):
        if token is None:
            done[j] = True
        else:
            made[j].append(token)
        while current < args.num_samples:
            if current >= 0:
                data = b"".join(map(encoding.decode_single_token_bytes, made[current]))
                made[current] = []
                sys.stdout.write(text.decode(data, final=done[current]))
                sys.stdout.flush()
                if not done[current]:
                    break
                print()
            current += 1
            if current < args.num_samples:
                text = codecs.getincrementaldecoder("utf-8")("replace")  # a character may be split between tokens
                if args.num_samples > 1:
                    print(f"--- sample {current + 1} of {args.num_samples}")
                sys.stdout.write(prompt)


if __name__ == "__main__":
    try:
        main(args)
    except KeyboardInterrupt:
        print()
        raise SystemExit(130)
    except BrokenPipeError:  # as in `python sample.py ... | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
