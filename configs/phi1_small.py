# phi-1-small, pretraining: 350M parameters (paper, 2.3 and figure 2.1). The recipe is phi-1's; see configs/phi1.py for origins.
data_dir = "data/codetextbook"
out_dir = "out/phi1_small"

vocab_size = 51200
context = 2048
n_layer = 20              # (paper)
n_head = 16               # of 64 channels (paper)
n_embd = 1024             # MLP 4096 (paper)
rotary_dim = 32
dropout = 0.1

batch_size = 1024         # x 2048 = 2,097,152 tokens per step
micro_batch_size = 32     # 8 GPUs x 32 x 4 accumulated = 1024 (our choice, for 80 GB)
max_steps = 36_000        # 75.5B tokens: the 76B of figure 2.1 (paper)
learning_rate = 1e-3
warmup_steps = 750
weight_decay = 0.1
beta1 = 0.9
beta2 = 0.98
eps = 1e-7

keep_steps = (12_000,)    # 25.2B tokens: the 26B of figure 2.1
eval_interval = 500
eval_sequences = 1024
save_interval = 500
device = "cuda"
