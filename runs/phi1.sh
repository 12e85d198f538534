#!/usr/bin/env bash
# phi-1 from start to end ("Textbooks Are All You Need", arXiv 2306.11644), on one node of 8 GPUs with 80 GB each.
# Every stage continues where it was stopped: give the same command again. Not run yet: it takes 8 GPUs for a day and a half.
#
# It starts from the two corpora as .jsonl(.gz) files with the text in the field "text":
#   data/codetextbook/*.jsonl.gz    filtered Python of The Stack and StackOverflow, about 6B tokens, and synthetic textbooks, under 1B
#   data/codeexercises/*.jsonl.gz   exercises: signature, docstring, solution; under 180M tokens, 879,500 of them
set -eu
cd "$(dirname "$0")/.."
GPUS=${GPUS:-8}

# 1. Tokens. 7B tokens x 2 bytes = 14 GB, and twice that while it sorts; about half an hour on 8 cores (2 to 8M tokens/s per core).
python prepare_data.py tokenize data/codetextbook/*.jsonl.gz --val 0.001 --out data/codetextbook
python prepare_data.py tokenize data/codeexercises/*.jsonl.gz --val 0.01 --out data/codeexercises

# 2. Pretraining. 36,000 steps x 1024 x 2048 = 75.5B tokens, 10.8 passes; the paper's phi-1-base is step 24,000: 50.3B tokens, 7.2 passes.
#    9.085 GFLOP per token x 50.3B = 4.6e20 FLOP: 8 H100 at 50% of 989 TFLOP/s take 32 hours, 8 A100 at 50% of 312 take 102;
#    half as long again for the 36,000. If only phi-1-base is wanted, stop it with Ctrl-C once out/phi1/step_24000.pt is there.
python train.py configs/phi1.py --plan
torchrun --nproc_per_node="$GPUS" train.py configs/phi1.py

# 3. Finetuning. 6,000 steps x 256 x 2048 = 3.15B tokens, 17 passes: 2 hours on 8 H100 at 50%. The best of its 6 checkpoints is named.
torchrun --nproc_per_node="$GPUS" finetune.py configs/finetune_phi1.py

# 4. A look at it.
python sample.py out/phi1_finetuned/best.pt --prompt 'def is_palindrome(text: str) -> bool:
    """Return True if text reads the same backwards, ignoring case and spaces."""
' --temperature 0
