# phi-1-small: its base finetuned on CodeExercises (paper, 2.2 and 2.3). The recipe and the origins are those of finetune_phi1.py.
init_from = "out/phi1_small/ckpt.pt"    # after 36,000 steps, 76B tokens (paper)
data_dir = "data/codeexercises"        # under 180M tokens (paper)
out_dir = "out/phi1_small_finetuned"

batch_size = 256          # sequences: 256 x 2048 = 524,288 tokens per step (paper)
micro_batch_size = 32     # 8 GPUs x 32 = 256 (our choice)
max_steps = 6_000         # 3.15B tokens, about 17 passes (paper)
learning_rate = 1e-4      # (paper)
warmup_steps = 50         # (paper)
weight_decay = 0.01       # (paper)
dropout = 0.1             # (paper)
beta1 = 0.9               # (phi-1.5)
beta2 = 0.98              # (phi-1.5)
eps = 1e-7                # (phi-1.5)

keep_steps = (1000, 2000, 3000, 4000, 5000, 6000)  # saved every 1,000, the best is kept (paper)
eval_interval = 1000
eval_sequences = 1024
save_interval = 500
device = "cuda"
