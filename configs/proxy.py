# A quick run on one 24 GB GPU: 107M parameters, the codegen tokenizer, about an hour (an estimate: 40% of an RTX 4090's peak).
#   python train.py configs/proxy.py --max_steps=500 --out_dir=out/quick    # a quick look
data_dir = "data/proxy"
out_dir = "out/proxy"

vocab_size = 51200
context = 1024
n_layer = 12
n_head = 9                # of 64 channels, as in phi-1
n_embd = 576
rotary_dim = 32

batch_size = 256          # x 1024 = 262,144 tokens per step
micro_batch_size = 16     # its logits and their gradient alone, 16 x 1024 x 51200 x 2 bytes each, are 3.4 GB
max_steps = 1600          # 419M tokens
learning_rate = 1e-3
warmup_steps = 100
dropout = 0.0             # few passes
beta2 = 0.98
eps = 1e-7

eval_interval = 200
eval_sequences = 512
save_interval = 200
device = "cuda"
