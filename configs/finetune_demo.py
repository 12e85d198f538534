# The miniature's last row: the textbook model, finetuned on exercises for as many steps. `make demo` runs it.
init_from = "out/demo/textbook/ckpt.pt"
data_dir = "data/demo/exercises"
out_dir = "out/demo/exercises"
seed = 1                  # of `make demo`

batch_size = 8            # x 128 = 1,024 tokens per step
micro_batch_size = 8
max_steps = 700           # 0.7M tokens
learning_rate = 1.5e-3    # half of pretraining's
warmup_steps = 50
weight_decay = 0.01
dropout = 0.0

eval_interval = 100
eval_sequences = 128
save_interval = 350
log_interval = 30
compile = False
