# The demo: a byte-level model small enough for two CPU cores, on the Python standard library's source. `make demo` runs it.
data_dir = "data/demo"
out_dir = "out/demo"

vocab_size = 257        # the "bytes" tokenizer
context = 256
n_layer = 4
n_head = 4
n_embd = 192
rotary_dim = 24

batch_size = 16
micro_batch_size = 16
max_steps = 1200
learning_rate = 2e-3
warmup_steps = 50
dropout = 0.0           # one pass over little data: nothing to regularise
eval_interval = 400
eval_sequences = 128
save_interval = 200
log_interval = 50
