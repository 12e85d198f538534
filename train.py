"""
Pretrain phi-1 ("Textbooks Are All You Need", arXiv 2306.11644, section 2.3) on bins of uint16 tokens.

    torchrun --nproc_per_node=8 train.py configs/phi1.py              # the paper's run on one node of 8 GPUs
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=HOST:29500 train.py configs/phi1.py
    python train.py configs/proxy.py --max_steps=500 --out_dir=out/quick   # a quick run on one GPU
    python train.py configs/phi1.py --plan                            # parameters, tokens, memory, hours; no training
    python train.py --help                                            # every setting, with its default

A settings file is plain assignments to the names of TrainConfig below; --name=value on the command line wins over it.
The same command again continues a stopped run. A run's folder (out_dir) holds
    ckpt.pt        the latest state, all that is needed to continue      log.jsonl   one line per log or evaluation
    best.pt        the weights with the lowest validation loss           step_N.pt   the weights at each of keep_steps
"""
import ast
import datetime
import difflib
import errno
import fcntl
import functools
import inspect
import json
import math
import mmap
import os
import re
import shlex
import shutil
import signal
import sys
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
import torch._functorch.config
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from model import DTYPES, Phi, PhiConfig, flops_per_token, memory_is_full, one_line, pick_device, read_checkpoint

# Which process this is, and of how many: torchrun says it
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


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
    init_std: float = 0.02           # of the random matrices; narrow models learn faster with 0.02 * (2048 / n_embd) ** 0.5

    def model_config(self):
        try:
            return PhiConfig(**{field.name: getattr(self, field.name) for field in fields(PhiConfig) if hasattr(self, field.name)})
        except ValueError as error:
            raise SystemExit(str(error))


# Settings that may differ when a run is continued: they change neither the batches nor the recipe. (Another number of ranks
# sums the same batches in another order; another micro-batch also draws other dropout masks. Of the dtype, what "auto" chose
# is compared instead; of the data, its sha256.)
MAY_CHANGE = {"data_dir", "out_dir", "micro_batch_size", "log_interval", "eval_interval", "save_interval", "keep_steps",
              "device", "dtype", "compile", "deterministic", "wandb"}


def assignments(config_class, argv):
    """{name: (value, where it was given)} from FILE.py ... --name=value ..., of which the later wins."""
    values = {}
    for arg in argv:
        if arg == "--plan":
            continue
        if not arg.startswith("--"):
            values |= {name: (value, arg) for name, value in read_settings(arg).items()}
        else:
            name, equals, text = arg[2:].partition("=")
            if not equals and hasattr(config_class, name):
                raise SystemExit(f"{arg}: write settings as {arg}=VALUE")
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                value = {"true": True, "false": False}.get(text, text)  # a word, such as a path
            if isinstance(getattr(config_class, name, None), str):
                value = text  # out_dir may be called 7
            values[name] = value, "the command line"
    return values


def read_settings(path):
    """{name: value} of a settings file, which is run as Python: 2**10 or 36_000 are fine."""
    values = {}
    try:
        with open(path, encoding="utf-8-sig") as f:
            exec(compile(f.read(), path, "exec"), {}, values)
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}; a settings file such as configs/phi1.py is expected")
    except (Exception, SystemExit) as error:
        raise SystemExit(f"{path} is not a file of plain assignments: {type(error).__name__}: {error}")
    values.pop("__annotations__", None)  # of `batch_size: int = 64`
    return values


def load_config(config_class, argv):
    """(settings, is --plan among the arguments), checked: the program ends with the nearest name for an unknown setting, and
    with both types or the range for a wrong value."""
    if "--help" in argv or "-h" in argv:
        print(sys.modules["__main__"].__doc__)
        for cls in reversed(config_class.__mro__[:-1]):
            print(inspect.getsource(cls).split("\n\n")[0])
        raise SystemExit(0)
    types = {field.name: field.type for field in fields(config_class)}
    settings = {}
    for name, (value, where) in assignments(config_class, argv).items():
        if name not in types:
            raise SystemExit(f"{where}: no setting is called {name!r}; {advice(name, types)}")
        settings[name] = typed(value, types[name], f"{where}: {name}")
    config = config_class(**settings)
    check_values(config)
    return config, "--plan" in argv


def advice(name, types):
    """What the user may have meant by a name that is not among the settings."""
    if name == "init_from":
        return "it is one of finetune.py"
    if "init_from" in types and name in {field.name for field in fields(PhiConfig)}:
        return "the shape is that of init_from"
    near = difflib.get_close_matches(name, types, n=1)
    near += [known for known in types if name == "".join(word[0] for word in known.split("_"))]  # lr
    return f"did you mean {near[0]!r}?" if near else "--help lists them"


def typed(value, want, setting):
    """The value of a setting as the type that it has: whole numbers are numbers, too, and a list or one number is a tuple."""
    if want is float and type(value) is int:
        value = float(value) if abs(value) < 1e300 else math.inf
    if want is tuple and type(value) in (int, list):
        value = tuple(value) if type(value) is list else (value,)
    numbers = value if type(value) is tuple else (value,)
    if any(type(number) is int and abs(number) >= 2**63 for number in numbers):  # which Python may not even print
        raise SystemExit(f"{setting} is a number of more than 63 bits")
    if type(value) is not want or (want is tuple and not all(type(v) is int for v in value)):
        kind = {tuple: "whole numbers", bool: "True or False", str: "a text", int: "a whole number", float: "a number"}[want]
        raise SystemExit(f"{setting} takes {kind}, got {value!r} ({type(value).__name__})")
    return value


def check_values(config):
    """Ends the program at a value that cannot be."""
    bounds = {int: (1, 2**31), float: (0, math.inf), "warmup_steps": (0, 2**31), "seed": (0, 2**63), "eps": (1e-15, math.inf),
              "beta1": (0, 1), "beta2": (0, 1), "dropout": (0, 1)}
    for field in fields(config):
        if field.type in (int, float):
            value, (least, below) = getattr(config, field.name), bounds.get(field.name, bounds[field.type])
            if not least <= value < below:
                raise SystemExit(f"{field.name} is {value}; it must be at least {least} and below {below:,}")
    for name, allowed in (("dtype", ("auto", "bf16", "fp16", "fp32")), ("device", ("auto", "cuda", "mps", "cpu"))):
        if getattr(config, name) not in allowed:
            raise SystemExit(f"{name} is {getattr(config, name)!r}; it is one of {', '.join(allowed)}")
    if config.min_lr > config.learning_rate:
        raise SystemExit(f"min_lr {config.min_lr} is above learning_rate {config.learning_rate}, from which the rate decays to it")
    if min(config.keep_steps, default=1) < 1:
        raise SystemExit(f"keep_steps has {min(config.keep_steps)}; steps are counted from 1")
    if config.warmup_steps >= config.max_steps:
        raise SystemExit(f"warmup_steps {config.warmup_steps} leaves no room in max_steps {config.max_steps}")
    if not config.out_dir:
        raise SystemExit("out_dir is not set: name a settings file, such as configs/demo.py, or the folder of the run with --out_dir=out/NAME; "
                         "--help lists all settings")


# ---- data ------------------------------------------------------------------------------------------------------------

def read_meta(data_dir):
    """meta.json of a data folder, after checking that both bins have the size it states."""
    if not data_dir:
        raise SystemExit("data_dir is not set: name the folder that prepare_data.py tokenize made with --data_dir=data/NAME")
    path = os.path.join(data_dir, "meta.json")
    try:
        with open(path) as f:
            meta = json.load(f)
        needed = [(meta["tokenizer"], str), (meta["vocab_size"], int)]
        for split in ("train", "val"):
            needed += [(meta[split]["tokens"], int), (meta[split]["sha256"], str)]
        for value, kind in needed:
            if type(value) is not kind:
                raise ValueError(f"{value!r} where {kind.__name__} belongs")
    except (FileNotFoundError, NotADirectoryError):
        if os.path.isfile(data_dir) or os.path.isdir(data_dir) and os.listdir(data_dir):  # the text itself, it seems
            raise SystemExit(f"{path} is not there: text is tokenized first: python prepare_data.py tokenize {data_dir} --out data/NAME, "
                             "then --data_dir=data/NAME")
        raise SystemExit(f"{path} is not there (seen from {os.getcwd()}); make it: python prepare_data.py tokenize CODE_FOLDER "
                         f"--out {data_dir}")
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} was not written by prepare_data.py tokenize ({type(error).__name__}: {error})")
    for split in ("train", "val"):
        file, size = os.path.join(data_dir, split + ".bin"), 2 * meta[split]["tokens"]
        found = os.path.getsize(file) if os.path.exists(file) else 0
        if found != size:
            raise SystemExit(f"{file} has {found:,} bytes and meta.json says {size:,}: cut short or from another run; "
                             f"make {data_dir} anew")
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
        self.count = self.tokens // T  # windows in a pass; fewer than T tokens are left out, others in each pass
        if self.tokens < T + 1:
            raise SystemExit(f"{path} holds {self.tokens:,} tokens, and one window takes {T + 1:,}: tokenize more text"
                             + (", or a larger share for validation with --val" if path.endswith("val.bin") else ""))
        with open(path, "rb") as f:
            self.map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        self.bin = np.frombuffer(self.map, np.uint16)
        self.pass_order = functools.lru_cache(maxsize=2)(self.pass_order)  # two, as a batch may reach from one pass into the next

    def pass_order(self, number):
        """(phase, the order in which the windows are drawn) of pass `number`."""
        rng = np.random.default_rng((self.seed, number))
        phase = int(rng.integers(self.tokens))
        order = np.arange(self.count, dtype=np.uint32)  # 4 bytes per window, 14 MB for phi-1's 7B tokens
        rng.shuffle(order)
        return phase, order

    def start(self, n):
        """The first token of sequence n."""
        number, i = divmod(n, self.count)
        phase, order = self.pass_order(number)
        return (phase + int(order[i]) * self.T) % self.tokens

    def read(self, starts):
        """int64 tokens (len(starts), T+1). The pages that were read are given back, or the process would grow to the size of the bin."""
        if (size := os.path.getsize(self.path)) != 2 * self.tokens:
            raise SystemExit(f"{self.path} has changed during the run: it had {self.tokens:,} tokens, and now it has {size // 2:,}")
        at = np.array(starts)[:, None] + np.arange(self.T + 1)
        tokens = torch.from_numpy(self.bin.take(at, mode="wrap").astype(np.int64))
        self.map.madvise(mmap.MADV_DONTNEED)
        return tokens


def sequence_numbers(config, step, micro):
    """The sequences of the run that make up micro-batch `micro` of a step's global batch."""
    first = step * config.batch_size + micro * config.micro_batch_size
    return range(first, first + config.micro_batch_size)


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

    def sum(self, value):
        """The sum of a number over all ranks, as a float on each."""
        if self.world == 1:
            return float(value)
        total = torch.as_tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.item()


def set_up_machine(config):
    """Join the other ranks under torchrun, choose device and dtype, and say why."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("these settings ask for a GPU (device = 'cuda') and torch sees none. --plan prints what the run "
                         "would take; --device=cpu runs it here all the same; configs/demo.py is made for a CPU")
    device = pick_device(config.device)
    kind = device.type
    if kind == "cuda":
        if device.index >= torch.cuda.device_count():
            raise SystemExit(f"rank {RANK} wants GPU {device.index} and there are {torch.cuda.device_count()}: "
                             "lower --nproc_per_node")
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.dtype != "fp32"
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if config.deterministic or (config.compile and kind == "cpu"):  # compiled code would else sum the embedding's gradient in any order
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    if WORLD > 1:  # the timeout: while rank 0 writes 28 GB to a slow disk, the others wait in the next exchange
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", device_id=device if kind == "cuda" else None,
                                timeout=datetime.timedelta(hours=2))

    dtype, why = (config.dtype, "as asked") if config.dtype != "auto" else best_dtype(device)
    compiles, note = config.compile, "compiled" if config.compile else "not compiled"
    if compiles and kind == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        compiles, note = False, "not compiled: no C++ compiler found"
    where = torch.cuda.get_device_name(device) if kind == "cuda" else f"{kind}, {torch.get_num_threads()} threads"
    note = f"{WORLD} x {where}; {dtype} ({why}); {note}; torch {torch.__version__}"
    return Machine(RANK, WORLD, device, DTYPES[dtype], compiles, note)


def best_dtype(device):
    """(its name, why it is the best) of matrix products on this device."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "bf16", "native on this GPU"
    if device.type == "cuda":
        return "fp16", "with a GradScaler: this GPU is older than bf16"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16", "native on this CPU"
    return "fp32", "no fast bf16 here"


# Dense bf16/fp16 peaks in FLOP/s from the vendor's data sheets, first match wins. A GPU that is not listed gets no MFU.
PEAK_FLOPS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200 NVL": 836e12, "H200": 989e12, "GH200": 989e12, "A100": 312e12, "L40S": 362e12,
              "RTX 4090": 165e12, "RTX 3090": 71e12, "L4": 121e12}


def peak_flops(device):
    if device.type == "cuda":
        gpu = torch.cuda.get_device_name(device)
        if not re.search(r"\b(Ti|D|Laptop|MIG)\b", gpu):  # others of the same name, or a slice of one
            return next((peak for name, peak in PEAK_FLOPS.items() if re.search(rf"\b{name}\b", gpu)), None)


# ---- pieces of the loop ----------------------------------------------------------------------------------------------

def accumulation_of(config, world):
    """Micro-batches of each rank in a step. Ends the program where the batch cannot be dealt out in whole ones."""
    accumulation, rest = divmod(config.batch_size, world * config.micro_batch_size)
    if rest or not accumulation:
        each, rest = divmod(config.batch_size, world)
        fitting = math.gcd(each, config.micro_batch_size)
        raise SystemExit(f"batch_size {config.batch_size} is not a multiple of {world} ranks x micro_batch_size {config.micro_batch_size} = "
                         f"{world * config.micro_batch_size} sequences" + ("" if rest else f": try --micro_batch_size={fitting}"))
    return accumulation


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


def wrap(model, machine):
    """The model as the loop runs it: with gradients summed over the ranks, and compiled."""
    if machine.compile:
        # The backward pass computes GELU and the norms again, fused into what reads them, but no matrix product or attention twice:
        # a sequence of phi-1 then keeps 3.0 GB in place of 4.4, and 16 fit beside the optimizer in 80 GB (arithmetic)
        torch._functorch.config.ban_recompute_materialized_backward = False
        # One graph on several GPUs, too. Cut at DDP's buckets, so that the exchange could overlap with the backward pass, it would keep
        # 1.2 GB more per sequence; and the exchange takes 0.6% of a step of phi-1 (BENCHMARKS.md)
        torch._dynamo.config.optimize_ddp = False
        model = torch.compile(model, dynamic=False, options={"cpp.use_decompose_tanh": True})  # CPU: GELU's tanh from one exp
    if machine.world > 1:
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    return model


def update(model, optimizer, scaler, data, config, machine, step, lr):
    """One step of AdamW with the clipped gradient of all micro-batches. Returns this rank's mean loss and the norm of the gradient as
    tensors on the device, without waiting for them: the GPU works through its queue while the next tokens are read."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    accumulation = accumulation_of(config, machine.world)
    step_loss = torch.zeros((), device=machine.device)
    for micro in range(accumulation):
        number = machine.rank * accumulation + micro  # in the global batch
        tokens = data.read([data.start(n) for n in sequence_numbers(config, step, number)])  # (micro_batch_size, T+1)
        if machine.device.type == "cuda":
            tokens = tokens.pin_memory()
        tokens = tokens.to(machine.device, non_blocking=True)
        if config.dropout:
            seed_dropout(config, step, number)
        # ranks exchange gradients once a step, in the last backward pass; for the others no_sync has to cover the forward pass, too
        with model.no_sync() if machine.world > 1 and micro < accumulation - 1 else nullcontext():
            with machine.autocast():
                loss = model(tokens[:, :-1], tokens[:, 1:])[1] / accumulation  # gradients of micro-batches add up: to a mean
            scaler.scale(loss).backward()
        step_loss += loss.detach()
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=machine.world == 1)  # DDP's gradients stay where they are exchanged: no second copy of them
    return step_loss, norm


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
            total += model(tokens[:, :-1], tokens[:, 1:])[1].item() * len(tokens)
    model.train()
    return machine.sum(total) / n


# ---- the folder of a run ---------------------------------------------------------------------------------------------

@contextmanager
def own_folder(folder):
    """Make a run's folder and keep other processes from running in it at the same time."""
    if RANK > 0:
        yield
        return
    new = not os.path.exists(folder)
    os.makedirs(folder, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    lock(handle, folder, "--out_dir")
    try:
        yield
    finally:
        os.close(handle)  # and with it the lock, as the end of the process would
        if new and not os.listdir(folder):
            os.rmdir(folder)  # the run was refused: leave nothing behind


def lock(file, folder, option):
    """Lock an open file of a run's folder, until it is closed. Ends the program where another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"{folder} is in use by another run: wait for it, or choose another {option}")
    except OSError as error:
        raise SystemExit(f"{folder} cannot be locked ({error.strerror}): choose an {option} on another file system")


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
        reason = error.strerror if isinstance(error, OSError) else "the disk is full, most likely"
        raise SystemExit(f"{path} could not be written ({reason}; {free / 1e9:.3f} GB are free). What was saved before is "
                         "intact: fix that and give the same command again")


def check_same_run(config, checkpoint, meta, machine, path):
    """A setting or a data set that would alter the rest of the run stops it."""
    anew = f"start another run in another --out_dir (from these weights: finetune.py --init_from={path} --data_dir={config.data_dir} --out_dir=out/NAME)"
    if differing := sorted(checkpoint["config"].keys() ^ asdict(config).keys()):
        raise SystemExit(f"{path} was made by {'finetune.py' if 'init_from' in checkpoint['config'] else 'train.py'} or another version "
                         f"of it (the setting {differing[0]} is not in both), and cannot be continued with this script: {anew}")
    for name, value in asdict(config).items():
        old = checkpoint["config"][name]
        if name not in MAY_CHANGE and old != value:
            raise SystemExit(f"{path} was made with {name} = {old!r}, and now it is {value!r}: restore it, or {anew}")
    for split in ("train", "val"):
        if checkpoint["data"][split] != meta[split]["sha256"]:
            raise SystemExit(f"{path} was made from another {split}.bin than that of {config.data_dir}: restore it, or {anew}")
    if checkpoint["dtype"] != str(machine.dtype):
        raise SystemExit(f"{path} was made in {checkpoint['dtype']}, and this machine would go on in {machine.dtype}: set --dtype, "
                         f"or {anew}")


def cut_log(path, step):
    """Drop what log.jsonl says of steps after the checkpoint: they are run again. A torn last line goes as well."""
    if not os.path.exists(path):
        return
    with open(path, errors="replace") as f:
        lines, kept = f.readlines(), []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            if step > 0 and json.loads(line)["step"] <= step:  # a checkpoint of step 0 is from before the first entry
                kept.append(line.rstrip("\n") + "\n")
    if kept == lines:
        return
    with open(path + ".tmp", "w") as f:
        f.writelines(kept)
    os.replace(path + ".tmp", path)


def check_tokens(config, meta, tokenizer, shape):
    """The data must be made of tokens that the model knows. tokenizer: the name of the one it was trained with; None: any, it is new."""
    if tokenizer not in (None, meta["tokenizer"]):
        raise SystemExit(f"{config.data_dir} was tokenized with {meta['tokenizer']!r} and the model reads {tokenizer!r}")
    if meta["vocab_size"] > shape.vocab_size:
        remedy = "" if tokenizer else f": --vocab_size={meta['vocab_size']} has room for them"
        raise SystemExit(f"{config.data_dir} has token ids up to {meta['vocab_size'] - 1:,} (tokenizer {meta['tokenizer']!r}) "
                         f"and the model's vocab_size is {shape.vocab_size:,}{remedy}")


def open_run(config, machine, meta):
    """The checkpoint to continue from, or None for a new run. Ends the program at a folder that was made with other
    settings, or that holds a run which cannot be continued."""
    path = os.path.join(config.out_dir, "ckpt.pt")
    checkpoint = read_checkpoint(path) if os.path.exists(path) else None
    if machine.sum(checkpoint is not None) not in (0, machine.world):
        raise SystemExit(f"{path} is there for some ranks only: out_dir must be on a file system that all nodes share")
    if checkpoint:
        if "optimizer" not in checkpoint:
            raise SystemExit(f"{path} holds weights only (a copy of best.pt or step_N.pt?) and cannot be continued: "
                             "finetune.py --init_from starts a new run from it")
        for key, kind in (("best", dict), ("scaler", dict), ("data", dict), ("dtype", str), ("config", dict)):
            if type(checkpoint.get(key)) is not kind:
                raise SystemExit(f"{path} is not a whole checkpoint of this train.py: its {key!r} is {checkpoint.get(key)!r}")
        check_same_run(config, checkpoint, meta, machine, path)
    elif machine.rank == 0 and any(name.endswith((".pt", ".jsonl")) for name in os.listdir(config.out_dir)):
        raise SystemExit(f"{config.out_dir} holds files of a run but no ckpt.pt to continue from: move them away, or choose "
                         "another --out_dir")
    return checkpoint


# ---- what is printed -------------------------------------------------------------------------------------------------

def short(x, giga="B"):
    """413k, 2.52B: a large number in four or five characters."""
    for size, letter in ((1e12, "T"), (1e9, giga), (1e6, "M"), (1e3, "k")):
        if x >= 0.9995 * size:
            return f"{x / size:.3g}{letter}"
    return f"{x:.0f}"


def passes(number):
    return f"{number:.2g} passes" if number < 10 else f"{number:,.0f} passes"


def duration(hours):
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.2g} minutes"


def estimated_memory(c, parameters, micro_batch_size):
    """Bytes on each device: (weights and optimizer, each sequence of a micro-batch, a whole evaluation). c: a PhiConfig."""
    # The fp32 weight, its gradient, AdamW's two moments, and the 16-bit copy that autocast makes. (Several devices exchange gradients
    # in buckets, which in the first two steps are a second copy of them: print_plan says so)
    fixed = (4 + 4 + 8 + 2) * parameters
    # What compiled code keeps of a token for the backward pass. Of each block, in 16 bits: q, k and v before the rotation (v is a view
    # of all three), q and k after it, and the outputs of attention and fc1; in fp32 the residual stream; and two dropout masks of a
    # byte per channel. At the end, in 16 bits, the logits and their gradient
    block = 2 * ((3 + 2 + 1) * c.n_embd + c.n_inner) + 4 * c.n_embd + 2 * c.n_embd
    token = c.n_layer * block + 2 * 2 * c.vocab_size
    # An evaluation is not compiled: 10 bytes per logit, beside the weights, their 16-bit copy, and 8 for AdamW's moments
    evaluation = (4 + 2 + 8) * parameters + 10 * micro_batch_size * c.context * c.vocab_size
    return fixed, c.context * token, evaluation


def print_plan(config, c, script, argv):
    """What a run would take, before paying for it. c: its PhiConfig."""
    if RANK > 0:
        return
    accumulation_of(config, WORLD)
    kind = pick_device("auto").type if config.device == "auto" else config.device
    with torch.device("meta"):
        parameters = Phi(c).num_params()
    T = c.context
    step_tokens, flops = config.batch_size * T, flops_per_token(c, T)
    tokens = config.max_steps * step_tokens
    print(f"model    {parameters:,} parameters: {c.n_layer} layers, width {c.n_embd:,}, {c.n_head} heads of {c.n_embd // c.n_head}, "
          f"context {T:,}\n"
          f"step     {config.batch_size:,} sequences x {T:,} = {step_tokens:,} tokens\n"
          f"run      {config.max_steps:,} steps = {short(tokens)} tokens; {flops / 1e9:.3f} GFLOP per token, "
          f"{tokens * flops:.2e} FLOP in all")
    for kept in config.keep_steps:
        reached = f"reached after {short(kept * step_tokens)} tokens" if kept <= config.max_steps else "not reached"
        print(f"         step_{kept}.pt is {reached}")
    if os.path.exists(os.path.join(config.data_dir, "meta.json")):
        train_tokens = read_meta(config.data_dir)["train"]["tokens"]
        print(f"data     {config.data_dir}: {train_tokens:,} tokens, {passes(tokens / train_tokens)} over them")
    else:
        print(f"data     {config.data_dir} is not there yet; over 7B tokens, as the paper's, it would be {passes(tokens / 7e9)}")
    micro = config.micro_batch_size
    fixed, sequence, evaluation = estimated_memory(c, parameters, micro)
    training = fixed + micro * sequence
    if training > evaluation:
        what = f"{short(fixed, 'G')}B for weights, gradients and AdamW + {micro} sequences x {short(sequence, 'G')}B if compiled"
    else:
        what = f"an evaluation's {micro} x {T:,} x {c.vocab_size:,} logits"
    on_gpus = kind != "cpu"
    print(f"memory   {short(max(training, evaluation), 'G')}B{' per GPU' * on_gpus}, an estimate: {what}"
          + (f"; of several GPUs {short(4 * parameters, 'G')}B more at the start" if on_gpus else ""))
    print(f"disk     {short(12 * parameters, 'G')}B for ckpt.pt, {short(4 * parameters, 'G')}B for best.pt and each step_N.pt")
    for gpu in ("A100", "H100") if kind == "cuda" else ():
        hours = tokens * flops / (0.5 * PEAK_FLOPS[gpu]) / 3600
        print(f"time     {duration(hours)} on one {gpu}, {duration(hours / 8)} on eight, if they reach 50% of their bf16 peak")
    command = shlex.join([script, *(arg for arg in argv if arg != "--plan")])
    eight = kind == "cuda" and config.batch_size % (8 * config.micro_batch_size) == 0
    print(f"start    python {command}" + (f", or torchrun --nproc_per_node=8 {command}" if eight else ""))


def print_start(config, model, meta, data, val, accumulation, machine, step):
    """What is about to run, for the user to check in the first second."""
    T = model.config.context
    step_tokens = config.batch_size * T
    print(f"model    {model.num_params():,} parameters, {flops_per_token(model.config, T) / 1e9:.3f} GFLOP per token\n"
          f"data     {config.data_dir}: {data.tokens:,} tokens ({meta['tokenizer']}), {passes(config.max_steps * step_tokens / data.tokens)} "
          f"over them; validation on {min(config.eval_sequences, val.count) * T:,} of {val.tokens:,}\n"
          f"step     {step_tokens:,} tokens = {machine.world} ranks x {accumulation} micro-batches x {config.micro_batch_size} "
          f"sequences x {T}\n"
          f"machine  {machine.note}", flush=True)
    if step == config.max_steps:
        print(f"run      {config.out_dir}: is finished already, after {step:,} steps", flush=True)
        return
    print(f"run      {config.out_dir}: {f'continues after step {step:,}' if step else 'starts'}; Ctrl-C stops and saves it, the same command continues")
    if machine.compile:
        print("         the first step compiles the model, which takes up to a minute or two")
    print("legend   mean loss of the step, nats per token | learning rate | norm of the gradient | speed | share of peak | seen | "
          "time left", flush=True)


def progress_line(config, step, loss, lr, norm, step_tokens, speed, mfu):
    hours = (config.max_steps - step) * step_tokens / speed / 3600
    left = f"{hours:5.1f}h" if hours > 1 else f"{60 * hours:5.1f}m"
    return (f"step {step:>7,}/{config.max_steps:,} | loss {loss:7.4f} | lr {lr:.2e} | grad {norm:5.2f} | {short(speed):>5} tok/s | "
            f"mfu {mfu:>3} | {short(step * step_tokens):>5} tokens | {left} left")


# ---- the run ---------------------------------------------------------------------------------------------------------

def train(config, new_model):
    """Run one run to its end, or continue it. new_model() -> (the Phi to start from, its tokenizer or None for any)."""
    machine = set_up_machine(config)
    device, chief = machine.device, machine.rank == 0  # the chief prints and writes the files; all ranks compute the same
    at = lambda file: os.path.join(config.out_dir, file)
    meta = read_meta(config.data_dir)

    # The model, new or as the checkpoint has it
    checkpoint = open_run(config, machine, meta)
    if checkpoint:
        step, best, tokenizer = checkpoint["step"], checkpoint["best"], checkpoint["tokenizer"]
        if os.path.exists(at("best.pt")):  # perhaps of an evaluation after ckpt.pt was saved, which is about to be repeated: worse must not replace it
            best = read_checkpoint(at("best.pt"))["best"]
        elif step < config.max_steps:  # it was removed: the next evaluation writes one
            best = {"val_loss": math.inf, "step": 0}
        raw_model = Phi.from_state(PhiConfig(**checkpoint["model_config"]), checkpoint["model"], at("ckpt.pt"))
    else:
        step, best = 0, {"val_loss": math.inf, "step": 0}
        torch.manual_seed(config.seed)
        raw_model, tokenizer = new_model()
    raw_model.to(device).train()
    shape = raw_model.config
    T, step_tokens = shape.context, config.batch_size * shape.context

    # Data, optimizer, and the model as the loop runs it
    check_tokens(config, meta, tokenizer, shape)
    accumulation = accumulation_of(config, machine.world)
    data = Windows(os.path.join(config.data_dir, "train.bin"), T, config.seed)
    val = Windows(os.path.join(config.data_dir, "val.bin"), T, config.seed)
    optimizer = make_optimizer(raw_model, config)
    scaler = torch.amp.GradScaler(device.type, enabled=machine.dtype == torch.float16)
    if checkpoint:
        optimizer.load_state_dict(checkpoint.pop("optimizer"))
        scaler.load_state_dict(checkpoint["scaler"])
    model = wrap(raw_model, machine)  # weights are saved and evaluated through raw_model, so that no file knows about the wrappers

    # A signal sets a flag and the step is finished first
    caught = 0
    def on_signal(number, frame):
        nonlocal caught
        if number == caught == signal.SIGINT:  # a second Ctrl-C ends the program at once
            raise KeyboardInterrupt
        caught = number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: the terminal was closed
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, on_signal)

    if chief:
        print_start(config, raw_model, meta, data, val, accumulation, machine, step)
        if checkpoint:
            cut_log(at("log.jsonl"), step)
    wandb = start_wandb(config) if config.wandb and chief else None
    del checkpoint  # its tensors

    # What the loop calls now and then. The chief writes; all ranks evaluate
    def say(text):
        nonlocal caught
        try:
            if chief:
                print(text, flush=True)
        except OSError as error:  # a pipe that nobody reads, a closed terminal, a full disk: the run stops, and is saved
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            caught = signal.SIGPIPE
            with suppress(OSError):
                if not isinstance(error, BrokenPipeError):
                    print(f"standard output cannot be written ({error.strerror}): the run stops and is saved", file=sys.stderr)

    def log(**entry):
        if chief:
            with open(at("log.jsonl"), "a") as f:
                f.write(json.dumps({"step": step, **entry}) + "\n")
            if wandb:
                wandb.log(entry, step=step)

    def save_weights(file, **more):
        if chief:
            save(at(file), {"model": raw_model.state_dict(), "model_config": asdict(shape), "tokenizer": meta["tokenizer"],
                            "step": step, "best": best, "config": asdict(config),
                            "data": {split: meta[split]["sha256"] for split in ("train", "val")},
                            "dtype": str(machine.dtype), "torch": str(torch.__version__), **more})

    def save_all():
        save_weights("ckpt.pt", optimizer=optimizer.state_dict(), scaler=scaler.state_dict())

    def diverged(what):
        raise SystemExit(f"step {step}: {what}. The last checkpoint is {at('ckpt.pt')}; try a lower --learning_rate in another --out_dir")

    def validate():
        nonlocal best
        loss = evaluate(raw_model, val, config, machine)
        if not math.isfinite(loss):
            diverged(f"the validation loss is {loss}")
        log(val_loss=loss)
        standing = "the best so far" if loss < best["val_loss"] else f"best {best['val_loss']:.4f} at step {best['step']:,}"
        say(f"step {step:>7,}/{config.max_steps:,} | validation loss {loss:.4f} | {standing}")
        if loss < best["val_loss"]:
            best = {"val_loss": loss, "step": step}
            save_weights("best.pt")

    if step == 0:
        save_all()  # so that a full disk or a wrong folder shows now and not after hours
        validate()
    flops, peak = flops_per_token(shape, T), peak_flops(device)
    clock, clock_step = time.time(), step  # of the last progress line

    while step < config.max_steps:
        lr = lr_at(config, step)
        step_loss, norm = update(model, optimizer, scaler, data, config, machine, step, lr)
        step += 1

        finished = step == config.max_steps
        stopping = machine.sum(caught > 0) > 0  # all ranks stop if one was told to
        validating = finished or step % config.eval_interval == 0 or step in config.keep_steps
        saving = finished or stopping or step % config.save_interval == 0
        logging = validating or step == 1 or step % config.log_interval == 0
        if logging or saving:
            mean_loss, norm = machine.sum(step_loss) / machine.world, norm.item()  # waits for the GPU
            overflow_is_skipped = scaler.is_enabled() and scaler.get_scale() > 1e-6  # in fp16, where the next step is scaled down
            if not math.isfinite(mean_loss) or not (math.isfinite(norm) or overflow_is_skipped):
                diverged(f"the loss is {mean_loss} (learning rate {lr:.2e}, gradient norm {norm})")
            if logging:
                speed = (step - clock_step) * step_tokens / (time.time() - clock)
                mfu = f"{speed / machine.world * flops / peak:.0%}" if peak else "n/a"
                log(loss=mean_loss, lr=lr, grad_norm=norm if math.isfinite(norm) else None, tokens=step * step_tokens, tok_per_s=speed)
                say(progress_line(config, step, mean_loss, lr, norm, step_tokens, speed, mfu))
            if validating:
                validate()
            if step in config.keep_steps:
                save_weights(f"step_{step}.pt")
            if saving:
                save_all()
            clock, clock_step = time.time(), step  # the speed leaves out validation and saving
        if stopping:
            break
    if wandb:
        wandb.finish()
    if step < config.max_steps:
        say(f"stopped at step {step:,} and saved in {at('ckpt.pt')}: the same command continues")
        raise SystemExit(128 + (caught or signal.SIGTERM))
    say(f"finished after {step:,} steps: {at('best.pt')} has the lowest validation loss, {best['val_loss']:.4f} at step {best['step']:,}")


def start_wandb(config):
    try:
        import wandb
    except ImportError:
        raise SystemExit("wandb = True needs the package wandb: pip install wandb")
    path, known = os.path.join(config.out_dir, "wandb_id"), None  # a run that is continued goes on in the same curves
    if os.path.exists(path):
        with open(path) as f:
            known = f.read()
    run = wandb.init(project="phi1", name=os.path.basename(os.path.normpath(config.out_dir)), config=asdict(config), dir=config.out_dir,
                     id=known, resume="allow")
    with open(path, "w") as f:
        f.write(run.id)
    return run


def run_script(main):
    """main(sys.argv[1:]), so that a user's mistake is one line, said once: the other ranks give rank 0 the time to say it."""
    def leave(code):
        if dist.is_initialized():
            dist.destroy_process_group()
            # torch's threads may ask for the interpreter's lock while it shuts down, which would abort a rank that is done
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or 0)
        raise SystemExit(code)

    try:
        main(sys.argv[1:])
        leave(0)
    except KeyboardInterrupt:
        raise SystemExit(130)
    except BrokenPipeError:  # as in `python train.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1)
    except RuntimeError as error:
        if not memory_is_full(error):
            raise
        message = f"the memory is full: try a smaller --micro_batch_size (--plan estimates what a run takes). {one_line(error)}"
    except OSError as error:  # a full disk, no permission, a file in the place of a folder
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not error.filename and not full:
            raise
        if not error.filename and sys.stdout:  # what it still holds would fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        message = f"{error.filename or 'a file, or standard output'}: {error.strerror}"
        message += ". What was saved before is intact: make room, and the same command continues" if full else ""
    except SystemExit as error:
        if not isinstance(error.code, str):
            leave(error.code)
        message = error.code
    if RANK > 0:
        time.sleep(3)
        raise SystemExit(1)
    raise SystemExit(message)


def main(argv):
    config, plan = load_config(TrainConfig, argv)
    if plan:
        return print_plan(config, config.model_config(), "train.py", argv)
    with own_folder(config.out_dir):
        train(config, lambda: (Phi(config.model_config()), None))
    if RANK == 0:
        print(f"next     python sample.py {os.path.join(config.out_dir, 'best.pt')} --prompt 'def fibonacci(n):'")


if __name__ == "__main__":
    run_script(main)
