"""
phi-1 in one file: the decoder of "Textbooks Are All You Need" (arXiv 2306.11644, section 2.3).

    from model import Phi, PhiConfig, load_model
    model = Phi(PhiConfig())                          # phi-1: 1,418,270,720 parameters, random weights
    logits, loss = model(idx, targets)                # training
    model = Phi.from_pretrained("phi-1/")             # a Hugging Face folder: microsoft/phi-1 or codegen-350M-mono
    model, tokenizer = load_model("out/phi1/ckpt.pt") # a checkpoint of train.py, or such a folder
    model.save_pretrained("my-phi/")                  # a folder in transformers' format

What differs from GPT-2: attention and MLP run in parallel on one LayerNorm, positions are rotary and only on the first 32
of the 64 channels of each head, the output matrix is not tied to the embedding, and it has a bias.

Shape letters, used in every comment of this project:
    B sequences in a batch    T tokens of a sequence    D width (n_embd)      F inner width of the MLP (n_inner)
    H heads (n_head)          K channels of a head      R rotary channels     V rows of the vocabulary
    L layers (n_layer)        S positions that a KV cache has room for
"""
import contextlib
import copy
import json
import os
import zipfile
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass
class PhiConfig:
    """The shape of a model. The defaults are phi-1 (paper, section 2.3); phi-1-small is 20 layers, width 1024, 16 heads."""
    vocab_size: int = 51200      # rows of the embedding; the tokenizer uses 50,295 of them, the rest is CodeGen's padding
    context: int = 2048          # the longest sequence, in tokens
    n_layer: int = 24
    n_head: int = 32
    n_embd: int = 2048
    n_inner: int = 0             # inner width of the MLP; 0 means 4 * n_embd
    rotary_dim: int = 32         # channels of each head that are rotated; the others carry no position
    rope_theta: float = 10000.0
    dropout: float = 0.0         # on the attention weights and on both residual branches; the paper trains with 0.1
    init_std: float = 0.02       # of all matrices before training; 0.02 is made for phi-1's width

    def __post_init__(self):
        for name in ("vocab_size", "context", "n_layer", "n_head", "n_embd", "rotary_dim"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be a whole number above 0")
        self.n_inner = self.n_inner or 4 * self.n_embd
        if type(self.n_inner) is not int or self.n_inner < 1:
            raise ValueError(f"n_inner is {self.n_inner!r}; it must be a whole number, 0 or more")
        if type(self.rope_theta) not in (int, float) or not 0 < self.rope_theta < float("inf"):
            raise ValueError(f"rope_theta is {self.rope_theta!r}; it must be a number above 0")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        if self.rotary_dim % 2 or self.rotary_dim > self.n_embd // self.n_head:
            raise ValueError(f"rotary_dim {self.rotary_dim} must be even and at most the "
                             f"{self.n_embd // self.n_head} channels of a head (n_embd / n_head)")


def rotary_table(config):
    """cos and sin of every position's angles, each (context, R/2) in fp32: pair j turns by theta**(-2j/R) per position."""
    inverse_frequency = config.rope_theta ** (-torch.arange(0, config.rotary_dim, 2, device="cpu").float() / config.rotary_dim)
    angles = torch.outer(torch.arange(config.context, device="cpu").float(), inverse_frequency)
    return angles.cos(), angles.sin()


def apply_rotary(x, cos, sin):
    """Turn the pairs (j, j + R/2) of the first R channels. x (B, T, H, K); cos, sin (T, 1, R/2) or (B, T, 1, R/2)."""
    half = cos.size(-1)
    a, b, rest = x.split([half, half, x.size(-1) - 2 * half], dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1).type_as(x)  # under autocast cos is fp32, and so is the product


class Attention(nn.Module):
    """Causal self-attention with rotary positions, in one fused kernel that never stores the (T, T) weights. Linear, here and below, is
    nn.Linear that can be made faster for generation on a CPU (packed_weights).

    x (B, T, D) -> (B, T, D). cos, sin: as apply_rotary takes them. past: None, or one layer of what KVCache.places returns.
    """
    def __init__(self, config):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.qkv = Linear(config.n_embd, 3 * config.n_embd)  # q, k and v as one matrix product
        self.dense = Linear(config.n_embd, config.n_embd)

    def forward(self, x, cos, sin, past):
        B, T, D = x.shape
        qk, v = self.qkv(x).view(B, T, 3 * self.n_head, D // self.n_head).split([2 * self.n_head, self.n_head], dim=2)
        q, k = apply_rotary(qk, cos, sin).chunk(2, dim=2)                                       # each (B, T, H, K)
        mask = None
        if past is not None:  # the new keys and values join those of the tokens before them
            keys, values, new, mask = past
            keys[new], values[new] = k, v
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)                       # each (B, H, T, K)
        if mask is not None:
            k, v = keys[:, :, :mask.size(-1)], values[:, :, :mask.size(-1)]                     # each (B, H, window, K)
        dropout = self.dropout if self.training else 0.0
        if self.training and not dropout and mask is None and x.is_cpu and torch.is_autocast_enabled("cpu"):
            y = CPUAttention.apply(q, k, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None)
        return self.dense(y.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    """Attention and MLP side by side: both read the same normalised x and both are added to the residual stream."""
    def __init__(self, config):
        super().__init__()
        self.norm = nn.LayerNorm(config.n_embd, eps=1e-5)
        self.attention = Attention(config)
        self.fc1 = Linear(config.n_embd, config.n_inner)
        self.fc2 = Linear(config.n_inner, config.n_embd)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, cos, sin, past):
        y = self.norm(x)
        attended = self.attention(y, cos, sin, past)
        mlp = self.fc2(F.gelu(self.fc1(y), approximate="tanh"))
        if self.training:  # outside, a dropout that does nothing is still two calls per layer and token
            attended, mlp = self.drop(attended), self.drop(mlp)
        return x + attended + mlp


class Phi(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.tokenizer = None  # the name of the one it was trained with: load_model sets it, for save_pretrained
        # _weight skips nn.Embedding's own init: weights are drawn below, or loaded
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd, _weight=torch.empty(config.vocab_size, config.n_embd))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, eps=1e-5)
        self.lm_head = Linear(config.n_embd, config.vocab_size)
        cos, sin = rotary_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        if self.lm_head.weight.is_meta:
            return  # nobody reads these weights, and "drawing" them there would import half of torch's compiler
        for module in self.modules():  # the paper states no init; this is the one of the library it was released in
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=config.init_std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def hidden(self, idx, cache=None):
        """Token ids (B, T) -> last hidden states (B, T, D), after the final LayerNorm.

        With a cache, the ids continue its rows: row b's first id stands at position cache.lengths[b], and keys and values
        are stored there. The caller then advances cache.lengths (by less than T where a row was padded on the right).
        Raises ValueError if the ids do not fit in the context.
        """
        T = idx.size(1)
        end = T if cache is None else max(T, cache.window)
        if end > self.config.context:
            raise ValueError(f"a sequence of {end} tokens does not fit in the context of {self.config.context}")
        if cache is None:
            cos, sin = self.cos[:T, None], self.sin[:T, None]                                   # (T, 1, R/2)
            pasts = [None] * len(self.blocks)
        else:
            positions, pasts = cache.places(T)
            cos, sin = self.cos[positions, None], self.sin[positions, None]                     # (B, T, 1, R/2)
        x = self.embedding(idx)
        for block, past in zip(self.blocks, pasts):
            x = block(x, cos, sin, past)
        return self.norm(x)

    def forward(self, idx, targets=None):
        """idx (B, T) int64 -> logits (B, T, V), and the mean next-token loss in nats where targets (B, T) are given, else
        None. A target of -1 is not counted."""
        logits = self.lm_head(self.hidden(idx))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=-1)

    def num_params(self):
        return sum(p.numel() for p in self.parameters())

    @classmethod
    def from_state(cls, config, state, path):
        """A model whose weights are the given tensors; no random ones are drawn first. Ends the program where they do not fit, naming
        path, where they came from."""
        with torch.device("meta"):
            model = cls(config)
        try:
            model.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise SystemExit(f"{path}: its tensors do not fit this model: {one_line(error, 300)}")
        return model.requires_grad_(True).eval()

    @classmethod
    def from_pretrained(cls, folder):
        """Load a Hugging Face folder of model_type phi or codegen: config.json with model.safetensors or
        pytorch_model.bin, whole or in shards. Weights keep the file's dtype. Ends the program where that is impossible."""
        config, state_of = read_hf_config(folder)
        state = state_of(config, read_hf_tensors(folder))
        for name, tensor in state.items():
            if tensor.dtype not in DTYPES.values():
                raise SystemExit(f"{folder}: its {name} is {tensor.dtype}; weights in bf16, fp16 and fp32 can be loaded")
        return cls.from_state(config, state, folder)

    def save_pretrained(self, folder):
        """Write a folder that transformers' AutoModelForCausalLM.from_pretrained loads."""
        write_hf_folder(self, folder)


# ---- generation: the KV cache ----------------------------------------------------------------------------------------

class KVCache:
    """Keys and values of all layers for generation, allocated once. Rows are independent sequences of their own length.

    k, v: (L, B, H, S, K). lengths: (B,) int64, the tokens that each row holds; whoever calls the model advances it.
    window: attention reads the positions 0..window-1, which must cover the longest row with its new tokens; 0 means empty rows and
    plain causal attention among the new tokens. An int, so that no step waits for the device to learn it.
    """
    def __init__(self, config, rows, room, device=None, dtype=None):
        shape = (config.n_layer, rows, config.n_head, room, config.n_embd // config.n_head)
        self.k = torch.zeros(shape, device=device, dtype=dtype)
        self.v = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.window = 0

    def rows(self, start, stop, window):
        """The same memory, rows start..stop only."""
        view = copy.copy(self)
        view.k, view.v, view.lengths, view.window = self.k[:, start:stop], self.v[:, start:stop], self.lengths[start:stop], window
        return view

    def copy_row(self, source, target, length):
        """Copy the first `length` positions of a row to another."""
        self.k[:, target, :, :length] = self.k[:, source, :, :length]
        self.v[:, target, :, :length] = self.v[:, source, :, :length]

    def places(self, T):
        """Where T new tokens per row go: their positions (B, T), and for each layer what Attention takes as `past`: keys and
        values (B, H, S, K), the index of the new ones in them, and the mask (B, 1, T, window) that is added to the scores,
        -inf where a token may not look: at its future, and beyond the length of its row. None is the plain causal mask."""
        device = self.lengths.device
        positions = self.lengths[:, None] + torch.arange(T, device=device)
        new = torch.arange(len(positions), device=device)[:, None], slice(None), positions
        mask = None
        if self.window:
            future = torch.arange(self.window, device=device) > positions[:, None, :, None]
            mask = torch.zeros(future.shape, dtype=self.k.dtype, device=device).masked_fill_(future, float("-inf"))
        return positions, [(k, v, new, mask) for k, v in zip(self.k.unbind(), self.v.unbind())]


# ---- faster kernels on a CPU -----------------------------------------------------------------------------------------

class Linear(nn.Linear):
    """nn.Linear, which multiplies by a packed copy of its weights while there is one."""
    packed = None

    def forward(self, x):
        packed = self.packed
        if packed is None or torch.compiler.is_compiling() or not torch.is_inference_mode_enabled() or x.dtype != self.weight.dtype:
            return super().forward(x)
        return torch.ops.mkldnn._linear_pointwise(x, *packed, "none", [], "")


@contextlib.contextmanager
def packed_weights(model, rows):
    """Inside, the large matrices of a model on a CPU are there twice: once more in the layout in which oneDNN multiplies so many rows
    fastest, from 1.2 to 4 times as fast (BENCHMARKS.md). The weights must not change meanwhile."""
    layers = [module for module in model.modules() if isinstance(module, Linear) and can_be_packed(module.weight, rows)]
    try:
        for layer in layers:
            bias = None if layer.bias is None else layer.bias.contiguous()  # oneDNN does not ask for its stride
            layer.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight), bias
        yield
    finally:
        for layer in layers:
            layer.packed = None


def can_be_packed(weight, rows):
    """Is it on a CPU, large enough to pay for oneDNN's start, and does oneDNN multiply so many rows of its type fastest on this
    processor? Few of them in fp32 on Intel's are MKL's."""
    if not (weight.is_cpu and weight.numel() >= 1 << 18 and torch.backends.mkldnn.is_available()):
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 and (rows > 3 or "Intel" not in torch.cpu.get_capabilities().get("cpu_name", ""))


class CPUAttention(torch.autograd.Function):
    """Causal attention of q, k, v (B, H, T, K) for training on a CPU in 16 bits by torch's fused kernel, which is twice to three times as
    fast in 16 bits forwards and up to three times as slow backwards (BENCHMARKS.md): so its backward pass is asked for in fp32."""
    @staticmethod
    def forward(ctx, q, k, v):
        y, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
        ctx.save_for_backward(q, k, v, y, logsumexp)
        return y

    @staticmethod
    def backward(ctx, dy):
        *in16bits, logsumexp = dy, *ctx.saved_tensors
        fp32 = (x.float() for x in in16bits)
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*fp32, logsumexp, 0.0, True)
        return tuple(grad.type_as(dy) for grad in grads)


# ---- costs and devices -----------------------------------------------------------------------------------------------

def flops_per_token(config, T):
    """Training FLOPs (forward and backward) per token by PaLM's formula: 6 per weight of a matrix product (lm_head in,
    embedding look-up out) + 12 L D T for attention, not halved for causality."""
    matmul = config.n_layer * (4 * config.n_embd**2 + 2 * config.n_embd * config.n_inner) + config.n_embd * config.vocab_size
    return 6 * matmul + 12 * config.n_layer * config.n_embd * T


def pick_device(name):
    """The torch.device for "auto" (cuda, else mps, else cpu), "cuda" (under torchrun this rank's own GPU), "mps" or "cpu"; ends the
    program if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in there if there[kind])
    if not there.get(name):
        raise SystemExit(f"device {name!r} is not there; on this machine: {', '.join(kind for kind in there if there[kind])}")
    return torch.device(name, int(os.environ.get("LOCAL_RANK", 0)) if name == "cuda" else None)


def memory_is_full(error):
    """Is that what an error says? On a CPU torch has no kind of its own for this."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)


# ---- files -----------------------------------------------------------------------------------------------------------

def load_model(path, device="cpu", dtype=None):
    """(model in eval mode, name of its tokenizer) from a checkpoint of train.py or finetune.py, or a Hugging Face folder."""
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, "ckpt.pt")):
            raise SystemExit(f"{path} is the folder of a run: name a checkpoint in it, {os.path.join(path, 'ckpt.pt')}")
        model = Phi.from_pretrained(path)
        ids = model.config.vocab_size
        with open(os.path.join(path, "config.json")) as f:
            usual = "codegen" if ids >= 50295 else "bytes" if ids == 257 else None
            tokenizer = json.load(f).get("phi1_tokenizer", usual)  # save_pretrained names one that is not phi-1's
        if tokenizer is None:
            raise SystemExit(f"{path} does not say what its {ids:,} ids stand for: load the checkpoint that it was saved from")
    else:
        checkpoint = read_checkpoint(path)
        model, tokenizer = Phi.from_state(PhiConfig(**checkpoint["model_config"]), checkpoint["model"], path), checkpoint["tokenizer"]
    model.tokenizer = tokenizer
    return model.to(device=device, dtype=dtype), tokenizer


def read_checkpoint(path):
    """The dict that train.py saved, its tensors still on disk until they are used. Ends the program on anything else."""
    if not os.path.exists(path):
        raise SystemExit(f"{path}: no such checkpoint or folder")
    try:
        with open(path, "rb") as f:
            if not zipfile.is_zipfile(f):
                raise ValueError("it is no zip file, or was cut short")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        for key in ("model", "tokenizer", "step"):
            checkpoint[key]
        PhiConfig(**checkpoint["model_config"])
        return checkpoint
    except PermissionError as error:
        raise SystemExit(f"{path}: {error.strerror}")
    except Exception as error:  # a cut zip, a pickle of something else, tensors without a dict: torch raises many kinds
        raise SystemExit(f"{path} is not a whole checkpoint of train.py ({type(error).__name__}: {one_line(error)})")


def one_line(error, most=160):
    """An error's message, which torch likes to spread over many lines, as one line of at most so many characters."""
    return " ".join(str(error).split())[:most]


# ---- Hugging Face folders --------------------------------------------------------------------------------------------

def safetensors_torch():
    try:
        import safetensors.torch
    except ImportError:
        raise SystemExit("Hugging Face folders need the package safetensors: pip install safetensors")
    return safetensors.torch


def read_hf_config(folder):
    """(PhiConfig, phi_state or codegen_state: what gives the file's tensors our names) from a folder's config.json; refuses what
    this architecture does not have."""
    path = os.path.join(folder, "config.json")
    gelu = ("gelu_new", "gelu_pytorch_tanh")  # two names of one function
    try:
        with open(path) as f:
            hf = json.load(f)
        kind = hf["model_type"]
        refuse_unlike(path, hf, quantization_config=(None,))
        if kind == "phi":
            heads, width = hf["num_attention_heads"], hf["hidden_size"]
            rope = hf.get("rope_parameters") or {}  # transformers 5 groups what older files keep at the top level
            fraction = hf.get("partial_rotary_factor", rope.get("partial_rotary_factor", 0.5))
            refuse_unlike(path, hf, num_key_value_heads=(heads,), qk_layernorm=(False,), hidden_act=gelu, tie_word_embeddings=(False,),
                          layer_norm_eps=(1e-5,), rope_scaling=(None,))
            refuse_unlike(path, {"rope_type": rope.get("rope_type", rope.get("type"))}, rope_type=("default",))
            return PhiConfig(vocab_size=hf["vocab_size"], context=hf["max_position_embeddings"], n_layer=hf["num_hidden_layers"],
                             n_head=heads, n_embd=width, n_inner=hf["intermediate_size"],
                             rotary_dim=int(fraction * (width // heads)),
                             rope_theta=hf.get("rope_theta", rope.get("rope_theta", 10000.0))), phi_state
        if kind == "codegen":
            refuse_unlike(path, hf, activation_function=gelu, layer_norm_epsilon=(1e-5,), tie_word_embeddings=(False,))
            return PhiConfig(vocab_size=hf["vocab_size"], context=hf["n_positions"], n_layer=hf["n_layer"], n_head=hf["n_head"],
                             n_embd=hf["n_embd"], n_inner=hf.get("n_inner") or 0, rotary_dim=hf["rotary_dim"]), codegen_state
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise SystemExit(f"{folder} is not a Hugging Face folder: {type(error).__name__} at its config.json: {error}")
    raise SystemExit(f"{path}: model_type is {kind!r}; phi (as microsoft/phi-1) and codegen can be loaded")


def refuse_unlike(path, hf, **fixed):
    """Ends the program where config.json has another value than this architecture: name=(values that are fine, the last our own)."""
    for name, fine in fixed.items():
        if hf.get(name) not in (None, *fine):
            raise SystemExit(f"{path}: {name} is {hf[name]!r}; model.py has {fine[-1]!r} only")


def read_hf_tensors(folder):
    """{name: tensor} from model.safetensors or pytorch_model.bin, whole or in shards listed by *.index.json."""
    for file in ("model.safetensors", "pytorch_model.bin"):
        path = os.path.join(folder, file)
        if os.path.exists(path):  # before an index, as in transformers
            shards = [file]
        elif os.path.exists(path + ".index.json"):
            try:
                with open(path + ".index.json") as f:
                    shards = sorted(set(json.load(f)["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise SystemExit(f"{path}.index.json does not list the shards ({type(error).__name__}: {error})")
        else:
            continue
        tensors = {}
        for shard in shards:
            try:
                shard = os.path.join(folder, shard)
                if file == "model.safetensors":
                    tensors |= safetensors_torch().load_file(shard)
                else:  # weights_only: a pickle cannot run code here
                    tensors |= torch.load(shard, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(shard))
                if strange := [name for name, tensor in tensors.items() if not isinstance(name, str) or not isinstance(tensor, torch.Tensor)]:
                    raise ValueError(f"{strange[0]!r} names no tensor")
            except Exception as error:
                raise SystemExit(f"{shard} cannot be read ({type(error).__name__}: {one_line(error)})")
        return tensors
    raise SystemExit(f"{folder} holds neither model.safetensors nor pytorch_model.bin (nor an index of their shards)")


def hf_names(config):
    """[(Hugging Face's name, our name)]; q, k and v are ("our fused name", 0..2)."""
    names = [("model.embed_tokens.weight", "embedding.weight")]
    for kind in ("weight", "bias"):
        names += [(f"model.final_layernorm.{kind}", f"norm.{kind}"), (f"lm_head.{kind}", f"lm_head.{kind}")]
        for i in range(config.n_layer):
            hf, ours = f"model.layers.{i}", f"blocks.{i}"
            names += [(f"{hf}.self_attn.{p}_proj.{kind}", (f"{ours}.attention.qkv.{kind}", n)) for n, p in enumerate("qkv")]
            names += [(f"{hf}.self_attn.dense.{kind}", f"{ours}.attention.dense.{kind}"),
                      (f"{hf}.input_layernorm.{kind}", f"{ours}.norm.{kind}"),
                      (f"{hf}.mlp.fc1.{kind}", f"{ours}.fc1.{kind}"), (f"{hf}.mlp.fc2.{kind}", f"{ours}.fc2.{kind}")]
    return names


def refuse_beyond(tensors, prefix, config):
    """Ends the program where the file has more layers than its config.json."""
    layers = [(name, name.split(".")[2]) for name in tensors if name.startswith(prefix)]
    beyond = [name for name, layer in layers if not layer.isdecimal() or int(layer) >= config.n_layer]
    if beyond:
        raise SystemExit(f"config.json has {config.n_layer} layers, and the file also holds {beyond[0]}")


def phi_state(config, tensors):
    """PhiForCausalLM's tensors under our names."""
    state = {}
    refuse_beyond(tensors, "model.layers.", config)
    for hf_name, name in hf_names(config):
        if hf_name not in tensors:
            raise SystemExit(f"the tensor {hf_name} is missing: not a PhiForCausalLM, or an incomplete download")
        if isinstance(name, tuple):
            if tensors[hf_name].shape not in ((config.n_embd,) * 2, (config.n_embd,)):
                raise SystemExit(f"the tensor {hf_name} has the shape {tuple(tensors[hf_name].shape)}, and config.json says {config.n_embd} channels")
            state.setdefault(name[0], [None] * 3)[name[1]] = tensors[hf_name]
        else:
            state[name] = tensors[hf_name]
    return {name: torch.cat(t) if isinstance(t, list) else t for name, t in state.items()}


def codegen_state(config, tensors):
    """CodeGenForCausalLM's tensors under our names. It is phi-1's architecture but for two conventions and attention biases."""
    D, K, R = config.n_embd, config.n_embd // config.n_head, config.rotary_dim
    # CodeGen rotates neighbouring channels, phi channels R/2 apart: reorder the rotated rows of every q and k head
    halves = torch.cat([torch.arange(0, R, 2), torch.arange(1, R, 2), torch.arange(R, K)])
    state = {}
    refuse_beyond(tensors, "transformer.h.", config)
    try:
        for kind in ("weight", "bias"):
            for i in range(config.n_layer):
                cg, ours = f"transformer.h.{i}", f"blocks.{i}"
                state[f"{ours}.norm.{kind}"] = tensors[f"{cg}.ln_1.{kind}"]
                state[f"{ours}.fc1.{kind}"] = tensors[f"{cg}.mlp.fc_in.{kind}"]
                state[f"{ours}.fc2.{kind}"] = tensors[f"{cg}.mlp.fc_out.{kind}"]
            state[f"norm.{kind}"] = tensors[f"transformer.ln_f.{kind}"]
            state[f"lm_head.{kind}"] = tensors[f"lm_head.{kind}"]
        state["embedding.weight"] = tensors["transformer.wte.weight"]
        for i in range(config.n_layer):
            # 4 blocks of rows (it was trained on 4 TPU cores), each with its share of q, then v, then k
            blocks = tensors[f"transformer.h.{i}.attn.qkv_proj.weight"].view(4, 3, D // 4, D)
            q, v, k = (blocks[:, part].reshape(config.n_head, K, D) for part in range(3))
            qkv = torch.cat([q[:, halves], k[:, halves], v]).reshape(3 * D, D)
            dense = tensors[f"transformer.h.{i}.attn.out_proj.weight"]
            ours = f"blocks.{i}.attention"
            state |= {f"{ours}.qkv.weight": qkv, f"{ours}.qkv.bias": qkv.new_zeros(3 * D),
                      f"{ours}.dense.weight": dense, f"{ours}.dense.bias": dense.new_zeros(D)}
    except KeyError as error:
        raise SystemExit(f"the tensor {error} is missing: not a CodeGenForCausalLM, or an incomplete download")
    except RuntimeError as error:  # of view
        raise SystemExit(f"a tensor does not have the shape that config.json says: {error}")
    return state


def write_hf_folder(model, folder):
    """Write config.json, generation_config.json, model.safetensors and, where GPT-2's ranks are at hand and the vocabulary has room for
    them, phi-1's tokenizer. Of a model from a checkpoint with another tokenizer, config.json names that one for load_model;
    transformers does not know it."""
    save_file = safetensors_torch().save_file
    state, names = model.state_dict(), hf_names(model.config)
    ours = {name[0] if isinstance(name, tuple) else name for _, name in names}
    if differing := sorted(state.keys() ^ ours):  # it would be another model there
        what = "no place for" if differing[0] in state else "also"
        raise SystemExit(f"{folder} is not written: PhiForCausalLM has {what} {differing[0]}")
    hf = hf_config(model.config, model.lm_head.weight.dtype)
    phi1s_tokenizer = model.tokenizer in (None, "codegen")
    if not phi1s_tokenizer:
        from tokenizer import load_tokenizer
        hf["phi1_tokenizer"] = model.tokenizer
        hf["bos_token_id"] = hf["eos_token_id"] = load_tokenizer(model.tokenizer).eot_token
    os.makedirs(folder, exist_ok=True)
    tensors = {}
    for hf_name, name in names:
        if isinstance(name, tuple):  # one of q, k, v out of our fused matrix
            tensors[hf_name] = state[name[0]].chunk(3)[name[1]].clone()
        else:
            tensors[hf_name] = state[name].contiguous()
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    generation = {"_from_model_config": True, "bos_token_id": hf["bos_token_id"], "eos_token_id": hf["eos_token_id"]}
    for file, content in (("config.json", hf), ("generation_config.json", generation)):
        with open(os.path.join(folder, file), "w") as f:
            json.dump(content, f, indent=2)
    if phi1s_tokenizer and model.config.vocab_size > 50294:
        from tokenizer import write_hf_tokenizer
        write_hf_tokenizer(folder)


def hf_config(c, dtype):
    """The dict for PhiForCausalLM's config.json, of which read_hf_config makes the PhiConfig c again."""
    K = c.n_embd // c.n_head
    fraction = c.rotary_dim / K
    if int(fraction * K) < c.rotary_dim:  # which is how it is read: 58 / 100 * 100 is just below 58
        fraction = (c.rotary_dim + 0.5) / K
    eot = min(50256, c.vocab_size - 1)  # <|endoftext|> of the codegen tokenizer; the last id of any other that is not padded
    return dict(architectures=["PhiForCausalLM"], model_type="phi", vocab_size=c.vocab_size, hidden_size=c.n_embd,
                intermediate_size=c.n_inner, num_hidden_layers=c.n_layer, num_attention_heads=c.n_head,
                num_key_value_heads=c.n_head, hidden_act="gelu_new", max_position_embeddings=c.context,
                initializer_range=float(c.init_std), layer_norm_eps=1e-5, partial_rotary_factor=fraction,
                rope_theta=c.rope_theta, rope_scaling=None, qk_layernorm=False, tie_word_embeddings=False,
                attention_dropout=c.dropout, resid_pdrop=c.dropout, embd_pdrop=0.0, use_cache=True,
                torch_dtype=str(dtype).removeprefix("torch."), bos_token_id=eot, eos_token_id=eot)
