#!/usr/bin/env bash
# phi-1 from start to end ("Textbooks Are All You Need", arXiv 2306.11644), on one node of 8 GPUs with 80 GB each.
# Every stage continues where it was stopped: give the same command again. Not run yet: it takes 8 H100 about two days (arithmetic).
#
# It starts from the raw pool, the encoder and a key, which nobody can ship:
#   STACK     the Python of The Stack (35M files with StackOverflow's, 35B tokens), a folder of .parquet (pip install pyarrow) or .jsonl.gz
#   POSTS     StackOverflow's Posts.xml
#   ENCODER   a download of Salesforce/codegen-350M-mono
#   TEACHER   a model that OPENAI_BASE_URL serves, with OPENAI_API_KEY
set -eu
cd "$(dirname "$0")/.."
GPUS=${GPUS:-8}
unless() { [ -e "$1" ] || "${@:2}"; }  # unless FILE COMMAND: what is complete is not made again
: "${STACK:?}" "${POSTS:?}" "${ENCODER:?}" "${TEACHER:?}"

# 0. Data (paper, section 2). About 1.3B tokens of answers: $700 to $1,650 by --dry-run, half of it with --batch; labels about $10 to $20.
unless data/web.jsonl.gz \
    python prepare_data.py collect "$STACK" "$POSTS" --out data/web.jsonl.gz
python prepare_data.py annotate data/web.jsonl.gz --samples 100000 --model "$TEACHER" --budget 50 --out data/labels.jsonl
unless data/filtered.jsonl.gz \
    torchrun --nproc_per_node="$GPUS" prepare_data.py filter data/web.jsonl.gz --labels data/labels.jsonl --encoder "$ENCODER" --keep 0.17 --out data/filtered.jsonl.gz
python prepare_data.py textbooks --count 1000000 --model "$TEACHER" --budget 1400 --out data/textbooks.jsonl
python prepare_data.py exercises --count 900000 --model "$TEACHER" --budget 400 --out data/exercises.jsonl
unless data/exercises_clean.jsonl \
    python prepare_data.py decontaminate data/exercises.jsonl --against humaneval mbpp --tau 0.95 --out data/exercises_clean.jsonl

# 1. Tokens. 7B tokens x 2 bytes = 14 GB; at 2M tokens/s per core, 8 cores read them in 8 minutes.
unless data/codetextbook/meta.json \
    python prepare_data.py tokenize data/filtered.jsonl.gz data/textbooks.jsonl --val 0.001 --out data/codetextbook
unless data/codeexercises/meta.json \
    python prepare_data.py tokenize data/exercises_clean.jsonl --val 0.01 --out data/codeexercises

# 2. Pretraining. 36,000 steps x 1024 x 2048 = 75.5B tokens, 10.8 passes; the paper's phi-1-base is step 24,000: 50.3B tokens, 7.2 passes.
#    9.085 GFLOP per token x 50.3B = 4.6e20 FLOP: 8 H100 at 50% of 989 TFLOP/s take 32 hours, 8 A100 at 50% of 312 take 102;
#    half as long again for the 36,000. If only phi-1-base is wanted, stop it with Ctrl-C once out/phi1/step_24000.pt is there.
python train.py configs/phi1.py --plan
torchrun --nproc_per_node="$GPUS" train.py configs/phi1.py

# 3. Finetuning. 6,000 steps x 256 x 2048 = 3.15B tokens, 17 passes: 2 hours on 8 H100 at 50%. The best of its 6 checkpoints is named.
torchrun --nproc_per_node="$GPUS" finetune.py configs/finetune_phi1.py

# 4. The two numbers of the paper: 50.6% and 55.5% (237 of MBPP's 427 sanitized problems fit that figure).
torchrun --nproc_per_node="$GPUS" eval_humaneval.py out/phi1_finetuned/best.pt
torchrun --nproc_per_node="$GPUS" eval_humaneval.py out/phi1_finetuned/best.pt --benchmark mbpp-sanitized
