"""Figures drawn from the results of the benchmarks."""

import json
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = {
    "PCA": "#7f7f7f",
    "TruncatedSVD": "#b07aa1",
    "DenseAutoencoder, linear": "#4e79a7",
    "DenseAutoencoder": "#d1495b",
}


def variance_and_accuracy(results):
    """Variance explained and accuracy by length of the code; a PNG beside the results."""
    results = Path(results)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    lengths = sorted({row["latent_dim"] for row in rows})
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key, label in zip(
        figure.subplots(1, 2),
        ("variance_explained", "accuracy"),
        ("share of variance explained", "accuracy of MLPClassifier"),
        strict=True,
    ):
        models = [model for model in COLOURS if any(row["model"] == model for row in rows)]
        width = 0.8 / len(models)
        for offset, model in enumerate(models):
            found = [row for row in rows if row["model"] == model]
            positions = [lengths.index(row["latent_dim"]) + offset * width for row in found]
            heights = [row[key] for row in found]
            bars = axes.bar(positions, heights, width, label=model, color=COLOURS[model])
            axes.bar_label(bars, fmt="%.3f", fontsize=7, padding=3, rotation=90)
        axes.set_xticks([i + width * (len(models) - 1) / 2 for i in range(len(lengths))], lengths)
        axes.set_xlabel("latent_dim")
        axes.set_ylabel(label)
        axes.margins(y=0.16)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(
        f"{rows[0]['n_test']:,} unseen chunks of files (byte bigrams, {rows[0]['corpus']} corpus)",
        fontsize=10,
    )
    path = results.with_suffix(".png")
    figure.savefig(path, dpi=150)
    return path
