# The demo's second half: one package that pretraining did not see. `make demo` runs it.
init_from = "out/demo/best.pt"
data_dir = "data/demo_finetune"
out_dir = "out/demo_finetuned"

batch_size = 16           # x 256 = 4,096 tokens per step
micro_batch_size = 16
max_steps = 100          # 0.4M tokens, 1.4 passes
learning_rate = 1e-3
warmup_steps = 10
weight_decay = 0.01
dropout = 0.0

eval_interval = 25
eval_sequences = 256
keep_steps = (25, 50, 75, 100)
save_interval = 25
log_interval = 25
compile = False
