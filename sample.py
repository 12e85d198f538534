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
from dataclasses import dataclass


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
    for name, low, high in (("num_samples", 1, 1_000_000), ("max_new_tokens", 1, None), ("temperature", 0, None), ("top_k", 0, None),
                            ("top_p", 0, 1), ("batch_size", 1, None), ("seed", 0, None)):
        value = getattr(args, name)
        if not value >= low or (high and value > high) or value == float("inf"):
            parser.error(f"--{name} is {value}; it must be at least {low}" + (f" and at most {high}" if high else ""))
    return args


if __name__ == "__main__":
    args = parse_args()  # before torch is imported, so that --help and a mistyped option answer at once

import numpy as np
import torch

from model import DTYPES, KVCache, load_model, memory_is_full, packed_weights, pick_device
from tokenizer import load_tokenizer


def choose(logits, temperature, top_k, top_p, uniform):
    """One token id per row. logits (B, V) fp32; uniform (B,), one random number in [0, 1) per row.

    Keeps the top_k most probable tokens (0: all), of those the fewest that reach a share of top_p, in the order and with the
    meaning that transformers gives them, but of equally probable tokens all or none. The id is where the cumulative
    probability passes the row's number: a draw from the distribution with a number that belongs to the row alone. Ids stay in
    the vocabulary's order and sums are in fp64, so that rounding, which differs with the size of a batch, does not shift one
    token's interval to another.
    """
    if temperature == 0:
        return logits.argmax(-1)
    exact = torch.float32 if logits.device.type == "mps" else torch.float64  # mps has no fp64
    probs = (logits.to(exact) / max(temperature, 1e-6)).softmax(-1)  # below, as at 0, and nothing overflows
    if 0 < top_k < probs.size(-1):
        probs = probs * (probs >= probs.topk(top_k).values[:, -1:])
    if top_p < 1:
        share, ordered = top_p * probs.sum(-1, keepdim=True), None
        if probs.size(-1) > 1024 and not probs.is_cuda:         # mostly enough, without sorting 51,200; a CUDA graph cannot look
            ordered = probs.topk(1024).values
        if ordered is None or (ordered.sum(-1, keepdim=True) < share).any():
            ordered = probs.sort(descending=True).values
        kept = ordered.cumsum(-1) - ordered < share             # the probability of all more probable tokens
        kept[:, 0] = True
        probs = probs * (probs >= ordered.masked_fill(~kept, 2).amin(-1, keepdim=True))  # 2 is above all: the least that is kept
    cumulative = probs.cumsum(-1)
    return torch.searchsorted(cumulative, uniform[:, None].to(exact) * cumulative[:, -1:], right=True).squeeze(-1)


class Batch:
    """What the device holds of the rows being generated, and the step that gives each its next token.

    Everything has a fixed address, so that on a GPU a step is recorded once as a CUDA graph and replayed: 24 layers of small
    kernels start faster than Python can ask for them one by one. A graph is for one number of rows and one window. So that
    few are needed, rows are rounded up to a power of two (the rows too many compute what nobody reads) and windows to 256.
    """
    def __init__(self, model, rows, room, pick, fixed):
        device = model.cos.device
        self.model, self.pick, self.room, self.fixed = model, pick, room, fixed
        self.cache = KVCache(model.config, rows, room, device, model.lm_head.weight.dtype)
        self.tokens = torch.zeros(rows, dtype=torch.long, device=device)  # the last of each row, not in the cache yet
        self.uniform = torch.zeros(rows, room, device=device)             # the random number for the token at each position
        self.graphs, self.pool = {}, None                                 # {(rows, window): graph; None after its first step}

    def read(self, start, prompts):
        """Read prompts, the longest first, into the rows from start on; the logits (V,) after each. A call reads several,
        padded on the right, where no token looks; new tokens overwrite that part of the cache. It has at most 4,096 tokens (or
        one longer prompt), and no prompt shorter than half the longest: that would be mostly padding."""
        logits = []
        while prompts:
            longest = len(prompts[0])
            group = [prompt for prompt in prompts[:max(1, 4096 // longest)] if 2 * len(prompt) >= longest]
            padded = torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in group], device=self.tokens.device)
            cache = self.cache.rows(start, start + len(group), window=0)
            cache.lengths.zero_()
            hidden = self.model.hidden(padded, cache)
            logits += self.model.lm_head(hidden[range(len(group)), [len(prompt) - 1 for prompt in group]])
            start, prompts = start + len(group), prompts[len(group):]
        return logits

    def step(self, rows, window):
        """Run the last token of the first rows through the model, and choose the next."""
        cache = self.cache.rows(0, rows, window)
        hidden = self.model.hidden(self.tokens[:rows, None].clamp(min=0), cache)  # of -1 the program ends soon
        cache.lengths.add_(1).clamp_(max=self.room - 1)                   # rows that nobody reads stay in the cache, too
        numbers = self.uniform[:rows].gather(1, cache.lengths[:, None]).squeeze(1)
        self.tokens[:rows] = self.pick(self.model.lm_head(hidden[:, -1]), numbers)

    def next(self, rows, longest):
        """step(), where `fixed` in few shapes and on a GPU from a graph. longest: the most tokens that one of the rows has, the new one
        included."""
        if not self.fixed:
            return self.step(rows, longest)
        shape = min(1 << (rows - 1).bit_length(), len(self.tokens)), min(-(-longest // 256) * 256, self.room)
        if self.tokens.device.type != "cuda" or shape not in self.graphs:
            self.step(*shape)                                             # the first time eagerly: this loads the kernels
            self.graphs[shape] = None
            return
        if self.graphs[shape] is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool):                 # records, and runs nothing
                self.step(*shape)
            self.graphs[shape], self.pool = graph, graph.pool()           # one after the other, they can share their memory
        self.graphs[shape].replay()

    def move(self, source, target, length):
        """Put a row of this many tokens in the place of another."""
        self.cache.copy_row(source, target, length)
        for tensor in (self.cache.lengths, self.tokens, self.uniform):
            tensor[target] = tensor[source]


@dataclass
class Row:
    """A sample that is being generated."""
    i: int                        # its prompt
    j: int                        # which of the prompt's samples it is
    made: list                    # its tokens so far
    length: int                   # tokens in the cache, once all steps that were asked for are done
    after: torch.Tensor = None    # logits (V,) after the prompt, for the prompt's other samples, too
    ended: bool = False


@torch.inference_mode()
def generate(model, encoding, prompts, n=1, max_new_tokens=256, temperature=0.8, top_k=0, top_p=0.95, seed=1337, batch_size=16,
             stop=None, todo=None, fixed=None):
    """Continue every prompt n times. prompts: lists of token ids, not empty and shorter than the context.

    Yields (i, j, token) as tokens are made, for sample j of prompt i, and (i, j, None) where that sample has ended: at
    <|endoftext|> (which is not yielded), after max_new_tokens, at the end of the context, or where stop(i, j, tokens so far)
    is true. Ends the program where the model's logits are not numbers.

    Up to batch_size samples run at once, as rows of their own length; where one ends, the next takes its place. A prompt is read
    once for its n samples. Sample (i, j) has its own random numbers, a function of (seed, i, j), so in fp32 its text practically
    does not depend on batch_size. Ids that the tokenizer does not have (the embedding is padded) are never chosen.
    todo: the samples (i, j) to make, those of a prompt one after the other, where not all are wanted: a rank's share, or what
    an interrupted run has left. Their text is the same as among all.
    fixed: steps in few fixed shapes, the next one started before the tokens of the last are looked at, so that a device that
    works on its own never waits for Python; None: on a GPU only. It changes the speed, not the text.
    """
    device, context, eot = model.cos.device, model.config.context, encoding.eot_token
    fixed = device.type == "cuda" if fixed is None else fixed
    max_new_tokens = min(max_new_tokens, context)
    waiting = collections.deque([(i, j) for i in range(len(prompts)) for j in range(n)] if todo is None else todo)
    sizes = {i: len(prompts[i]) for i, _ in waiting}
    for i, size in sizes.items():
        if not 0 < size < context:
            raise ValueError(f"prompt {i} has {size:,} tokens; 1 to {context - 1:,} leave room to generate one")
    room = min(context, max(sizes.values(), default=0) + max_new_tokens)

    def pick(logits, uniform):
        logits = logits[:, :encoding.n_vocab].float()
        ids = choose(logits, temperature, top_k, top_p, uniform)
        return ids.masked_fill(~logits.amax(-1).isfinite(), -1)  # -1: not numbers, which ends the program when the token is looked at

    batch = Batch(model, min(batch_size, len(waiting)), room, pick, fixed)
    rows = []                      # the rows of the batch in use, from 0 on
    asked = collections.deque()    # (tokens, their rows, event) of steps whose tokens were not looked at yet

    def ask(start):
        """Note the tokens of rows start.. to be looked at later; a GPU copies them to the host, and sets the event, when it gets there."""
        tokens = batch.tokens[start:len(rows)].to("cpu", copy=True, non_blocking=device.type == "cuda")
        event = None
        if device.type == "cuda":
            event = torch.cuda.Event()
            event.record()
        asked.append((tokens, rows[start:], event))

    def enter():
        """Give free rows to the next samples, and each its first token. `new` read their prompts, their `twins` copy such a row."""
        start, new, twins = len(rows), [], []
        while waiting and start + len(new) + len(twins) < len(batch.tokens):
            i, j = waiting.popleft()
            (twins if any(row.i == i for row in rows + new) else new).append(Row(i, j, [], sizes[i]))
        new.sort(key=lambda row: -row.length)
        for row, logits in zip(new, batch.read(start, [prompts[row.i] for row in new])):
            row.after = logits
        entered = new + twins
        rows.extend(entered)
        for at, row in enumerate(entered, start):
            if row.after is None:
                source = next(source for source, twin in enumerate(rows) if twin.i == row.i)
                batch.cache.copy_row(source, at, row.length)
                row.after = rows[source].after
            batch.cache.lengths[at] = row.length
            if temperature:
                numbers = np.random.default_rng((seed, row.i, row.j)).random(max_new_tokens, dtype=np.float32)[:room - row.length]
                batch.uniform[at, row.length:row.length + len(numbers)] = torch.from_numpy(numbers)
        first = batch.uniform[range(start, len(rows)), [row.length for row in entered]]
        batch.tokens[start:len(rows)] = pick(torch.stack([row.after for row in entered]), first)
        ask(start)

    with packed_weights(model, len(batch.tokens)):
        while waiting or rows:
            if waiting and len(rows) < len(batch.tokens):
                enter()
            else:                                             # every row goes on by one token
                for row in rows:
                    row.length += 1
                batch.next(len(rows), max(row.length for row in rows))
                ask(0)
            if len(asked) <= fixed:                           # a GPU already works on the next step while we look at this one
                continue

            tokens, theirs, event = asked.popleft()
            if event:
                event.synchronize()
            for row, token in zip(theirs, tokens.tolist()):
                if row.ended:                                 # in the step before, when this one was already under way
                    continue
                if token < 0:
                    fp16 = model.lm_head.weight.dtype == torch.float16
                    raise SystemExit("the model's logits are not numbers: its weights are damaged"
                                     + (", or too large for fp16: try --dtype fp32" if fp16 else ", or its training diverged"))
                if token != eot:
                    row.made.append(token)
                    yield row.i, row.j, token
                if (token == eot or len(row.made) == max_new_tokens or sizes[row.i] + len(row.made) == context
                        or (stop is not None and stop(row.i, row.j, row.made))):
                    yield row.i, row.j, None
                    row.ended = True
            for at in reversed(range(len(rows))):
                if rows[at].ended:                            # the last row moves into the gap
                    last = rows.pop()
                    if at < len(rows):
                        batch.move(len(rows), at, last.length)
                        rows[at] = last


def main(args):
    if args.prompt is not None and args.file is not None:
        raise SystemExit("--prompt and --file are both given: one prompt, please")
    device = pick_device(args.device)
    dtype = DTYPES[("bf16" if device.type == "cuda" else "fp32") if args.dtype == "auto" else args.dtype]
    model, name = load_model(args.model, device, dtype)
    encoding = load_tokenizer(name)
    if args.prompt is not None:
        prompt = args.prompt
    else:
        if not args.file and not sys.stdin:
            raise SystemExit("standard input is closed: give the text with --prompt or --file")
        try:
            with open(args.file, "rb") if args.file else sys.stdin.buffer as f:
                prompt = f.read().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise SystemExit(f"{args.file or 'standard input'} cannot be read: {error}")
    try:
        ids = encoding.encode_to_numpy(prompt, disallowed_special=()).tolist() or [encoding.eot_token]  # no prompt: a new document
    except UnicodeEncodeError:
        raise SystemExit("the prompt is not valid UTF-8")
    except ValueError:  # tiktoken's stack ends; encode_ordinary would end the program
        raise SystemExit("the prompt has a run of several 100,000 white space characters, which cannot be tokenized")
    if len(ids) >= model.config.context:
        raise SystemExit(f"the prompt has {len(ids):,} tokens and the model's context is {model.config.context:,}: "
                         f"shorten it to {model.config.context - 1:,} or less")

    tokens = generate(model, encoding, [ids], args.num_samples, args.max_new_tokens, args.temperature, args.top_k, args.top_p, args.seed,
                      args.batch_size)
    text = None  # the decoder of the sample that is being printed: a character may be split between tokens
    for j, token in one_after_the_other(tokens, args.num_samples):
        if text is None:
            text = codecs.getincrementaldecoder("utf-8")("replace")
            if args.num_samples > 1:
                print(f"--- sample {j + 1} of {args.num_samples}")
            sys.stdout.write(prompt)
        data = b"" if token is None else encoding.decode_single_token_bytes(token)
        sys.stdout.write(text.decode(data, final=token is None))
        sys.stdout.flush()
        if token is None:
            print()
            text = None


def one_after_the_other(tokens, n):
    """(j, token) of what generate yields for the n samples of one prompt, sample by sample: what comes of later ones waits."""
    waiting, current = [collections.deque() for _ in range(n)], 0
    for _, j, token in tokens:
        waiting[j].append(token)
        while current < n and waiting[current]:
            token = waiting[current].popleft()
            yield current, token
            current += token is None


if __name__ == "__main__":
    try:
        if not sys.stdout:
            raise SystemExit("standard output is closed: nobody would see the text")
        sys.stdout.reconfigure(errors="replace")  # what the terminal's encoding lacks is a ?
        main(args)
    except KeyboardInterrupt:
        print()
        raise SystemExit(130)
    except RuntimeError as error:
        if not memory_is_full(error):
            raise
        raise SystemExit(f"the memory is full: try a --batch_size below {args.batch_size}, or fewer --max_new_tokens")
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # which is no mistake, as in `python sample.py ... | head -1`
            raise SystemExit(f"{error.filename or 'standard output'}: {error.strerror}")
