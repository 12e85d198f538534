"""The model against transformers, which released phi-1 and CodeGen, and against slow twins."""
import functools
import json
import os
from dataclasses import asdict

import pytest
import safetensors.torch
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from model import CPUAttention, KVCache, Linear, Phi, PhiConfig, apply_rotary, can_be_packed, flops_per_token, load_model, packed_weights, rotary_table

PHI1, PHI1_SMALL = PhiConfig(), PhiConfig(n_layer=20, n_head=16, n_embd=1024)


def shaken(model):
    """Give every parameter, biases and LayerNorms too, a random value, so that none can be mixed up unseen."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return model.eval()


def hf_phi():
    config = transformers.PhiConfig(vocab_size=500, hidden_size=256, intermediate_size=768, num_hidden_layers=3, num_attention_heads=4,
                                    max_position_embeddings=512, partial_rotary_factor=0.5, bos_token_id=1, eos_token_id=1)
    return shaken(transformers.PhiForCausalLM(config))


@torch.no_grad()
def difference(ours, theirs, T=300):
    idx = torch.randint(0, 500, (2, T), generator=torch.Generator().manual_seed(2))
    return (ours(idx)[0] - theirs(idx).logits).abs().max()


def test_logits_and_loss_equal_transformers_phi(tmp_path):
    theirs = hf_phi()
    theirs.save_pretrained(tmp_path)
    ours = Phi.from_pretrained(tmp_path)
    assert difference(ours, theirs) < 1e-4
    idx = torch.randint(0, 500, (2, 40))
    labels = torch.where(torch.rand(2, 40) < 0.2, -100, idx)
    targets = labels[:, 1:].masked_fill(labels[:, 1:] == -100, -1)
    assert torch.allclose(ours(idx[:, :-1], targets)[1], theirs(idx, labels=labels).loss, atol=1e-5)


def test_an_exported_model_gives_the_same_logits_in_transformers(tmp_path):
    ours = shaken(Phi(PhiConfig(vocab_size=500, context=512, n_layer=3, n_head=4, n_embd=256, n_inner=768, rotary_dim=32)))
    ours.save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(theirs, transformers.PhiForCausalLM) and theirs.dtype == torch.float32
    assert difference(ours, theirs) < 1e-4
    assert difference(Phi.from_pretrained(tmp_path), theirs) < 1e-4
    with pytest.raises(SystemExit, match="does not say what its 500 ids stand for"):  # neither 257 bytes nor phi-1's tokens
        load_model(str(tmp_path))


def test_an_export_in_bf16_loads_in_bf16(tmp_path):
    shaken(Phi(PhiConfig(vocab_size=500, context=64, n_layer=1, n_head=2, n_embd=64))).to(torch.bfloat16).save_pretrained(tmp_path)
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert Phi.from_pretrained(tmp_path).lm_head.weight.dtype == torch.bfloat16


def test_a_share_of_rotary_channels_that_is_no_exact_fraction_is_read_back(tmp_path):
    ours = shaken(Phi(PhiConfig(vocab_size=500, context=64, n_layer=1, n_head=1, n_embd=100, rotary_dim=58)))  # int(58 / 100 * 100) is 57
    ours.save_pretrained(tmp_path)
    assert Phi.from_pretrained(tmp_path).config.rotary_dim == 58
    assert difference(ours, transformers.AutoModelForCausalLM.from_pretrained(tmp_path), T=60) < 1e-4


def test_a_matrix_of_another_shape_is_named(tmp_path):
    theirs = hf_phi()
    theirs.save_pretrained(tmp_path)
    state = {name: t[:, :-1].contiguous() if name == "model.layers.0.self_attn.q_proj.weight" else t for name, t in theirs.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(SystemExit, match="q_proj.weight has the shape"):
        Phi.from_pretrained(tmp_path)


@pytest.mark.parametrize("form", ["safetensors shards", "one bin", "bin shards"])
def test_every_form_of_a_hugging_face_folder_loads(tmp_path, form):
    theirs = hf_phi()
    theirs.save_pretrained(tmp_path, max_shard_size="1MB" if form == "safetensors shards" else "1GB")
    if form == "safetensors shards":
        assert (tmp_path / "model.safetensors.index.json").exists()
    else:
        os.remove(tmp_path / "model.safetensors")
        state = theirs.state_dict()
        if form == "one bin":
            torch.save(state, tmp_path / "pytorch_model.bin")
        else:
            where = {name: f"pytorch_model-{1 + i % 2}.bin" for i, name in enumerate(state)}
            for shard in set(where.values()):
                torch.save({name: t for name, t in state.items() if where[name] == shard}, tmp_path / shard)
            (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    ours = Phi.from_pretrained(tmp_path)
    assert difference(ours, theirs) < 1e-4
    shaken(ours).save_pretrained(tmp_path)  # over what is there
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), Phi.from_pretrained(tmp_path).state_dict().values()))


def test_an_exported_folder_names_a_tokenizer_that_is_not_phis(tmp_path):
    config = PhiConfig(vocab_size=51200, context=32, n_layer=1, n_head=1, n_embd=8, rotary_dim=4)
    torch.save({"model": Phi(config).state_dict(), "model_config": asdict(config), "tokenizer": "bytes", "step": 0}, tmp_path / "ckpt.pt")
    load_model(str(tmp_path / "ckpt.pt"))[0].save_pretrained(tmp_path / "hf")
    assert load_model(str(tmp_path / "hf"))[1] == "bytes" and not (tmp_path / "hf" / "vocab.json").exists()
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").generation_config.eos_token_id == 256


@pytest.mark.parametrize("heads", [8, 16])
def test_codegen_through_the_mapping_equals_transformers(tmp_path, heads):
    config = transformers.CodeGenConfig(vocab_size=500, n_positions=512, n_embd=64 * heads, n_layer=2, n_head=heads, rotary_dim=32)
    theirs = shaken(transformers.CodeGenForCausalLM(config))
    theirs.save_pretrained(tmp_path)
    assert difference(Phi.from_pretrained(tmp_path), theirs) < 1e-4
    path = tmp_path / "config.json"
    hf = json.loads(path.read_text())
    for change, words in (({"activation_function": "relu"}, "activation_function is 'relu'"), ({"layer_norm_epsilon": 0.01}, "layer_norm_epsilon"),
                          ({"n_layer": 1}, "1 layers"), ({"n_embd": 32 * heads}, "shape")):
        path.write_text(json.dumps(hf | change))
        with pytest.raises(SystemExit, match=words):
            Phi.from_pretrained(tmp_path)


@pytest.mark.parametrize("config, parameters, tensors", [(PHI1, 1_418_270_720, 341), (PHI1_SMALL, 356_794_368, 285)])
def test_the_papers_models_have_transformers_exact_tensors(config, parameters, tensors):
    from model import hf_names
    with torch.device("meta"):
        ours = Phi(config)
        theirs = transformers.PhiForCausalLM(transformers.PhiConfig(
            vocab_size=51200, hidden_size=config.n_embd, intermediate_size=config.n_inner, num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head, partial_rotary_factor=0.5)).state_dict()
    assert ours.num_params() == sum(t.numel() for t in theirs.values()) == parameters
    assert {name for name, _ in hf_names(config)} == set(theirs) and len(theirs) == tensors


def test_configs_are_the_papers_models():
    from train import TrainConfig, load_config
    assert load_config(TrainConfig, ["configs/phi1.py"])[0].model_config() == PhiConfig(dropout=0.1)
    assert load_config(TrainConfig, ["configs/phi1_small.py"])[0].model_config() == PhiConfig(n_layer=20, n_head=16, n_embd=1024, dropout=0.1)


def test_flops_per_token_equal_what_torch_counts():
    config, T = PhiConfig(vocab_size=400, context=128, n_layer=3, n_head=4, n_embd=128, rotary_dim=16), 128
    model, idx = Phi(config), torch.zeros(2, T, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(idx, idx)[1].backward()
    assert counter.get_total_flops() == flops_per_token(config, T) * 2 * T
    assert f"{flops_per_token(PHI1, 2048):.4g}" == "9.085e+09"


def test_rotary_turns_pairs_as_complex_numbers():
    config = PhiConfig(n_head=2, n_embd=96, rotary_dim=20)
    x = torch.randn(1, 7, 2, 48, dtype=torch.float64)
    cos, sin = rotary_table(config)
    turned = apply_rotary(x, cos[:7, None].double(), sin[:7, None].double())
    for t in range(7):
        for j in range(10):
            z = torch.complex(x[0, t, :, j], x[0, t, :, j + 10]) * torch.exp(torch.tensor(1j * t * 10000 ** (-2 * j / 20)))
            assert torch.allclose(turned[0, t, :, j], z.real, atol=1e-5) and torch.allclose(turned[0, t, :, j + 10], z.imag, atol=1e-5)
    assert torch.equal(turned[..., 20:], x[..., 20:])


@pytest.fixture
def packing():
    if not can_be_packed(torch.empty(1024, 1024), rows=16):
        pytest.skip("this torch comes without oneDNN")


def test_few_rows_are_not_packed_where_mkl_is_faster(packing, monkeypatch):
    for processor, rows, packed in [("Intel Xeon", 3, False), ("Intel Xeon", 4, True), ("AMD EPYC", 1, True)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": processor})
        assert can_be_packed(torch.empty(1024, 1024), rows) == packed
    assert not can_be_packed(torch.empty(8, 1024), 16) and not can_be_packed(torch.empty(1024, 1024, device="meta"), 16)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (5,), (2, 3), (16, 1), (3, 100)])
@pytest.mark.parametrize("bias", ["yes", "no", "with gaps"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_packed_weights_give_the_product_in_fp64(shape, bias, dtype, tolerance, packing):
    torch.manual_seed(0)
    layer, x = Linear(1024, 512, bias=bias != "no").to(dtype), torch.randn(*shape, 1024).to(dtype)
    if bias == "with gaps":
        layer.bias = torch.nn.Parameter(torch.randn(1024).to(dtype)[::2])
    exact = x.double() @ layer.weight.double().t() + (0 if bias == "no" else layer.bias.double())
    with torch.inference_mode(), packed_weights(layer, 16), torch.profiler.profile() as profile:
        y = layer(x)
    packed = "mkldnn::_linear_pointwise" in {event.key for event in profile.key_averages()}
    assert packed == can_be_packed(layer.weight, 16) and (packed or dtype == torch.bfloat16)
    assert y.dtype == dtype and y.shape == (*shape, 512) and torch.allclose(y.double(), exact, rtol=tolerance, atol=tolerance)
    assert layer(x).requires_grad  # nothing is left of it


def test_packed_weights_are_not_used_outside_nor_for_gradients_under_autocast_and_by_small_matrices(packing):
    model = torch.nn.Sequential(Linear(1024, 1024), Linear(1024, 8))
    x = torch.randn(2, 1024)
    with pytest.raises(KeyError), packed_weights(model, 16):
        assert model[0].packed and not model[1].packed
        model(x).sum().backward()  # who trains between two tokens of a generation
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert model(x).dtype == torch.bfloat16
        raise KeyError
    assert model[0].weight.grad.norm() > 0
    with torch.inference_mode():
        model[0].weight.zero_()
        assert torch.equal(model[0](x), model[0].bias.expand(2, -1))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("T", [1, 60, 300])
def test_attention_for_bf16_on_a_cpu_has_the_values_and_gradients_of_fp64(T, compiled):
    torch._dynamo.reset()
    attention = torch.compile(CPUAttention.apply, backend="aot_eager", dynamic=False) if compiled else CPUAttention.apply
    torch.manual_seed(T)
    *inputs, dy = (size * torch.randn(2, T, 3, 16).bfloat16().transpose(1, 2) for size in (4, 4, 1, 1))  # scores up to 60; views, as in a block
    results = []
    for function, dtype in ((attention, torch.bfloat16), (functools.partial(torch.nn.functional.scaled_dot_product_attention, is_causal=True), torch.float64)):
        q, k, v = (x.to(dtype).detach().requires_grad_() for x in inputs)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):  # as in training
            y = function(q, k, v)
        y.backward(dy.to(dtype))
        results.append([y.detach(), q.grad, k.grad, v.grad])
    for ours, exact in zip(*results):
        assert ours.dtype == torch.bfloat16 and (ours - exact).norm() <= 0.02 * exact.norm() + 0.05  # 2**-9 is a rounding


def test_bf16_training_on_a_cpu_gives_the_gradients_of_fp32():
    model = shaken(Phi(PhiConfig(vocab_size=50, context=64, n_layer=2, n_head=2, n_embd=64, rotary_dim=16))).train()
    idx, gradients = torch.randint(50, (4, 64)), []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            model(idx, idx)[1].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        model.zero_grad()
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.999
    model.double().train()(idx, idx)[1].backward()


@torch.no_grad()
def test_a_cache_works_in_training_mode_under_autocast_as_well():
    model, idx = shaken(Phi(PhiConfig(vocab_size=50, context=64, n_layer=2, n_head=2, n_embd=64, rotary_dim=16))).train(), torch.randint(50, (2, 9))
    with torch.autocast("cpu", torch.bfloat16):
        whole, cache = model.hidden(idx), KVCache(model.config, 2, 64, dtype=torch.bfloat16)
        first = model.hidden(idx[:, :6], cache)
        cache.lengths += 6
        cache.window = 9
        rest = model.hidden(idx[:, 6:], cache)
    assert (torch.cat([first, rest], 1) - whole).abs().max() < 0.1


def test_dropout_acts_on_attention_and_both_branches_in_training_only():
    torch.manual_seed(0)
    model = Phi(PhiConfig(vocab_size=50, context=16, n_layer=1, n_head=1, n_embd=64, rotary_dim=8, dropout=0.5))
    block, idx = model.blocks[0], torch.arange(16)[None]
    assert torch.equal(model.eval()(idx)[0], model(idx)[0])
    model.train()
    assert not torch.equal(model(idx)[0], model(idx)[0])
    x = torch.randn(1, 16, 64)
    cos, sin = model.cos[:16, None], model.sin[:16, None]
    assert not torch.equal(block.attention(x, cos, sin, None), block.attention(x, cos, sin, None))
    with torch.no_grad():  # with attention silenced, half of what the MLP adds is dropped and the rest doubled
        block.attention.dense.weight.zero_()
    added = block(x, cos, sin, None) - x
    full = block.eval()(x, cos, sin, None) - x
    kept = (added - 2 * full).abs() < 1e-4
    assert torch.all(kept | (added.abs() < 1e-6)) and 0.3 < kept.float().mean() < 0.7


@pytest.mark.parametrize("change, word", [({"model_type": "llama"}, "llama"), ({"num_key_value_heads": 1}, "num_key_value_heads"),
                                          ({"qk_layernorm": True}, "qk_layernorm"), ({"hidden_act": "relu"}, "hidden_act"),
                                          ({"vocab_size": 77}, "do not fit"), ({"num_hidden_layers": 2}, "2 layers"),
                                          ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}, "rope_type"),
                                          ({"hidden_size": "256"}, "not a Hugging Face folder"), ({"vocab_size": None}, "vocab_size is None"),
                                          ({"num_attention_heads": 0, "num_key_value_heads": 0}, "not a Hugging Face folder"), ({"num_hidden_layers": -1}, "n_layer is -1"),
                                          ({"max_position_embeddings": 64.0}, "context is 64.0"), ({"intermediate_size": -1}, "n_inner is -1"), ({"rope_theta": 0}, "rope_theta is 0"),
                                          ({"rope_parameters": {"type": "linear", "factor": 2.0, "rope_theta": 10000.0}}, "rope_type"), (None, "not a Hugging Face folder")])
def test_a_folder_that_is_no_phi_ends_in_one_line(tmp_path, change, word):
    hf_phi().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SystemExit) as stop:
        Phi.from_pretrained(tmp_path)
    assert word in str(stop.value) and "\n" not in str(stop.value)


def test_weights_that_a_changed_model_lacks_or_hugging_face_has_no_place_for_are_refused(tmp_path):
    small = PhiConfig(vocab_size=500, context=64, n_layer=1, n_head=2, n_embd=64)
    model = Phi(small)
    model.position = torch.nn.Embedding(64, 64)
    with pytest.raises(SystemExit, match="hf is not written: PhiForCausalLM has no place for position.weight$"):
        model.save_pretrained(tmp_path / "hf")
    rms = Phi(small)
    rms.norm = torch.nn.RMSNorm(64)
    with pytest.raises(SystemExit, match="hf is not written: PhiForCausalLM has also norm.bias$"):
        rms.save_pretrained(tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    torch.save({"model": model.state_dict(), "model_config": asdict(small), "tokenizer": "bytes", "step": 0}, tmp_path / "ckpt.pt")
    with pytest.raises(SystemExit, match=r"ckpt.pt: its tensors do not fit this model: .*position.weight") as stop:
        load_model(str(tmp_path / "ckpt.pt"))
    assert "\n" not in str(stop.value)


def test_weights_that_are_quantized_or_no_tensors_are_refused_and_the_old_format_of_torch_is_read(tmp_path):
    model = shaken(Phi(PhiConfig(vocab_size=500, context=64, n_layer=1, n_head=2, n_embd=64)))
    model.save_pretrained(tmp_path)
    config, tensors = json.loads((tmp_path / "config.json").read_text()), safetensors.torch.load_file(tmp_path / "model.safetensors")
    os.remove(tmp_path / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(Phi.from_pretrained(tmp_path).lm_head.weight, model.lm_head.weight)
    for change, words in (({"lm_head.weight": tensors["lm_head.weight"].to(torch.float8_e4m3fn)}, "lm_head.weight is torch.float8_e4m3fn"),
                          ({"lm_head.weight": [1.0]}, "'lm_head.weight' names no tensor"), ({7: tensors["lm_head.weight"]}, "7 names no tensor")):
        torch.save(tensors | change, tmp_path / "pytorch_model.bin")
        with pytest.raises(SystemExit, match=words):
            Phi.from_pretrained(tmp_path)
    for change, words in (({"quantization_config": {"bits": 4}}, "quantization_config"), ({"partial_rotary_factor": float("inf")}, "OverflowError")):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(SystemExit, match=words):
            Phi.from_pretrained(tmp_path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)
    torch.save({"model": Evil(), "model_config": {}, "tokenizer": "bytes", "step": 0}, tmp_path / "ckpt.pt")
    with pytest.raises(SystemExit, match="not a whole checkpoint"):
        load_model(str(tmp_path / "ckpt.pt"))
    assert not (tmp_path / "pwned").exists()
