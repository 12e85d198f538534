"""
Finetune a pretrained model on exercises ("Textbooks Are All You Need", arXiv 2306.11644, sections 2.2 and 2.3).

    torchrun --nproc_per_node=8 finetune.py configs/finetune_phi1.py              # the paper's: phi-1-base -> phi-1
    python finetune.py configs/finetune_proxy.py                                  # from out/proxy/best.pt
    python finetune.py configs/finetune_phi1.py --init_from=phi-1/ --out_dir=out/mine   # a Hugging Face folder; 29 GB with --micro_batch_size=1
    python finetune.py configs/finetune_phi1.py --plan                            # once init_from is there

Everything is train.py's: the loop, the loader, checkpoints, continuing with the same command. What differs: the weights (and
with them the shape and the tokenizer) come from init_from, the optimizer starts fresh, and at the end the best of the
kept checkpoints by validation loss is named. The loss counts every token, the prompt's too: the paper does not say otherwise, and
its exercises are one flat array of tokens like the pretraining data.
"""
import json
import os
from dataclasses import dataclass, replace

import torch

from model import Phi, load_model
from train import RANK, RunConfig, load_config, own_folder, print_plan, run_script, train


@dataclass
class FinetuneConfig(RunConfig):
    """What finetuning needs beside the recipe."""
    init_from: str = ""              # a checkpoint of train.py or finetune.py, or a Hugging Face folder


def main(argv):
    config, plan = load_config(FinetuneConfig, argv)
    if not config.init_from:
        raise SystemExit("init_from is not set: name the checkpoint or Hugging Face folder to start from, "
                         "as in --init_from=out/phi1/best.pt")

    def start():
        """The pretrained weights in fp32, with this run's dropout."""
        model, tokenizer = load_model(config.init_from, dtype=torch.float32)
        return Phi.from_state(replace(model.config, dropout=config.dropout), model.state_dict(), config.init_from), tokenizer

    if plan:
        return print_plan(config, start()[0].config, "finetune.py", argv)
    with own_folder(config.out_dir):
        train(config, start)
    if RANK == 0:
        report(config)


def report(config):
    """Say what finetuning did to the validation loss, and which of the kept checkpoints is the best."""
    path, losses = os.path.join(config.out_dir, "log.jsonl"), {}
    if os.path.exists(path):  # it may have been removed since the run was finished
        with open(path) as f:
            losses = {entry["step"]: entry["val_loss"] for entry in map(json.loads, f) if "val_loss" in entry}
    kept = {step: losses[step] for step in config.keep_steps
            if step in losses and os.path.exists(os.path.join(config.out_dir, f"step_{step}.pt"))}
    if 0 in losses:
        print(f"validation loss {losses[0]:.4f} before finetuning, {losses[max(losses)]:.4f} after")
    best = os.path.join(config.out_dir, "best.pt")
    if kept:
        for step, loss in kept.items():
            print(f"  step_{step}.pt  {loss:.4f}" + ("  <- the best of the kept" if loss == min(kept.values()) else ""))
        best = os.path.join(config.out_dir, f"step_{min(kept, key=kept.get)}.pt")
    print(f"next     python sample.py {best} --prompt 'def fibonacci(n):'")


if __name__ == "__main__":
    run_script(main)
