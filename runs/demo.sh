#!/usr/bin/env bash
# The paper's Figure 2.1 in miniature, on two CPU cores in about five minutes, with no key, no GPU and, once the packages are installed, no
# network: the same model reads raw code, or a textbook, or a textbook and then exercises, and is asked to write functions that combine
# operations as none of them does. `make demo` runs it; so does `bash runs/demo.sh` where requirements.txt is installed. SEED=2 holds out
# other problems, draws other texts and starts from other weights. Where there is no Landlock (another system than Linux, or before 5.13)
# EVAL=--allow_unsafe runs what the models write unprotected. A second run continues or skips what is done; `rm -r {data,out,results}/demo`
# starts over.
set -eu
FROM=$PWD
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE  # a thread that waits for another sleeps: on a busy machine spinning costs most of the speed
SEED=${SEED:-1}
EVAL=${EVAL:-}  # more arguments of the evaluations
DEMO=demo; [ "$SEED" = 1 ] || DEMO=demo-$SEED
run() { echo; printf '$'; printf ' %q' "$@"; echo; "$@"; }
unless() { [ -e "$1" ] || run "${@:2}"; }  # unless FILE COMMAND: what is complete is not made again

say() { echo; echo "== $*"; }

say "1 of 3: the texts to train on, and problems of which no text has the solution"
unless data/$DEMO/bpe.tiktoken python runs/miniature.py corpora data/$DEMO --seed "$SEED"
for text in web textbook exercises; do
    unless data/$DEMO/$text/meta.json \
        python prepare_data.py tokenize data/$DEMO/$text.jsonl --tokenizer data/$DEMO/bpe.tiktoken --val 0.03 --out data/$DEMO/$text
done
run python eval_humaneval.py --oracle --benchmark data/$DEMO/problems.jsonl $EVAL  # a sandbox that refuses does so before the training

say "2 of 3: three runs of as many steps, the first two from the same random weights, the third from what the second has learned (a minute or so each)"
run python train.py configs/demo.py --data_dir=data/$DEMO/web --out_dir=out/$DEMO/web --seed="$SEED"
run python train.py configs/demo.py --data_dir=data/$DEMO/textbook --out_dir=out/$DEMO/textbook --seed="$SEED"
run python finetune.py configs/finetune_demo.py --init_from=out/$DEMO/textbook/ckpt.pt --data_dir=data/$DEMO/exercises \
    --out_dir=out/$DEMO/exercises --seed="$SEED"

say "3 of 3: which functions do they get right?"
for text in web textbook exercises; do
    run python eval_humaneval.py out/$DEMO/$text/ckpt.pt --benchmark data/$DEMO/problems.jsonl --out results/$DEMO/$text $EVAL
done
run python runs/plot.py out/$DEMO/web out/$DEMO/textbook out/$DEMO/exercises --out out/$DEMO/curves.svg ||
    echo "(the demo goes on without the picture)"
run python runs/miniature.py table results/$DEMO
PROMPT=$(python -c 'import json, shlex, sys; print(shlex.quote(json.loads(open(sys.argv[1]).readline())["prompt"]))' data/$DEMO/problems.jsonl)
cat <<END

files    data/$DEMO/*.jsonl: the texts and problems; results/$DEMO/*/samples.jsonl: what the models wrote; out/$DEMO/curves.svg: the loss
next     $([ "$FROM" = "$PWD" ] || echo "cd $PWD; "). .venv/bin/activate        # once in each shell, if \`make demo\` has made it
         python eval_humaneval.py results/$DEMO/textbook results/$DEMO/exercises --compare
         python sample.py out/$DEMO/exercises/ckpt.pt --temperature 0 --prompt $PROMPT
END
