# A byte-level model that two CPU cores train in about two minutes, on the Python standard library's source: `make demo`.
data_dir = "data/demo"
out_dir = "out/demo"

vocab_size = 257          # the "bytes" tokenizer: 256 bytes and <|endoftext|>
context = 256
n_layer = 4
n_head = 4
n_embd = 128
rotary_dim = 16           # half of each head's 32 channels, as in phi-1

batch_size = 16           # x 256 = 4,096 tokens per step
micro_batch_size = 16
max_steps = 600           # 2.5M tokens
learning_rate = 3e-3
warmup_steps = 50
dropout = 0.0             # less than one pass over the data: nothing to regularise

eval_interval = 300
eval_sequences = 256
save_interval = 100
log_interval = 50
compile = False           # at this size compiling takes longer than it saves
