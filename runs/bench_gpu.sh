#!/usr/bin/env bash
# Every GPU row of BENCHMARKS.md on one H100 or H200, in under ten minutes (not run yet): torch 2.11 or later, numpy, tiktoken, tqdm and,
# for one row, transformers; no network. PHI1_BENCHMARKS names the folder with HumanEval.jsonl.gz, if HumanEval's row is wanted.
#   bash runs/bench_gpu.sh [CHECKOUT_OF_NANOGPT]
# phi-1 at its real shape, random weights, random tokens. Rows go to out/bench_gpu/rows.jsonl, the table comes last. The most important
# rows come first, and a row that would start after nine minutes is left out and named. Look at the column "attention": a system's CUDA
# in LD_LIBRARY_PATH silently takes cuDNN's away, which is the fastest on these GPUs.
set -u
cd "$(dirname "$0")/.."
NANOGPT=${1:-}
python -c 'import torch; raise SystemExit(not torch.cuda.is_available() and "bench_gpu.sh: torch sees no GPU here, and every row needs one")' || exit
OUT=out/bench_gpu
rm -rf "$OUT"; mkdir -p "$OUT"
nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.max.sm --format=csv,noheader | tee "$OUT/gpu.txt"

row() {  # row NAME COMMAND...: its JSON lines, with the name in front
    local name=$1 log="$OUT/${1//[^a-zA-Z0-9]/_}.log" most=${MOST:-150}; shift
    local left=$((570 - SECONDS))
    if [ "$left" -lt 30 ]; then echo "not run, no time left: $name"; return; fi
    echo; echo "== $name ($SECONDS s)"
    timeout "$((left < most ? left : most))" "$@" > "$log" 2>&1 || echo "failed ($?): $(tail -n 1 "$log" | cut -c1-200)"
    grep -v '^{' "$log" | tail -n 12
    grep '^{' "$log" | sed "s/^{/{\"row\": \"$name\", /" >> "$OUT/rows.jsonl"
}
phi1() { local name=$1; shift; row "$name" python bench.py train configs/phi1.py --accumulation=2 --steps=8 --rounds=4 "$@"; }

MOST=300 phi1 "phi1, micro-batch 16, as configured"
python - "$OUT/phi1.pt" <<'END'
import sys, torch
from dataclasses import asdict
from model import Phi, PhiConfig
torch.manual_seed(0)
with torch.device("cuda"):
    model = Phi(PhiConfig()).bfloat16()
torch.save({"model": model.state_dict(), "model_config": asdict(model.config), "tokenizer": "codegen", "step": 0}, sys.argv[1])
END
row "decode" python bench.py sample "$OUT/phi1.pt"
[ -z "${PHI1_BENCHMARKS:-}" ] ||
    row "HumanEval greedy, bf16, every completion 512 tokens long" bash -c \
        "python eval_humaneval.py $OUT/phi1.pt --dtype bf16 --out $OUT/humaneval && echo '{\"command\": \"eval_humaneval\", \"seconds, start to results\": '\$SECONDS'}'"
phi1 "phi1, micro-batch 12" --micro_batch_size=12
phi1 "phi1, micro-batch 8" --micro_batch_size=8
grep -q " [0-9]\{5\} MiB" "$OUT/gpu.txt" || phi1 "phi1, micro-batch 20" --micro_batch_size=20  # 86 GB by arithmetic: where there are 100 or more
# levers, at a quarter of the depth, which compiles in a quarter of the time
phi1 "6 layers" --n_layer=6
phi1 "6 layers, flash attention forced" --n_layer=6 --attention=flash
phi1 "6 layers, no dropout" --n_layer=6 --dropout=0.0
phi1 "6 layers, not compiled" --n_layer=6 --compile=False
# side by side: both models are in memory, and "memory GB" is of both
phi1 "6 layers, micro-batch 8, and transformers" --n_layer=6 --micro_batch_size=8 --against transformers
[ -z "$NANOGPT" ] || phi1 "6 layers, micro-batch 8, and nanoGPT" --n_layer=6 --micro_batch_size=8 --against "$NANOGPT"

echo; echo "== $(cat "$OUT/gpu.txt"), $SECONDS s"
python - "$OUT/rows.jsonl" <<'END'
import json, sys
shown = ("tok/s", "MFU", "ms/step", "memory GB", "attention", "loader", "optimizer", "first step s")
print("| row | " + " | ".join(shown) + " |\n|" + "---|" * (len(shown) + 1))
for row in map(json.loads, open(sys.argv[1])):
    if row["command"] == "train":
        values = (row.get(name, "") for name in shown)
        print(f"| {row['row']} ({row['trainer']}) | " + " | ".join(f"{v:,.0f}" if isinstance(v, float) and v > 999 else f"{v:.3g}" if isinstance(v, float) else v for v in values) + " |")
    else:
        print(f"| {row['row']} | " + ", ".join(f"{k} {v}" for k, v in row.items() if k not in ("row", "command", "settings", "machine", "cores")) + " |")
END
