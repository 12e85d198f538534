# Finetune the proxy on exercises: the paper's recipe with a sixteenth of its tokens per step.
init_from = "out/proxy/best.pt"
data_dir = "data/codeexercises"
out_dir = "out/proxy_finetuned"

batch_size = 32           # x 1024 = 32,768 tokens per step
micro_batch_size = 16
max_steps = 3000          # 98M tokens
learning_rate = 1e-4
warmup_steps = 50
weight_decay = 0.01
dropout = 0.1
beta2 = 0.98
eps = 1e-7

keep_steps = (1000, 2000, 3000)
eval_interval = 500
eval_sequences = 512
save_interval = 500
device = "cuda"
