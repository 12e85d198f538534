#!/usr/bin/env bash
# The miniature of runs/demo.sh at 107M parameters with phi-1's tokenizer, for one GPU of 24 GB: the same three rows. Not run yet.
# Each of the three runs reads 400 steps x 256 x 1024 = 105M tokens; 0.549 GFLOP per token make that 5.8e16 FLOP: 3 minutes on an H100 at 35%
# of its peak, 15 on an RTX 4090 at 40% (arithmetic). GPT-2's ranks are downloaded on first use. A second run continues. EVAL as in runs/demo.sh.
set -eu
cd "$(dirname "$0")/.."
SEED=${SEED:-1}
EVAL=${EVAL:-}
DIR=proxy_miniature; [ "$SEED" = 1 ] || DIR=$DIR-$SEED
run() { echo; printf '$'; printf ' %q' "$@"; echo; "$@"; }
unless() { [ -e "$1" ] || run "${@:2}"; }  # unless FILE COMMAND: what is complete is not made again

unless data/$DIR/bpe.tiktoken python runs/miniature.py corpora data/$DIR --seed "$SEED" --megabytes 100 --packages
for text in web textbook exercises; do
    unless data/$DIR/$text/meta.json python prepare_data.py tokenize data/$DIR/$text.jsonl --val 0.02 --out data/$DIR/$text
done
run python eval_humaneval.py --oracle --benchmark data/$DIR/problems.jsonl $EVAL  # a sandbox that refuses does so before the training

SAME="--max_steps=400 --batch_size=256 --seed=$SEED"  # $@: more settings for all three, such as --micro_batch_size=8
for text in web textbook; do
    run python train.py configs/proxy.py --data_dir=data/$DIR/$text --out_dir=out/$DIR/$text $SAME "$@"
done
run python finetune.py configs/finetune_proxy.py --init_from=out/$DIR/textbook/ckpt.pt --data_dir=data/$DIR/exercises \
    --out_dir=out/$DIR/exercises --keep_steps='()' --learning_rate=5e-4 $SAME "$@"

for text in web textbook exercises; do
    run python eval_humaneval.py out/$DIR/$text/ckpt.pt --benchmark data/$DIR/problems.jsonl --out results/$DIR/$text $EVAL
done
run python runs/plot.py out/$DIR/web out/$DIR/textbook out/$DIR/exercises --out out/$DIR/curves.svg ||
    echo "(it goes on without the picture)"
run python runs/miniature.py table results/$DIR
