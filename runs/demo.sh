#!/usr/bin/env bash
# The whole path on two CPU cores, with no key, no GPU and no download: text files -> bins -> pretraining -> finetuning -> samples.
# `make demo` runs it; so does `bash runs/demo.sh` in an environment with requirements.txt installed. About 4 minutes on 2 cores.
# A second run continues or skips what is done; `rm -r data/demo* out/demo*` starts over.
set -eu
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE  # a thread that waits for another sleeps: on a busy machine spinning costs most of the speed
run() { echo; printf '$'; printf ' %q' "$@"; echo; "$@"; }

# The text is on every machine that has Python: the standard library's own source, without its tests. Its package asyncio is left
# out of pretraining and is what the model is finetuned on.
STDLIB=$(python -c "import sysconfig; print(sysconfig.get_paths()['stdlib'])")
[ -e data/demo/meta.json ] ||
    run python prepare_data.py tokenize "$STDLIB" --exclude asyncio test tests idle_test site-packages dist-packages --tokenizer bytes --val 0.03 --out data/demo
[ -e data/demo_finetune/meta.json ] ||
    run python prepare_data.py tokenize "$STDLIB/asyncio" --tokenizer bytes --val 0.15 --out data/demo_finetune

run python train.py configs/demo.py
run python finetune.py configs/finetune_demo.py     # the line "validation loss ... before, ... after" is about asyncio

run python sample.py out/demo/best.pt --max_new_tokens 250 --temperature 0.7 --prompt 'class Reader:
    """Read lines from a file."""

    def __init__(self, '
run python sample.py out/demo_finetuned/best.pt --max_new_tokens 250 --temperature 0.7 --prompt 'class Transport:
    """Interface for a transport."""

    async def '

cat <<'END'

That was the system in miniature: 0.86M parameters and 2.5 million bytes, against phi-1's 1.4B and 50 billion tokens. It has learned
what code looks like, not what it means. Next: python train.py configs/phi1.py --plan shows what the real run takes, the README how.
END
