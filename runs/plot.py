"""
Curves of one or several runs, from the log.jsonl that train.py and finetune.py write.

    python runs/plot.py out/demo/web out/demo/textbook --out loss.svg        # or .png; needs matplotlib: pip install matplotlib
    python runs/plot.py out/phi1                                             # out/phi1/curves.svg

Over the steps: the loss of training (lines) and of validation (dots), the learning rate, tokens per second.
"""
import argparse
import json
import os


def read_log(path):
    """(name of the run, its entries by step) from a run's folder or its log.jsonl; a torn last line is left out."""
    file = os.path.join(path, "log.jsonl") if os.path.isdir(path) else path
    entries = []
    try:
        with open(file, encoding="utf-8") as f:
            for line in f:
                if line.endswith("\n"):
                    entries.append(json.loads(line))
        assert entries and all("step" in entry for entry in entries)
    except OSError as error:
        raise SystemExit(f"{file}: {error.strerror}; name the folder of a run, such as out/demo/web")
    except (ValueError, TypeError, AssertionError):
        raise SystemExit(f"{file} is not a log of train.py, or has no entry yet")
    return os.path.basename(os.path.dirname(os.path.abspath(file))), entries


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs, or their log.jsonl")
    parser.add_argument("--out", help=".svg or .png (curves.svg in the first run's folder)")
    args = parser.parse_args()
    logs = [read_log(path) for path in args.runs]
    first = args.runs[0] if os.path.isdir(args.runs[0]) else os.path.dirname(args.runs[0])
    out = args.out or os.path.join(first, "curves.svg")
    if not out.endswith((".svg", ".png")):
        raise SystemExit(f"--out {out}: a name that ends in .svg or .png is expected")
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("the picture needs the package matplotlib: pip install matplotlib")
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "phi1"  # the same curves make the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), width_ratios=(2, 1, 1))
    for number, (name, entries) in enumerate(logs):
        color = f"C{number}"
        for axis, key in zip(axes, ("loss", "lr", "tok_per_s")):
            points = [(entry["step"], entry[key]) for entry in entries if key in entry]
            axis.plot(*zip(*points), color=color, label=name)
        points = [(entry["step"], entry["val_loss"]) for entry in entries if "val_loss" in entry]
        if points:
            axes[0].plot(*zip(*points), "o", color=color, markersize=4)
    for axis, title in zip(axes, ("loss, nats per token (dots: validation)", "learning rate", "tokens per second")):
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_formatter("{x:g}")
    axes[0].legend()
    axes[2].set_ylim(bottom=0)
    figure.tight_layout()
    try:
        figure.savefig(out, metadata={"Date": None} if out.endswith(".svg") else None)
    except OSError as error:
        raise SystemExit(f"{out}: {error.strerror}")
    print(f"{out}: {', '.join(name for name, _ in logs)}")


if __name__ == "__main__":
    main()
