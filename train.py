"""
Pretrain phi-1 ("Textbooks Are All You Need", arXiv 2306.11644, section 2.3) on bins of uint16 tokens.

    torchrun --nproc_per_node=8 train.py configs/phi1.py              # the paper's run on one node of 8 GPUs
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=HOST:29500 train.py configs/phi1.py
    python train.py configs/proxy.py --max_steps=500                  # a quick run on one GPU
    python train.py configs/phi1.py --plan                            # parameters, tokens, memory, hours; no training
    python train.py --help                                            # every setting, with its default

A settings file is plain assignments to the names of TrainConfig below; --name=value on the command line wins over it.
The same command again continues a stopped run. A run's folder (out_dir) holds
    ckpt.pt        the latest state, all that is needed to continue      log.jsonl   one line per log or evaluation
    best.pt        the weights with the lowest validation loss           step_N.pt   the weights at each of keep_steps
"""
import ast
import difflib
import errno
import fcntl
import inspect
import json
import math
import os
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from model import Phi, PhiConfig, flops_per_token, pick_device, read_checkpoint


# ---- settings --------------------------------------------------------------------------------------------------------

@dataclass
class RunConfig:
    """What pretraining and finetuning share. Quantities are global: they do not change with the number of GPUs."""
    data_dir: str = ""               # folder with train.bin, val.bin, meta.json: python prepare_data.py tokenize makes it
    out_dir: str = ""                # folder of this run; an unfinished run found there is continued
    batch_size: int = 64             # sequences per step, over all ranks
    micro_batch_size: int = 16       # sequences per rank that go through the model at once; the rest is accumulated
    max_steps: int = 1000            # updates; the learning rate reaches min_lr here
    learning_rate: float = 1e-3      # the peak, after warmup
    min_lr: float = 0.0              # at the end of the linear decay
    warmup_steps: int = 50           # linear from 0
    weight_decay: float = 0.1        # on matrices only; biases and LayerNorms have none
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    grad_clip: float = 1.0           # the largest norm of the whole gradient; 0 turns clipping off
    dropout: float = 0.1             # on the attention weights and both residual branches
    seed: int = 1337                 # of the weights, the order of the data and dropout
    log_interval: int = 10           # steps between progress lines
    eval_interval: int = 500         # steps between evaluations
    eval_sequences: int = 512        # windows of val.bin in an evaluation, evenly spaced, always the same
    save_interval: int = 500         # steps between checkpoints
    keep_steps: tuple = ()           # steps whose weights are kept as step_N.pt
    device: str = "auto"             # auto: cuda, else mps, else cpu
    dtype: str = "auto"              # of matrix products: bf16, fp16 (with a GradScaler) or fp32; auto: by the hardware
    compile: bool = True             # torch.compile: faster after a minute of compilation
    deterministic: bool = False      # GPU: repeat to the last bit, more slowly (a CPU always does)
    wandb: bool = False              # also log to Weights & Biases (pip install wandb)


@dataclass
class TrainConfig(RunConfig):
    """The shape of a new model beside the recipe; defaults as PhiConfig's in model.py."""
    vocab_size: int = 51200
    context: int = 2048              # tokens of a sequence
    n_layer: int = 24
    n_head: int = 32
    n_embd: int = 2048
    rotary_dim: int = 32

    def model_config(self):
        try:
            return PhiConfig(dropout=self.dropout, **{name: getattr(self, name) for name in
                             ("vocab_size", "context", "n_layer", "n_head", "n_embd", "rotary_dim")})
        except ValueError as error:
            raise SystemExit(str(error))


# Settings that may differ when a run is continued: they change neither the batches nor the recipe. (Another micro-batch or
# number of ranks sees the same batches, but sums them in another order and draws other dropout masks.)
MAY_CHANGE = {"data_dir", "out_dir", "micro_batch_size", "log_interval", "eval_interval", "save_interval", "keep_steps",
              "device", "compile", "deterministic", "wandb"}


def load_config(config_class, argv):
    """(settings, is --plan among the arguments) from FILE.py ... --name=value ...; ends the program with the nearest name
    for an unknown setting and with both types for a wrong one."""
    if "--help" in argv or "-h" in argv:
        print(sys.modules["__main__"].__doc__)
        for cls in reversed(config_class.__mro__[:-1]):
            print(inspect.getsource(cls).split("\n\n")[0])
        raise SystemExit(0)
    values, plan = {}, "--plan" in argv
    for arg in argv:
        if arg == "--plan":
            continue
        if not arg.startswith("--"):
            assigned = {}
            try:
                with open(arg, encoding="utf-8") as f:
                    exec(compile(f.read(), arg, "exec"), {}, assigned)
            except OSError as error:
                raise SystemExit(f"{arg}: {error.strerror}; a settings file such as configs/phi1.py is expected")
            except Exception as error:
                raise SystemExit(f"{arg} is not a file of plain assignments: {type(error).__name__}: {error}")
            values |= {name: (value, arg) for name, value in assigned.items()}
        elif "=" not in arg:
            raise SystemExit(f"{arg}: write settings as {arg}=VALUE")
        else:
            name, _, text = arg[2:].partition("=")
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                value = text  # a word, such as a path
            values[name] = (text if isinstance(getattr(config_class, name, None), str) else value, "the command line")
    types = {field.name: field.type for field in fields(config_class)}
    settings = {}
    for name, (value, where) in values.items():
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            raise SystemExit(f"{where}: no setting is called {name!r}"
                             + (f"; did you mean {near[0]!r}?" if near else "; --help lists them"))
        want = types[name]
        if want is float and type(value) is int:
            value = float(value)
        if want is tuple and type(value) in (int, list):
            value = tuple(value) if type(value) is list else (value,)
        if type(value) is not want or (want is tuple and not all(type(v) is int for v in value)):
            kind = "whole numbers" if want is tuple else want.__name__
            raise SystemExit(f"{where}: {name} takes {kind}, got {value!r} ({type(value).__name__})")
        settings[name] = value
    config = config_class(**settings)
    for field in fields(config_class):
        value = getattr(config, field.name)
        least = 1 if field.type is int and field.name not in ("warmup_steps", "seed") else 0
        if field.type in (int, float) and not least <= value < math.inf:
            raise SystemExit(f"{field.name} is {value}; it must be at least {least}")
    for name, allowed in (("dtype", ("auto", "bf16", "fp16", "fp32")), ("device", ("auto", "cuda", "mps", "cpu"))):
        if getattr(config, name) not in allowed:
            raise SystemExit(f"{name} is {getattr(config, name)!r}; it is one of {', '.join(allowed)}")
    if config.warmup_steps >= config.max_steps:
        raise SystemExit(f"warmup_steps {config.warmup_steps} leaves no room in max_steps {config.max_steps}")
    if not config.dropout < 1:
        raise SystemExit(f"dropout is {config.dropout}; it must be below 1")
    if not config.out_dir:
        raise SystemExit("out_dir is not set: name a settings file, or the folder of the run with --out_dir=out/NAME")
    return config, plan


# ---- data ------------------------------------------------------------------------------------------------------------

def read_meta(data_dir):
    """meta.json of a data folder, after checking that both bins have the size it states."""
    path = os.path.join(data_dir, "meta.json")
    try:
        with open(path) as f:
            meta = json.load(f)
        expected = {split: 2 * meta[split]["tokens"] for split in ("train", "val")}
        meta["tokenizer"], meta["vocab_size"], meta["train"]["sha256"]
    except OSError:
        raise SystemExit(f"{path} is not there; make it: python prepare_data.py tokenize CODE_FOLDER --out {data_dir or 'data/NAME'}")
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} was not written by prepare_data.py tokenize ({type(error).__name__}: {error})")
    for split, size in expected.items():
        file = os.path.join(data_dir, split + ".bin")
        found = os.path.getsize(file) if os.path.exists(file) else 0
        if found != size:
            raise SystemExit(f"{file} has {found:,} bytes and meta.json says {size:,}: cut short or from another run; make {data_dir} anew")
    return meta


class Windows:
    """A bin as windows of T+1 tokens (T inputs, and the same moved on by one as targets), in a stateless random order.

    Sequence n of the run is a pure function of (seed, n), so continuing needs the step only, and the batches do not depend
    on the number of ranks. In each pass every window is drawn once. The bin is read as a ring: a pass starts at a random
    phase and cuts the text elsewhere than the pass before, and its last window wraps around. Windows run over the ends
    of documents, as in the paper: <|endoftext|> stands between them and nothing is masked.
    """
    def __init__(self, path, T, seed):
        self.path, self.T, self.seed = path, T, seed
        self.tokens = os.path.getsize(path) // 2
        self.count = self.tokens // T  # windows in a pass; less than T tokens are left out, other ones in each pass
        if self.tokens < T + 1:
            raise SystemExit(f"{path} holds {self.tokens:,} tokens, and one window takes {T + 1:,}: tokenize more text"
                             + (", or a larger share for validation with --val" if path.endswith("val.bin") else ""))
        self.passes = {}

    def start(self, n):
        """The first token of sequence n."""
        number, i = divmod(n, self.count)
        if number not in self.passes:
            rng = np.random.default_rng((self.seed, number))
            phase = int(rng.integers(self.tokens))
            order = np.arange(self.count, dtype=np.uint32)  # 4 bytes per window, 14 MB for phi-1's 7B tokens
            rng.shuffle(order)
            self.passes = {k: v for k, v in self.passes.items() if k == number - 1} | {number: (phase, order)}
        phase, order = self.passes[number]
        return (phase + int(order[i]) * self.T) % self.tokens

    def read(self, starts):
        """int64 tokens (len(starts), T+1). The file is mapped anew each time, so that pages once read do not stay with us."""
        bin = np.memmap(self.path, dtype=np.uint16, mode="r")
        out = np.empty((len(starts), self.T + 1), dtype=np.int64)
        for row, start in zip(out, starts):
            head = bin[start:start + self.T + 1]
            row[:len(head)] = head
            row[len(head):] = bin[:self.T + 1 - len(head)]
        return torch.from_numpy(out)


# ---- machine ---------------------------------------------------------------------------------------------------------

@dataclass
class Machine:
    """Where this process runs: one of `world` ranks, on one device."""
    rank: int
    world: int
    device: torch.device
    dtype: torch.dtype
    compile: bool
    note: str    # the choices made, for the user to read

    def autocast(self):
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, self.dtype)

    def sum(self, *values):
        """The sums of some numbers over all ranks, as floats."""
        if self.world == 1:
            return [float(v) for v in values]
        total = torch.stack([torch.as_tensor(v, dtype=torch.float64, device="cpu") for v in values]).to(self.device)
        dist.all_reduce(total)
        return total.tolist()


def set_up_machine(config):
    """Join the other ranks under torchrun, choose device and dtype, and say why."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if config.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("these settings ask for a GPU (device = 'cuda') and torch sees none. --plan prints what the run would take; "
                         "--device=cpu runs it here all the same; configs/demo.py is made for a CPU")
    kind = pick_device(config.device).type
    device = torch.device(kind, int(os.environ.get("LOCAL_RANK", 0)) if kind == "cuda" else None)
    if kind == "cuda":
        if device.index >= torch.cuda.device_count():
            raise SystemExit(f"rank {rank} wants GPU {device.index} and there are {torch.cuda.device_count()}: lower --nproc_per_node")
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
    if world > 1:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")

    name = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if config.dtype != "auto":
        dtype, why = config.dtype, "as asked"
    elif kind == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        dtype, why = "bf16", "native on this GPU"
    elif kind == "cuda":
        dtype, why = "fp16", "with a GradScaler: this GPU is older than bf16"
    elif kind == "cpu" and torch.cpu._is_avx512_bf16_supported():
        dtype, why = "bf16", "native on this CPU"
    else:
        dtype, why = "fp32", "no fast bf16 here"
    compiles, note = config.compile, "compiled" if config.compile else "not compiled"
    if compiles and kind == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        compiles, note = False, "not compiled: no C++ compiler found"
    where = torch.cuda.get_device_name(device) if kind == "cuda" else f"{kind}, {torch.get_num_threads()} threads"
    return Machine(rank, world, device, name[dtype], compiles, f"{world} x {where}; {dtype} ({why}); {note}; torch {torch.__version__}")


# Dense bf16/fp16 peaks in FLOP/s from the vendor's data sheets, first match wins. A GPU that is not listed gets no MFU.
PEAK_FLOPS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12,
              "RTX 4090": 165e12, "RTX 3090": 71e12, "L4": 121e12}


def peak_flops(device):
    if device.type == "cuda":
        gpu = torch.cuda.get_device_name(device)
        return next((peak for name, peak in PEAK_FLOPS.items() if name in gpu), None)


# ---- pieces of the loop ----------------------------------------------------------------------------------------------

def lr_at(config, step):
    """Learning rate of the update after `step` updates: linear warmup, then linear decay to min_lr at max_steps."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    left = (config.max_steps - step) / (config.max_steps - config.warmup_steps)
    return config.min_lr + (config.learning_rate - config.min_lr) * left


def make_optimizer(model, config):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps,
                             fused=next(model.parameters()).device.type in ("cuda", "cpu"))


def seed_dropout(config, step, micro):
    """Dropout is a pure function of (seed, step, micro-batch of the global batch): a continued run repeats it, and so does
    a run on another number of ranks with micro-batches of the same size."""
    torch.manual_seed(int(np.random.SeedSequence((config.seed, step, micro)).generate_state(1, np.uint64)[0] >> 1))


@torch.no_grad()
def evaluate(model, val, config, machine):
    """Mean loss in nats per token over eval_sequences windows of val.bin; every rank takes its share."""
    model.eval()
    n = min(config.eval_sequences, val.count)
    starts = [i * val.count // n * val.T for i in range(n)][machine.rank::machine.world]
    total = 0.0
    for i in range(0, len(starts), config.micro_batch_size):
        tokens = val.read(starts[i:i + config.micro_batch_size]).to(machine.device)
        with machine.autocast():
            total += model(tokens[:, :-1], tokens[:, 1:])[1].double().item() * len(tokens)
    model.train()
    return machine.sum(total)[0] / n


def save(path, content):
    """Write a file whole or not at all, and end the program in one line where the disk is full."""
    temporary = path + ".tmp"
    try:
        with open(temporary, "wb") as f:
            torch.save(content, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        if os.path.exists(temporary):
            os.remove(temporary)
        free = shutil.disk_usage(os.path.dirname(path)).free
        raise SystemExit(f"{path} could not be written, {free / 1e9:.2f} GB are free ({' '.join(str(error).split())[:100]}). What was "
                         "saved before is intact: make room and give the same command again")


def check_same_run(config, checkpoint, meta, path):
    """A setting or a data set that would alter the rest of the run stops it."""
    anew = f"or start another run with another --out_dir (from these weights: finetune.py --init_from={path})"
    old = checkpoint.get("config", {})
    for name, value in asdict(config).items():
        if name not in MAY_CHANGE and name in old and old[name] != value:
            raise SystemExit(f"{path} was made with {name} = {old[name]!r}, and now it is {value!r}: restore it, {anew}")
    if checkpoint.get("data") != meta["train"]["sha256"]:
        raise SystemExit(f"{path} was made from another train.bin than {config.data_dir}'s: restore data_dir, {anew}")


def cut_log(path, step):
    """Drop what log.jsonl says of steps after the checkpoint: they are run again. A torn last line goes as well."""
    kept = []
    with open(path) as f:
        for line in f:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
    with open(path + ".tmp", "w") as f:
        f.writelines(kept)
    os.replace(path + ".tmp", path)


def print_plan(config, model_config, command):
    """What a run would take, before paying for it."""
    c, T = model_config, model_config.context
    with torch.device("meta"):
        parameters = Phi(c).num_params()
    step_tokens = config.batch_size * T
    tokens, flops = config.max_steps * step_tokens, flops_per_token(c, T)
    print(f"model       {parameters:,} parameters: {c.n_layer} layers, width {c.n_embd}, {c.n_head} heads of {c.n_embd // c.n_head}, context {T}")
    print(f"step        {config.batch_size:,} sequences x {T:,} = {step_tokens:,} tokens")
    print(f"run         {config.max_steps:,} steps = {tokens / 1e9:,.2f}B tokens, {tokens * flops:.2e} FLOP ({flops / 1e9:.3f} GFLOP per token)")
    for kept in config.keep_steps:
        print(f"            step_{kept}.pt is reached after {kept * step_tokens / 1e9:,.2f}B tokens")
    if os.path.exists(os.path.join(config.data_dir, "meta.json")):
        train = read_meta(config.data_dir)["train"]["tokens"]
        print(f"data        {config.data_dir}: {train:,} tokens, {tokens / train:.1f} passes over it")
    else:
        print(f"data        {config.data_dir} is not there yet, so the passes over it are unknown; over 7B tokens (the paper's) {tokens / 7e9:.1f}")
    # fp32 weight, gradient and two moments, and the 16-bit copy that autocast makes
    fixed = 18 * parameters
    # 16-bit numbers that a compiled block keeps for its backward pass, per token: y, q, k, v, attention's output, fc1's
    # output; the fp32 residual stream; and fp32 and 16-bit logits with their gradient
    sequence = T * (c.n_layer * (2 * (5 * c.n_embd + c.n_inner) + 4 * c.n_embd) + 10 * c.vocab_size)
    print(f"memory      {(fixed + config.micro_batch_size * sequence) / 1e9:.1f} GB per GPU (an estimate): weights, gradients and AdamW "
          f"{fixed / 1e9:.1f} GB + {config.micro_batch_size} sequences x {sequence / 1e9:.2f} GB")
    print(f"disk        ckpt.pt {12 * parameters / 1e9:.1f} GB, best.pt and each step_N.pt {4 * parameters / 1e9:.1f} GB")
    for gpu, peak in (("A100", 312e12), ("H100", 989e12)):
        hours = [tokens * flops / (gpus * peak * 0.5) / 3600 for gpus in (1, 8)]
        print(f"time        {hours[0]:,.1f} hours on one {gpu}, {hours[1]:,.1f} on eight, at 50% of its bf16 peak (an assumption)")
    print(f"start       {command}")


# ---- the run ---------------------------------------------------------------------------------------------------------

def train(config, new_model, tokenizer=None):
    """Run or continue one run. new_model() -> the Phi to start from. Returns {"val_loss": {step: loss}, "best_step": step}
    of the whole run on every rank once it is finished. tokenizer: the name that the data must have been made with."""
    os.makedirs(config.out_dir, exist_ok=True)
    at = lambda file: os.path.join(config.out_dir, file)
    machine = set_up_machine(config)
    device, chief = machine.device, machine.rank == 0  # the chief prints and writes files; all ranks compute the same
    if chief:
        folder = os.open(config.out_dir, os.O_RDONLY)  # held until this process ends
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"{config.out_dir} is in use by another run: wait for it, or choose another --out_dir")

    # What is there: a run to continue, nothing, or something that is not ours to overwrite
    checkpoint = read_checkpoint(at("ckpt.pt")) if os.path.exists(at("ckpt.pt")) else None
    meta = read_meta(config.data_dir)
    if machine.sum(checkpoint is not None)[0] not in (0, machine.world):
        raise SystemExit(f"{at('ckpt.pt')} is there for some ranks only: out_dir must be on a file system that all nodes share")
    if checkpoint:
        check_same_run(config, checkpoint, meta, at("ckpt.pt"))
        if checkpoint["step"] == config.max_steps:
            if chief:
                print(f"{config.out_dir} is finished: {config.max_steps:,} steps, best validation loss "
                      f"{checkpoint['best']['val_loss']:.4f} at step {checkpoint['best']['step']:,}. Nothing to do")
            return checkpoint["best"]
        model = Phi.from_state(PhiConfig(**checkpoint["model_config"]), checkpoint["model"])
    elif os.path.exists(at("log.jsonl")):
        raise SystemExit(f"{config.out_dir} holds log.jsonl of a run but no ckpt.pt to continue from: move it away, or choose another --out_dir")
    else:
        torch.manual_seed(config.seed)
        model = new_model()
    raw_model = model.to(device).train()

    T = raw_model.config.context
    if tokenizer and tokenizer != meta["tokenizer"]:
        raise SystemExit(f"{config.data_dir} was tokenized with {meta['tokenizer']!r} and the model reads {tokenizer!r}")
    if meta["vocab_size"] > raw_model.config.vocab_size:
        raise SystemExit(f"{config.data_dir} has token ids up to {meta['vocab_size'] - 1} ({meta['tokenizer']}) and the model's "
                         f"vocab_size is {raw_model.config.vocab_size}")
    accumulation, rest = divmod(config.batch_size, machine.world * config.micro_batch_size)
    if rest or not accumulation:
        raise SystemExit(f"batch_size {config.batch_size} is not a multiple of {machine.world} ranks x micro_batch_size "
                         f"{config.micro_batch_size} = {machine.world * config.micro_batch_size}")
    data = Windows(os.path.join(config.data_dir, "train.bin"), T, config.seed)
    val = Windows(os.path.join(config.data_dir, "val.bin"), T, config.seed)

    optimizer = make_optimizer(raw_model, config)
    scaler = torch.amp.GradScaler(device.type, enabled=machine.dtype == torch.float16)
    step, best, history = 0, {"val_loss": math.inf, "step": 0}, {}
    if checkpoint:
        optimizer.load_state_dict(checkpoint["optimizer"])
        scaler.load_state_dict(checkpoint["scaler"])
        step, best = checkpoint["step"], checkpoint["best"]
        del checkpoint
    model = DistributedDataParallel(raw_model, gradient_as_bucket_view=True) if machine.world > 1 else raw_model
    if machine.compile:
        model = torch.compile(model, dynamic=False)

    step_tokens = config.batch_size * T
    flops, peak = flops_per_token(raw_model.config, T), peak_flops(device)
    if chief:
        print(f"model   {raw_model.num_params():,} parameters, {flops / 1e9:.3f} GFLOP per token\n"
              f"data    {config.data_dir}: {data.tokens:,} tokens ({meta['tokenizer']}), {config.max_steps * step_tokens / data.tokens:.1f} passes; "
              f"validation on {min(config.eval_sequences, val.count) * T:,} of {val.tokens:,}\n"
              f"step    {step_tokens:,} tokens = {machine.world} ranks x {accumulation} micro-batches x {config.micro_batch_size} sequences x {T}\n"
              f"machine {machine.note}")
        print(f"        {'continuing at step ' + format(step, ',') if step else 'starting'} in {config.out_dir}; stop with Ctrl-C, "
              f"continue with the same command" + ("; the first step compiles, which takes a minute" if machine.compile else ""))
        print("legend  mean loss of the step in nats per token | learning rate | gradient norm before clipping | speed | share of "
              "the GPU's peak | seen | time left", flush=True)
        if step:
            cut_log(at("log.jsonl"), step)
        run = start_wandb(config) if config.wandb else None

    def state(**more):
        return {"model": raw_model.state_dict(), "model_config": asdict(raw_model.config), "tokenizer": meta["tokenizer"],
                "step": step, "best": best, "config": asdict(config), "data": meta["train"]["sha256"], "torch": str(torch.__version__), **more}

    def save_all():
        if chief:
            save(at("ckpt.pt"), state(optimizer=optimizer.state_dict(), scaler=scaler.state_dict()))

    def log(**entry):
        if chief:
            with open(at("log.jsonl"), "a") as f:
                f.write(json.dumps({"step": step, **entry}) + "\n")
            if run:
                run.log(entry, step=step)

    def evaluate_and_keep():
        nonlocal best
        loss = evaluate(raw_model, val, config, machine)
        log(val_loss=loss)
        better = loss < best["val_loss"]
        if better:
            best = {"val_loss": loss, "step": step}
        if chief:
            if better:
                save(at("best.pt"), state())
            print(f"step {step:>6,}/{config.max_steps:,} | validation loss {loss:.4f}"
                  + (" | the best so far" if better else f" | best {best['val_loss']:.4f} at step {best['step']:,}"), flush=True)

    def micro_batch(step, micro):
        """This rank's tokens for one micro-batch, on their way to the device."""
        first = step * config.batch_size + (machine.rank * accumulation + micro) * config.micro_batch_size
        tokens = data.read([data.start(first + i) for i in range(config.micro_batch_size)])
        return tokens.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tokens.to(device)

    # A signal only sets a flag: the step is finished first. A second Ctrl-C ends the program at once.
    stop_signal = 0
    def on_signal(number, frame):
        nonlocal stop_signal
        if number == signal.SIGINT == stop_signal:
            raise KeyboardInterrupt
        stop_signal = number
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)

    if step == 0:
        save_all()  # at once, so that a full disk or a wrong folder shows now and not after the first hours
        evaluate_and_keep()
    tokens = micro_batch(step, 0)
    clock, clock_step = time.time(), step

    while step < config.max_steps:
        lr = lr_at(config, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        step_loss = torch.zeros((), device=device)
        for micro in range(accumulation):
            last = micro == accumulation - 1
            seed_dropout(config, step, machine.rank * accumulation + micro)
            # gradients travel between ranks once a step, with the last backward; no_sync must cover the forward too
            with nullcontext() if last or machine.world == 1 else model.no_sync():
                with machine.autocast():
                    loss = model(tokens[:, :-1], tokens[:, 1:])[1] / accumulation  # a mean over the batch, not a sum of means
                tokens = micro_batch(step + last, 0 if last else micro + 1)        # read while the GPU is busy
                scaler.scale(loss).backward()
            step_loss += loss.detach()
        scaler.unscale_(optimizer)
        grad_norm = torch.nn.utils.clip_grad_norm_(raw_model.parameters(), config.grad_clip or math.inf)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        step += 1

        stopping = bool(machine.sum(stop_signal)[0]) if machine.world > 1 else bool(stop_signal)
        finished = step == config.max_steps
        saving = stopping or finished or step % config.save_interval == 0
        evaluating = finished or step % config.eval_interval == 0
        if saving or evaluating or step == 1 or step % config.log_interval == 0:
            mean_loss, norm = machine.sum(step_loss)[0] / machine.world, grad_norm.item()  # waits for the GPU
            if not math.isfinite(mean_loss) or not (math.isfinite(norm) or scaler.is_enabled()):
                raise SystemExit(f"step {step}: the loss is {mean_loss} (learning rate {lr:.2e}, gradient norm {norm}). The last good checkpoint is "
                                 f"{at('ckpt.pt')}, saved before the trouble; try a lower --learning_rate in another --out_dir")
            seconds, clock_steps = time.time() - clock, step - clock_step
            speed = clock_steps * step_tokens / seconds
            left = (config.max_steps - step) * step_tokens / speed / 3600
            log(loss=mean_loss, lr=lr, grad_norm=norm, tokens=step * step_tokens, tok_per_s=speed)
            if chief:
                mfu = f"{speed / machine.world * flops / peak:4.0%}" if peak else " n/a"
                print(f"step {step:>6,}/{config.max_steps:,} | loss {mean_loss:7.4f} | lr {lr:.2e} | grad {norm:5.2f} | {speed / 1e3:6.1f}k tok/s | "
                      f"mfu {mfu} | {step * step_tokens / 1e9:.3f}B tokens | {left:.2f}h left", flush=True)
            if evaluating:
                evaluate_and_keep()
            if step in config.keep_steps and chief:
                save(at(f"step_{step}.pt"), state())
            if saving:
                save_all()
            clock, clock_step = time.time(), step
        if stopping and not finished:
            if chief:
                print(f"stopped by {signal.Signals(stop_signal).name if stop_signal else 'a signal to another rank'}: step {step:,} is saved in "
                      f"{at('ckpt.pt')}; the same command continues it")
            raise SystemExit(128 + int(stop_signal or signal.SIGTERM))
    if chief:
        print(f"finished: {at('ckpt.pt')} is the last step, {at('best.pt')} the best (validation loss {best['val_loss']:.4f} at step {best['step']:,})")
    return best


def start_wandb(config):
    try:
        import wandb
    except ImportError:
        raise SystemExit("wandb = True needs the package wandb: pip install wandb")
    return wandb.init(project="phi1", name=os.path.basename(os.path.normpath(config.out_dir)), config=asdict(config), dir=config.out_dir)


def run_script(main):
    """Call main(sys.argv[1:]) so that a user's mistake is one line, said once: under torchrun rank 0 speaks first."""
    try:
        main(sys.argv[1:])
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SystemExit(f"the disk is full ({error.filename}): make room and give the same command again")
    except SystemExit as error:
        if isinstance(error.code, str) and int(os.environ.get("RANK", 0)) > 0:
            time.sleep(3)
            error.code = 1
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def main(argv):
    config, plan = load_config(TrainConfig, argv)
    if plan:
        return print_plan(config, config.model_config(), f"torchrun --nproc_per_node=8 train.py {' '.join(a for a in argv if a != '--plan')}")
    best = train(config, lambda: Phi(config.model_config()))
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"next: python sample.py {os.path.join(config.out_dir, 'best.pt')} --prompt 'def fibonacci(n):'")


if __name__ == "__main__":
    run_script(main)
