# phi-1, pretraining: section 2.3 of the paper. 8 GPUs of 80 GB; --plan prints memory and hours.
#
# Origins: (paper) stated there, (phi-1.5) stated for its successor, (our choice) stated nowhere.
data_dir = "data/codetextbook"   # filtered code + synthetic textbooks, about 7B tokens (paper, 2.1 and 2.2)
out_dir = "out/phi1"

vocab_size = 51200        # codegen-350M-mono's tokenizer: 50,295 ids, padded (paper)
context = 2048            # (paper)
n_layer = 24              # (paper)
n_head = 32               # of 64 channels (paper)
n_embd = 2048             # MLP 8192 (paper)
rotary_dim = 32           # (paper)
dropout = 0.1             # attention and residual (paper)

batch_size = 1024         # sequences: 1024 x 2048 = 2,097,152 tokens per step (paper)
micro_batch_size = 16     # 8 GPUs x 16 x 8 accumulated = 1024 (our choice, for 80 GB)
max_steps = 36_000        # 75.5B tokens (paper)
learning_rate = 1e-3      # (paper)
warmup_steps = 750        # (paper)
min_lr = 0.0              # "linear decay": to what is not stated (our choice)
weight_decay = 0.1        # (paper); on matrices only (our choice)
beta1 = 0.9               # (phi-1.5)
beta2 = 0.98              # (phi-1.5)
eps = 1e-7                # (phi-1.5)
grad_clip = 1.0           # (our choice)
dtype = "auto"            # bf16 where the GPU has it; the paper used fp16

keep_steps = (24_000,)    # 50.3B tokens: this checkpoint is phi-1-base (paper)
eval_interval = 500       # (our choice, and all below)
eval_sequences = 1024
save_interval = 500
log_interval = 10
device = "cuda"
