# The miniature of `make demo`: a model that two CPU cores train in about a minute and a half. runs/demo.sh names data and folder.
data_dir = "data/demo/textbook"
out_dir = "out/demo/textbook"
seed = 1                  # of `make demo`, so that the file alone continues its run

vocab_size = 1024         # the 1,023 tokens of data/demo/bpe.tiktoken and <|endoftext|>
context = 128
n_layer = 4
n_head = 4
n_embd = 128
rotary_dim = 16           # half of each head's 32 channels, as in phi-1
init_std = 0.08           # 0.02 at phi-1's width of 2048 is 0.08 here: so that what a layer puts out has the same scale

batch_size = 8            # x 128 = 1,024 tokens per step: so little data is best read in many small steps
micro_batch_size = 8
max_steps = 700           # 0.7M tokens
learning_rate = 3e-3
warmup_steps = 100
dropout = 0.0             # one pass over the data: nothing to regularise

eval_interval = 100
eval_sequences = 128
save_interval = 350
log_interval = 30
compile = False           # at this size compiling takes longer than it saves
