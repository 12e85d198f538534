"""
How fast this project is on your machine. Every row is measured with the code that does the real work, on random data.

    python bench.py train configs/demo.py                                         # any setting: --micro_batch_size=8 --compile=False
    python bench.py train configs/demo.py --against ../nanoGPT --against transformers     # equal shape and batch, in turns
    python bench.py sample out/demo/exercises/best.pt --prompt_tokens 32 --new_tokens 64   # or a settings file, for random weights of its shape
    python bench.py sample configs/phi1_small.py --dtype bf16 --batch 1 16 --against transformers
    python bench.py sample configs/demo.py --context=512 --against ../nanoGPT     # its context: room for a prompt and 256 new tokens
    python bench.py tokenize FOLDER --against ../nanoGPT
    python bench.py sandbox
    python bench.py loader data/demo/web

A table on the screen, then one JSON line per row with the conditions; `sample` prints both for each number of rows at once.
A GPU's clock is read after it has finished its work.
"""
import argparse
import contextlib
import copy
import functools
import importlib.util
import io
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time


def parse_args():
    """(args, the settings of a training run that were given as --name=value)"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("train", help="tokens per second of a training step")
    p.add_argument("config", help="a settings file of train.py; --name=value wins over it")
    p.add_argument("--accumulation", type=int, default=1, help="micro-batches per step; the file's batch takes too long (1)")
    p.add_argument("--steps", type=int, default=20, help="steps that are measured, after two that are not (20)")
    p.add_argument("--attention", choices=("cudnn", "flash", "efficient", "math"), help="allow this kernel only (torch's choice)")
    p.add_argument("--against", action="append", default=[], metavar="PEER", help="a checkout of nanoGPT, or the word transformers")
    p.add_argument("--rounds", type=int, default=5, help="turns of each that the steps are dealt to, so that all meet the same noise (5)")
    p = commands.add_parser("sample", help="tokens per second of generation")
    p.add_argument("model", help="a checkpoint, a Hugging Face folder, or a settings file of train.py: random weights of that shape, in which --name=value wins")
    p.add_argument("--batch", type=int, nargs="+", default=[1, 16, 164], help="rows at once (1 16 164)")
    p.add_argument("--prompt_tokens", type=int, default=128, help="random tokens that each row begins with (128)")
    p.add_argument("--new_tokens", type=int, default=256, help="tokens made after them (256)")
    p.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (0); above, top_p is 0.95, which nanoGPT does not have")
    p.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    p.add_argument("--dtype", default="auto", choices=("auto", "bf16", "fp16", "fp32"), help="of all weights; auto: bf16 on a GPU, else fp32")
    p.add_argument("--compile", action="store_true", help="compile our layers first: fewer and larger kernels")
    p.add_argument("--against", action="append", default=[], metavar="PEER", help="a checkout of nanoGPT, or the word transformers")
    p.add_argument("--rounds", type=int, default=3, help="turns of each, of which the median counts, after one that does not (3)")
    p = commands.add_parser("tokenize", help="MB per second of prepare_data.py tokenize")
    p.add_argument("folder", help="a folder with .py, .txt or .md files")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (number of CPU cores)")
    p.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    p.add_argument("--against", action="append", default=[], metavar="PEER", help="a checkout of nanoGPT, whose prepare.py needs the package datasets")
    p = commands.add_parser("sandbox", help="programs per second")
    p.add_argument("--workers", type=int, default=os.cpu_count(), help="programs judged at once (number of CPU cores)")
    p = commands.add_parser("loader", help="batches per second")
    p.add_argument("data", help="a folder that prepare_data.py tokenize made")
    p.add_argument("--context", type=int, default=2048, help="tokens of a sequence (2048)")
    p.add_argument("--micro_batch_size", type=int, default=16, help="sequences of a batch (16)")
    p.add_argument("--tok_per_s", type=float, default=6e4, help="a training step's speed, to compare with (60,000: phi-1 on one H100)")
    args, settings = parser.parse_known_args()
    for name in ("accumulation", "steps", "rounds", "batch", "workers", "context", "micro_batch_size"):
        value = getattr(args, name, 1)
        if min(value if isinstance(value, list) else [value]) < 1:
            parser.error(f"--{name} is {value}; it must be at least 1")
    if not 0 <= getattr(args, "temperature", 0) < float("inf"):
        parser.error(f"--temperature is {args.temperature}; it must be at least 0")
    if settings and (args.command not in ("train", "sample") or not all(s.startswith("--") and "=" in s for s in settings)):
        parser.error(f"unknown: {' '.join(settings)}")
    return args, settings


def report(rows):
    """The rows as a table, numbers with three digits; then as JSON with what they share."""
    shown = [{name: number(value) for name, value in row.items() if name != "settings"} for row in rows]
    names = list(dict.fromkeys(name for row in shown for name in row))
    cells = [names] + [[row.get(name, "") for name in names] for row in shown]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    for row in rows:
        print(json.dumps({"command": sys.argv[1], **row, "machine": platform.platform(), "cores": os.cpu_count()}), flush=True)


def number(value):
    return str(value) if not isinstance(value, float) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


# ---- train -----------------------------------------------------------------------------------------------------------

def train(args, *settings):
    import numpy as np
    import torch
    from model import flops_per_token
    from train import TrainConfig, Windows, load_config, peak_flops, set_up_machine
    config, _ = load_config(TrainConfig, [args.config, *settings, "--out_dir=none"])
    config.batch_size = config.micro_batch_size * args.accumulation
    machine, shape = set_up_machine(config), config.model_config()
    if args.attention:
        torch._functorch.config.enable_autograd_cache = False  # on disk, from runs with other kernels: its keys do not name them
        for kernel in ("cudnn", "flash", "mem_efficient", "math"):
            getattr(torch.backends.cuda, f"enable_{kernel}_sdp")(args.attention in kernel)
    device, step_tokens = machine.device, config.batch_size * shape.context
    flops, peak = flops_per_token(shape, shape.context), peak_flops(device)
    print(f"machine  {machine.note}\n"
          f"shape    {shape.n_layer} layers, width {shape.n_embd}, {shape.n_head} heads, vocabulary {shape.vocab_size}, dropout {shape.dropout}\n"
          f"step     {args.accumulation} micro-batches x {config.micro_batch_size} sequences x {shape.context} = {step_tokens:,} random tokens\n"
          f"flops    {flops / 1e9:.4g} GFLOP per token = 6 x weights of matrix products + 12 x layers x width x context; peak of this device: "
          + (f"{peak / 1e12:.0f} TFLOP/s" if peak else "not known, so no MFU"), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "train.bin")  # random tokens, read through the real loader
        np.random.default_rng(0).integers(shape.vocab_size, size=64 * step_tokens, dtype=np.uint16).tofile(path)
        data = Windows(path, shape.context, config.seed)
        spent = {"loader": 0.0, "optimizer": 0.0}  # seconds in parts of our step
        steps = {"ours": our_step(shape, config, machine, data, spent)}
        for peer in args.against:
            make = transformers_step if peer == "transformers" else nanogpt_step
            steps[os.path.basename(os.path.normpath(peer))] = make(peer, shape, config, machine, data)
        rows, first = [], {}
        for name, step in steps.items():
            first[name] = seconds_of(step, 1, device)  # compiles, and allocates AdamW's moments
            torch._functorch.config.ban_recompute_materialized_backward = True  # torch's default, for the peers
        per_round = max(1, args.steps // args.rounds)
        times = {name: [] for name in steps}
        for name, step in steps.items():
            seconds_of(step, 2, device)
        spent.update(loader=0.0, optimizer=0.0)
        for _ in range(args.rounds):  # in turns, so that what else happens on the machine happens to all
            for name, step in steps.items():
                times[name].append(seconds_of(step, per_round, device) / per_round)
        memory = peak_memory(device)
        for name, step in steps.items():
            seconds = statistics.median(times[name])
            row = {"trainer": name, "tok/s": step_tokens / seconds, "ms/step": 1000 * seconds, "best ms": 1000 * min(times[name]), "first step s": first[name],
                   "MFU": f"{step_tokens / seconds * flops / peak:.1%}" if peak else "n/a"}
            if name == "ours":
                row |= {part: f"{value / sum(times[name]) / per_round:.2%}" for part, value in spent.items()}
                row |= {"memory GB": memory, "attention": attention_backend(step)}
            else:
                row["ours is"] = f"{seconds / statistics.median(times['ours']):.2f} x, best {min(times[name]) / min(times['ours']):.2f} x"
            rows.append(row | {"settings": {**vars(config), "machine": machine.note, "seconds per step": times[name]}})
    report(rows)


def our_step(shape, config, machine, data, spent):
    """A function that makes train.py's step number i, and adds the seconds spent in the loader and in AdamW to `spent`."""
    import torch
    from model import Phi
    from train import lr_at, make_optimizer, update, wrap
    torch.manual_seed(config.seed)
    raw_model = Phi(shape).to(machine.device).train()
    optimizer, model = make_optimizer(raw_model, config), wrap(raw_model, machine)
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.dtype == torch.float16)
    started, read = [], data.read

    def timed_read(starts):
        start = time.perf_counter()
        tokens = read(starts)
        spent["loader"] += time.perf_counter() - start
        return tokens

    def before(*_):
        started.append(clock(machine.device))

    def after(*_):
        spent["optimizer"] += clock(machine.device) - started.pop()

    loader = copy.copy(data)
    loader.read = timed_read
    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
    return lambda i: update(model, optimizer, scaler, loader, config, machine, i, lr_at(config, i))


def nanogpt_step(path, shape, config, machine, data):
    """The step of nanoGPT's train.py around its model, as its README runs it: fp32 without compile on a CPU, else bf16 with."""
    import torch
    model = load_nanogpt(path, shape).to(machine.device)
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = model.configure_optimizers(config.weight_decay, config.learning_rate, (config.beta1, config.beta2), machine.device.type)
    if machine.device.type == "cuda":
        model = torch.compile(model)
    return peer_step(model, lambda x, y: model(x, y)[1], optimizer, config, machine, data)


def transformers_step(_, shape, config, machine, data):
    """A plain training step around transformers' Phi: eager, fp32 on a CPU and bf16 on a GPU."""
    import torch
    model = load_transformers(shape).to(machine.device).train()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)  # its Trainer's default
    return peer_step(model, lambda x, y: model(input_ids=x, labels=x).loss, optimizer, config, machine, data)


def load_nanogpt(path, shape):
    """nanoGPT's model at our shape, with random weights."""
    spec = importlib.util.spec_from_file_location("nanogpt", in_checkout(path, "model.py"))
    nanogpt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nanogpt)
    with contextlib.redirect_stdout(io.StringIO()):
        return nanogpt.GPT(nanogpt.GPTConfig(block_size=shape.context, vocab_size=shape.vocab_size, n_layer=shape.n_layer, n_head=shape.n_head,
                                             n_embd=shape.n_embd, dropout=shape.dropout, bias=False))


def in_checkout(path, name):
    file = os.path.join(path, name)
    if not os.path.exists(file):
        raise SystemExit(f"{file} is not there: --against takes a checkout of nanoGPT (git clone https://github.com/karpathy/nanoGPT), "
                         "or, of train and sample, the word transformers")
    return file


def load_transformers(shape):
    """transformers' Phi at our shape, with random weights."""
    try:
        from transformers import PhiConfig, PhiForCausalLM
    except ImportError:
        raise SystemExit("--against transformers needs the package: pip install transformers")
    return PhiForCausalLM(PhiConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.n_embd, intermediate_size=shape.n_inner, num_hidden_layers=shape.n_layer,
        num_attention_heads=shape.n_head, max_position_embeddings=shape.context, attention_dropout=shape.dropout, resid_pdrop=shape.dropout,
        partial_rotary_factor=shape.rotary_dim / (shape.n_embd // shape.n_head), bos_token_id=None, eos_token_id=None))


def peer_step(model, loss_of, optimizer, config, machine, data):
    import torch
    from train import sequence_numbers
    autocast = torch.autocast("cuda", machine.dtype, enabled=machine.device.type == "cuda")

    def step(i):
        for micro in range(config.batch_size // config.micro_batch_size):
            tokens = data.read([data.start(n) for n in sequence_numbers(config, i, micro)]).to(machine.device)
            with autocast:
                loss = loss_of(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def clock(device):
    """Seconds, after the device has done all that was asked of it."""
    if device.type in ("cuda", "mps"):
        import torch
        getattr(torch, device.type).synchronize()
    return time.perf_counter()


def seconds_of(step, count, device):
    start = clock(device)
    for i in range(count):
        step(i)
    return clock(device) - start


def peak_memory(device):
    """GB: what torch allocated at most on a GPU; on a CPU the most that this process had resident."""
    if device.type == "cuda":
        import torch
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def attention_backend(step):
    """The kernel that scaled_dot_product_attention chose, from a profile of one step: cudnn, flash, efficient, math."""
    from torch.profiler import profile
    with profile() as recorded:
        step(0)
    names = (re.match(r"aten::_scaled_dot_product_(?:attention_)?(cudnn|flash|efficient|math|fused)", e.key) for e in recorded.key_averages())
    return ", ".join(sorted({match[1] for match in names if match})) or "none of torch's"


# ---- sample ----------------------------------------------------------------------------------------------------------

def sample(args, *settings):
    import torch
    from model import DTYPES, pick_device
    device = pick_device(args.device)
    dtype = DTYPES[("bf16" if device.type == "cuda" else "fp32") if args.dtype == "auto" else args.dtype]
    model = model_to_sample(args.model, settings, device, dtype)
    shape, size = model.config, dtype.itemsize
    if args.prompt_tokens + args.new_tokens > shape.context or args.prompt_tokens < 1 or args.new_tokens < 2:
        raise SystemExit(f"--prompt_tokens {args.prompt_tokens} and --new_tokens {args.new_tokens} must be at least 1 and 2, and fit in the "
                         f"model's context of {shape.context}")
    weights = sum(p.numel() for p in model.parameters()) - model.embedding.weight.numel()
    row = 2 * shape.n_layer * shape.n_embd * (args.prompt_tokens + args.new_tokens // 2)
    bandwidth = memory_bandwidth(device)
    print(f"machine  {device}, torch {torch.__version__}, {torch.get_num_threads()} threads, {dtype} of weights and cache\n"
          f"shape    {shape.n_layer} layers, width {shape.n_embd}, {shape.n_head} heads, vocabulary {shape.vocab_size}, context {shape.context}\n"
          f"rows     {args.prompt_tokens} random tokens, then {args.new_tokens} new ones, temperature {args.temperature}\n"
          f"memory   {bandwidth / 1e9:,.1f} GB/s measured here, the faster of a copy and a sum; a step reads {weights * size / 1e9:.4g} GB of weights "
          f"(all but the embedding)\n         and per row {row * size / 1e6:.4g} MB of keys and values = 2 x layers x width x "
          f"(prompt + new / 2) x {size} bytes", flush=True)

    peers = {"ours": our_sampler(model, args)}
    for peer in args.against:
        load = load_transformers(shape) if peer == "transformers" else load_nanogpt(peer, shape)
        make = transformers_sampler if peer == "transformers" else nanogpt_sampler
        peers[os.path.basename(os.path.normpath(peer))] = make(load.to(device=device, dtype=dtype).eval(), args)
    for batch in args.batch:
        rows, gaps = [], []
        prompts = torch.randint(shape.vocab_size, (batch, args.prompt_tokens), generator=torch.Generator().manual_seed(0)).to(device)
        seconds = {name: [] for name in peers}
        for turn in range(args.rounds + 1):  # each in turns; the first does not count
            for name, make in peers.items():
                start = clock(device)
                make(prompts, 1)
                middle = clock(device)
                times = make(prompts, args.new_tokens)
                seconds[name].append((middle - start, clock(device) - middle))
                if name == "ours" and turn:
                    gaps += [b - a for a, b in zip(times, times[1:])]
        for name in peers:
            prefill, whole = (statistics.median(times) for times in zip(*seconds[name][1:]))
            step = (whole - prefill) / (args.new_tokens - 1)
            result = {"engine": name, "batch": batch, "prefill tok/s": batch * args.prompt_tokens / prefill, "decode tok/s": batch / step,
                      "in all tok/s": batch * args.new_tokens / whole, "ms/step": 1000 * step, "seconds": whole}
            if name == "ours":  # its median step leaves out the two per window in which a CUDA graph is recorded, as in a long generation
                ours, middle = (step, whole), statistics.median(gaps)
                result |= {"median ms": 1000 * middle, "bandwidth": f"{(weights + batch * row) * size / middle / bandwidth:.0%}"}
            else:
                result |= {"ours is": f"{step / ours[0]:.2f} x decoding, {whole / ours[1]:.2f} x in all"}
            rows.append(result | {"settings": {**vars(args), "dtype": str(dtype), "device": str(device), "torch": torch.__version__,
                                               "GB/s": bandwidth / 1e9, "seconds of (1 token, all)": seconds[name]}})
        report(rows)  # now: the next number of rows may take long


def model_to_sample(path, settings, device, dtype):
    import torch
    from model import Phi, load_model
    if not path.endswith(".py"):
        if settings:
            raise SystemExit(f"{' '.join(settings)}: only a settings file's shape can be changed; {path} has its own")
        return load_model(path, device, dtype)[0]
    from train import TrainConfig, load_config
    torch.manual_seed(0)
    return Phi(load_config(TrainConfig, [path, *settings, "--out_dir=none"])[0].model_config()).to(device=device, dtype=dtype).eval()


def our_sampler(model, args):
    from types import SimpleNamespace
    from sample import generate
    if args.compile:
        for block in model.blocks:
            block.compile()
    tokenizer = SimpleNamespace(eot_token=-1, n_vocab=model.config.vocab_size)  # no end of text: every row runs to its last token

    def make(prompts, new_tokens):
        tokens = generate(model, tokenizer, prompts.tolist(), 1, new_tokens, args.temperature, top_p=0.95, batch_size=len(prompts))
        return [time.perf_counter() for i, _, token in tokens if i == 0 and token is not None]
    return make


def transformers_sampler(model, args):
    import torch
    how = dict(do_sample=True, temperature=args.temperature, top_p=0.95, top_k=0) if args.temperature else dict(do_sample=False)
    return lambda prompts, new_tokens: model.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new_tokens, pad_token_id=0,
                                                      **how)


def nanogpt_sampler(model, args):
    how = dict(temperature=args.temperature) if args.temperature else dict(top_k=1)  # one candidate: greedy
    return lambda prompts, new_tokens: model.generate(prompts, new_tokens, **how)


def memory_bandwidth(device):
    """Bytes per second: 4 passes over 2 GB on a GPU (256 MB elsewhere), the fastest of them, copied (read and written) or summed (read)."""
    import torch
    data = torch.randn((2**29 if device.type == "cuda" else 2**26), device=device)
    other, rates = torch.empty_like(data), []
    for _ in range(4):
        start = clock(device)
        other.copy_(data)
        middle = clock(device)
        data.sum()
        rates += [2 * data.nbytes / (middle - start), data.nbytes / (clock(device) - middle)]
    return max(rates)


# ---- tokenize --------------------------------------------------------------------------------------------------------

def tokenize(args):
    """Raw encoders, then whole runs, in turns and all in as many processes: cores that are all busy share caches and are slower than
    one alone. MB are of UTF-8 text. MB per CPU second counts all processes, the start of a run's too, but not that of a raw encoder's:
    what a core does, whatever else keeps the machine busy."""
    import multiprocessing
    from prepare_data import SUFFIXES, files_below, read_file
    from tokenizer import load_tokenizer
    load_tokenizer("codegen")  # in this process first: downloads the ranks once, or says why not
    paths, sizes = [], []
    for path in files_below(args.folder, SUFFIXES[0], []):
        with contextlib.suppress(ValueError, OSError):
            sizes.append(len(read_file(path).encode()))
            paths.append(path)
    if not paths:
        raise SystemExit(f"{args.folder} holds no .py, .txt or .md files")
    size, every = sum(sizes), -(-sum(sizes) // 200_000_000)  # the raw encoders take every so many-th file: files differ, a few say little
    with multiprocessing.Pool(args.workers, start_raw, (paths[::every],)) as pool:
        work = {"tiktoken gpt2, raw": lambda _: in_each_process(pool, args.workers, "gpt2"),
                "our encoder, raw": lambda _: in_each_process(pool, args.workers, "codegen"),
                "prepare_data.py tokenize": lambda out: our_tokenize(args, out),
                **{f"{os.path.basename(os.path.normpath(peer))}'s prepare.py": functools.partial(nanogpt_prepare, peer, paths, args.workers)
                   for peer in args.against}}
        wall, cpu, last = {name: [] for name in work}, {name: [] for name in work}, {}
        in_each_process(pool, args.workers, "gpt2")  # they are all there now
        for _ in range(args.rounds):
            for name, encode in work.items():
                with tempfile.TemporaryDirectory() as folder:
                    before = os.times()
                    *last[name], seconds = encode(os.path.join(folder, "out"))
                    after = os.times()
                wall[name].append(after.elapsed - before.elapsed)
                cpu[name].append(seconds + sum(after[:4]) - sum(before[:4]))  # user and system time, of those it waited for as well
    rows = []
    for name, (tokens, memory) in last.items():
        amount = (args.workers * sum(sizes[::every]) if name.endswith("raw") else size) / 1e6
        seconds = max(0.01, statistics.median(wall[name]))
        rows.append({"encoder": name, "processes": args.workers, "MB": amount, "MB/s": amount / seconds, "tok/s": tokens / seconds,
                     "MB per CPU s": amount / max(0.01, min(cpu[name])), "peak MiB": memory,
                     "settings": {"folder": args.folder, "files": len(paths), "seconds": wall[name], "CPU seconds": cpu[name]}})
    for row in rows:
        row["x tiktoken"] = row["MB per CPU s"] / rows[0]["MB per CPU s"]
    report(rows)


def start_raw(paths):
    import tiktoken
    from prepare_data import read_file
    from tokenizer import load_tokenizer
    global encoders, texts
    encoders = {"gpt2": tiktoken.get_encoding("r50k_base").encode_ordinary,  # gpt2, from the file that codegen needs as well
                "codegen": functools.partial(load_tokenizer("codegen").encode_to_numpy, disallowed_special=())}
    texts = [read_file(path) for path in paths]


def encode_raw(name):
    before = os.times()
    tokens = sum(len(encoders[name](text)) for text in texts)
    after = os.times()
    return tokens, after.user + after.system - before.user - before.system


def in_each_process(pool, workers, name):
    """(tokens, memory that nobody measured, seconds of CPU) of all texts, encoded in every process at the same time."""
    tokens, seconds = zip(*pool.map(encode_raw, [name] * workers, chunksize=1))
    return sum(tokens), "", sum(seconds)


def our_tokenize(args, out):
    """(tokens, peak memory of the process and its workers in MiB: the sum of their shares of what is resident, every 0.5 s; no seconds
    of CPU that its end does not count)"""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "prepare_data.py")
    process = subprocess.Popen([sys.executable, script, "tokenize", args.folder, "--val", "0.5",  # so that a few files have one of each
                                "--workers", str(args.workers), "--out", out],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(proportional_memory, [process.pid, *children(process.pid)])))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"prepare_data.py tokenize failed: {process.stderr.read()[-300:]}")
    with open(os.path.join(out, "meta.json")) as f:
        meta = json.load(f)
    return meta["train"]["tokens"] + meta["val"]["tokens"], peak or "n/a", 0


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            direct = f.read().split()
    except OSError:  # it has ended, or this is not Linux
        return []
    return [child for parent in direct for child in (parent, *children(parent))]


def proportional_memory(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            return int(re.search(r"^Pss: +(\d+)", f.read(), re.MULTILINE)[1]) / 1024
    except (OSError, TypeError):
        return 0


def nanogpt_prepare(path, paths, workers, out):
    """nanoGPT's own data/openwebtext/prepare.py, but that its texts are these files (few may be for validation), its
    processes as many as ours, and "gpt2" comes from the file that codegen needs as well."""
    with open(in_checkout(path, "data/openwebtext/prepare.py")) as f:
        program = f.read()
    os.mkdir(out)
    for old, new in (("num_proc = 8", f"num_proc = {workers}"), ('"gpt2"', '"r50k_base"'), ("= 1024", "= min(1024, len(dset))"),
                     ('load_dataset("openwebtext"', f'load_dataset("text", data_files={paths!r}, sample_by="document", cache_dir={out!r}')):
        assert program.count(old) == 1, f"nanoGPT's prepare.py has changed: {old!r} is not there once"
        program = program.replace(old, new)
    with open(os.path.join(out, "prepare.py"), "w") as f:
        f.write(program)
    done = subprocess.run([sys.executable, f.name], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"nanoGPT's prepare.py failed: {done.stderr[-300:]}")
    return sum(os.path.getsize(os.path.join(out, f"{split}.bin")) for split in ("train", "val")) // 2, "", 0


# ---- sandbox and loader ----------------------------------------------------------------------------------------------

def sandbox(args):
    from eval_humaneval import load_benchmark
    from sandbox import Program, Sandbox
    programs = {"f(x) = x + 1, one assert": [Program(code="def f(x):\n    return x + 1", test="assert f(1) == 2")] * 656}
    try:
        problems, _ = load_benchmark("humaneval")
        programs["HumanEval's canonical solutions, 4 times"] = [problem.program(problem.canonical, 30.0) for problem in problems] * 4
    except SystemExit as error:  # no network and no copy of it
        print(error)
    rows = []
    with Sandbox(workers=args.workers) as box:
        for name, batch in programs.items():
            list(box.judge(batch[:8]))
            start = time.perf_counter()
            passed = sum(verdict.status == "passed" for _, verdict in box.judge(batch))
            seconds = time.perf_counter() - start
            rows.append({"programs": name, "judged": len(batch), "passed": passed, "programs/s": len(batch) / seconds,
                         "settings": {"workers": args.workers, "isolation": box.level}})
    report(rows)


def loader(args):
    from train import Windows, read_meta
    read_meta(args.data)
    data = Windows(os.path.join(args.data, "train.bin"), args.context, seed=0)
    count = max(20, min(1000, 20_000_000 // (args.context * args.micro_batch_size)))
    start = time.perf_counter()
    for i in range(count):
        data.read([data.start(n) for n in range(i * args.micro_batch_size, (i + 1) * args.micro_batch_size)])
    seconds = (time.perf_counter() - start) / count
    tokens = args.micro_batch_size * args.context
    report([{"batch": f"{args.micro_batch_size} x {args.context}", "batches/s": 1 / seconds, "ms": 1000 * seconds, "tok/s": tokens / seconds,
             f"share of a step at {args.tok_per_s:,.0f} tok/s": f"{seconds * args.tok_per_s / tokens:.3%}",
             "settings": {"data": args.data, "tokens": data.tokens, "batches": count}}])


if __name__ == "__main__":
    args, settings = parse_args()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    try:
        {"train": train, "sample": sample, "tokenize": tokenize, "sandbox": sandbox, "loader": loader}[args.command](args, *settings)
    except KeyboardInterrupt:
        raise SystemExit(130)
    except (RuntimeError, MemoryError) as error:
        from model import memory_is_full
        if not memory_is_full(error):
            raise
        raise SystemExit("the memory is full: try a smaller --micro_batch_size or --batch")
    except BrokenPipeError:  # as in `python bench.py ... | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
