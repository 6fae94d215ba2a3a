"""Figures drawn from the results of the benchmarks."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.lib.records import read

COLOURS = {
    "PCA": "#7f7f7f",
    "TruncatedSVD": "#b07aa1",
    "DenseAutoencoder, linear": "#4e79a7",
    "DenseAutoencoder": "#d1495b",
}


def variance_and_accuracy(results):
    """Variance explained and accuracy by length of the code; a PNG beside the results."""
    results = Path(results)
    rows = read(results)
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
        f"{rows[0]['n_test']:,} test chunks of files (byte bigrams, {rows[0]['corpus']} corpus)",
        fontsize=10,
    )
    return _saved(figure, results.with_suffix(".png"))


def variance_by_length(results):
    """Variance explained against the length of the code, a panel for each data set."""
    results = Path(results)
    rows = sorted(read(results), key=lambda row: row["latent_dim"])
    names = list(dict.fromkeys(row["data"] for row in rows))
    figure, panels = _panels(len(names), 3.2, 2.6)
    for axes, name in zip(panels, names, strict=True):
        found = [row for row in rows if row["data"] == name]
        lengths = [row["latent_dim"] for row in found]
        for key, model in (("pca", "PCA"), ("autoencoder", "DenseAutoencoder")):
            shares = [row[key] for row in found]
            axes.plot(lengths, shares, "o-", ms=3, color=COLOURS[model], label=model)
        axes.set_xscale("log", base=2)
        ticks = [a for a, b in zip(lengths, [*lengths[1:], np.inf], strict=True) if b > 1.45 * a]
        axes.set_xticks(ticks, ticks, fontsize=7)
        axes.minorticks_off()
        axes.set_title(f"{name} ({found[0]['n_train']:,} rows)", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("latent_dim", fontsize=9)
    figure.supylabel("variance explained", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return _saved(figure, results.with_suffix(".png"))


# How settings and models are drawn, by the first word of their names: marker, colour and label.
STYLES = {
    "epochs": ("o-", "#d1495b", "epochs"),
    "batch": ("s", "#4e79a7", "batch size"),
    "rate": ("^", "#59a14f", "learning rate"),
    "layers": ("D", "#b07aa1", "widths"),
    "channels": ("D", "#b07aa1", "widths"),
    "PCA": ("x", "#000000", "PCA"),
    "TruncatedSVD": ("+", "#000000", "TruncatedSVD"),
    "PyOD": ("<", "#9c755f", "PyOD"),
    "MLPRegressor(X,": (">", "#9c755f", "MLPRegressor"),
    "skorch": ("1", "#9c755f", "skorch by hand"),
    "bare": ("2", "#9c755f", "bare PyTorch loop"),
}


def gain_by_seconds(results):
    """Points of variance beyond PCA against seconds of fit, a panel for each data and length.

    What loses more against PCA than half of the most that is gained stands at the lower edge.
    """
    results = Path(results)
    keys = ("form", "data", "latent_dim", "n_train")
    rows = sorted(read(results), key=lambda row: row["form"], reverse=True)
    cells = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))
    figure, panels = _panels(len(cells), 2.9, 2.4, n_columns=2 if len(cells) == 4 else 4)
    handles = {}
    for axes, cell in zip(panels, cells, strict=True):
        handles |= _draw_gains(axes, [row for row in rows if tuple(map(row.get, keys)) == cell])
        form, data, latent_dim, n_train = cell
        kind = {"dense": "DenseAutoencoder", "conv": "ConvAutoencoder"}[form]
        axes.set_title(f"{kind}({latent_dim})\n{data}, {n_train:,} rows", fontsize=8)
    figure.supxlabel("seconds of fit", fontsize=9)
    figure.supylabel("points of variance beyond PCA", fontsize=9)
    figure.legend(
        handles.values(), handles, loc="outside upper center", ncols=6, frameon=False, fontsize=8
    )
    return _saved(figure, results.with_suffix(".png"))


def _draw_gains(axes, rows):
    """Draw the means over seeds, and return what stands in the legend by its label."""
    pairs = {}
    for row in rows:
        pairs.setdefault(row["setting"], []).append((row["fit_seconds"], row["points"]))
    means = {setting: np.mean(found, axis=0) for setting, found in pairs.items()}
    lowest = -max(0.5, max(points for _, points in means.values()) / 2)
    means = {setting: (x, max(y, lowest)) for setting, (x, y) in means.items()}
    handles = {}
    for word, (marker, colour, label) in STYLES.items():
        chosen = [xy for setting, xy in means.items() if setting.split()[0] == word]
        if word == "epochs":
            chosen = sorted([*chosen, means["default"]])
        if chosen:
            [handles[label]] = axes.plot(*np.transpose(chosen), marker, color=colour, ms=5, lw=1)
    [handles["default"]] = axes.plot(*means["default"], "o", ms=10, mfc="none", mec="#d1495b")
    axes.set_xscale("log")
    least, most = axes.get_xlim()
    ticks = (1, 3) if most < 1000 * least else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=ticks, numticks=9))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return handles


def accuracy_by_length(results):
    """Accuracy of a classifier on codes by their length, a panel for each data set; and its path.

    Of each data set the results with most rows are drawn.
    """
    results = Path(results)
    rows = read(results)
    largest = {}
    for row in rows:
        largest[row["data"]] = max(largest.get(row["data"], 0), row["rows_asked"])
    figure, panels = _panels(len(largest), 3.6, 3.2, least_width=5.6)
    kinds = {
        "PCA": ("PCA", "#7f7f7f"),
        "ours": ("DenseAutoencoder", "#d1495b"),
        "supervision=1": ("DenseAutoencoder(supervision=1.0)", "#00798c"),
    }
    for axes, (name, n_asked) in zip(panels, largest.items(), strict=True):
        found = [row for row in rows if row["data"] == name and row["rows_asked"] == n_asked]
        n_train = found[0]["n_train"]
        found.sort(key=lambda row: row["latent_dim"])
        for kind, (label, colour) in kinds.items():
            points = [row for row in found if row["codes"] == kind]
            lengths = [row["latent_dim"] for row in points]
            means = [100 * np.mean(row["accuracy"]) for row in points]
            axes.plot(lengths, means, "o-", ms=4, color=colour, label=label)
        for row in found:
            if row["codes"] == "all columns":
                level = 100 * np.mean(row["svc"])
                axes.axhline(level, color="#000000", ls=":", label="LinearSVC on all columns")
        axes.set_xscale("log", base=2)
        lengths = sorted({row["latent_dim"] for row in found} - {0})
        axes.set_xticks(lengths, lengths, fontsize=8)
        axes.minorticks_off()
        axes.set_title(f"{name} ({n_train:,} training rows)", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("latent_dim", fontsize=9)
    figure.supylabel("accuracy on test rows, %", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return _saved(figure, results.with_suffix(".png"))


def _panels(n, width, height, *, n_columns=3, least_width=0.0):
    """A figure with n axes of this size in inches, in lines of at most ``n_columns``."""
    n_columns = min(n_columns, n)
    n_lines = -(-n // n_columns)
    size = max(least_width, width * n_columns), height * n_lines
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for unused in axes[n:]:
        unused.remove()
    return figure, axes[:n]


def seconds_by_length(results):
    """Seconds of fit against the length of the code; a PNG beside the results."""
    results = Path(results)
    rows = read(results)
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for model, colour in COLOURS.items():
        found = [row for row in rows if row["model"] == model]
        found.sort(key=lambda row: row["latent_dim"])
        lengths = [row["latent_dim"] for row in found]
        axes.plot(lengths, [row["fit_seconds"] for row in found], "o-", color=colour, label=model)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    lengths = sorted({row["latent_dim"] for row in rows})
    axes.set_xticks(lengths, lengths)
    axes.minorticks_off()
    axes.set_xlabel("latent_dim")
    axes.set_ylabel("seconds of fit")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    title = f"{rows[0]['n_train']:,} x 65,536 byte bigrams, {rows[0]['n_cores']} cores"
    axes.set_title(title, fontsize=10)
    return _saved(figure, results.with_name(f"{results.stem}-seconds.png"))


def share_beside_pca(results):
    """Share of the variance of each cell against PCA's there; a PNG beside the results.

    Where there is a far end, a line leads to it. Codes that are PCA's are hollow.
    """
    results = Path(results)
    rows = read(results)
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#b8b8b8", lw=0.8, zorder=0)
    for i, latent_dim in enumerate(sorted({row["latent_dim"] for row in rows})):
        found = [row for row in rows if row["latent_dim"] == latent_dim]
        colour = f"C{i}"
        faces = ["none" if row["code_is_pca"] else colour for row in found]
        shares = [[row[key] for row in found] for key in ("pca", "ours")]
        axes.scatter(*shares, s=22, color=faces, edgecolors=colour)
        axes.scatter([], [], s=22, color=colour, label=latent_dim)
        for row in found:
            if "far" in row:
                axes.plot([row["pca"]] * 2, [row["ours"], row["far"]], color=colour, lw=0.8)
    has_far = any("far" in row for row in rows)
    axes.set_xlabel("share of the variance of test rows: PCA")
    axes.set_ylabel("DenseAutoencoder" + has_far * "; the line ends where a long training does")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.legend(title="dimensions", loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    n_sets = len({row["data"] for row in rows})
    axes.set_title(
        f"{len(rows)} codes of {n_sets} data sets; hollow: the code is PCA's", fontsize=10
    )
    return _saved(figure, results.with_suffix(".png"))


def reconstructions(title, rows, path):
    """Test pictures and what each model makes of them, a row for each model; a PNG at ``path``.

    ``rows`` maps the name of a model to (originals, reconstructions), each (n, height, width) or
    (n, height, width, 3) in [0, 1].
    """
    originals = next(iter(rows.values()))[0]
    pictures = {"original": originals, **{name: made for name, (_, made) in rows.items()}}
    n = len(originals)
    figure = Figure(figsize=(1.6 + 0.62 * n, 0.3 + 0.66 * len(pictures)), layout="constrained")
    panels = figure.subplots(len(pictures), n, squeeze=False)
    for line, (name, images) in zip(panels, pictures.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image.clip(0, 1), cmap="gray_r", vmin=0, vmax=1)
            axes.set_axis_off()
        line[0].text(
            -0.15, 0.5, name, ha="right", va="center", fontsize=8, transform=line[0].transAxes
        )
    figure.suptitle(title, fontsize=10)
    return _saved(figure, Path(path))


def losses_by_batch(losses, levels, path):
    """Training and test loss of each batch, and the levels of other models; a PNG at ``path``.

    ``losses`` has a row (training, test) for each batch, ``levels`` maps names to errors.
    """
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(losses[:, 0], lw=0.4, color="#b8b8b8", label="training, each batch")
    axes.plot(losses[:, 1], lw=1.0, color="#4e79a7", label="64 test pictures")
    for (name, level), style in zip(levels.items(), ("--", "-"), strict=False):
        axes.axhline(level, color="#d1495b", lw=1, ls=style, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("batch")
    axes.set_ylabel("squared error per pixel")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return _saved(figure, Path(path))


def codes_in_two_dimensions(title, codes, labels, path):
    """A scatter plot of codes for each model, coloured by label; a PNG at ``path``.

    ``codes`` maps titles of panels to arrays (n, 2).
    """
    figure = Figure(figsize=(4.2 * len(codes), 4.2), layout="constrained")
    panels = figure.subplots(1, len(codes), squeeze=False)[0]
    for axes, (name, Z) in zip(panels, codes.items(), strict=True):
        for label in np.unique(labels):
            rows = labels == label
            colour = f"C{label}"
            axes.scatter(*Z[rows].T, s=9, alpha=0.55, color=colour, linewidths=0)
            axes.text(
                *np.median(Z[rows], axis=0),
                str(label),
                color=colour,
                fontsize=13,
                weight="bold",
                ha="center",
                va="center",
                bbox={"fc": "white", "ec": "none", "alpha": 0.7, "pad": 1},
            )
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.suptitle(title, fontsize=10)
    return _saved(figure, Path(path), dpi=100)


def gain_and_cost(rows, path):
    """Variance explained, accuracy and seconds of fit by length of the code; a PNG at ``path``."""
    lengths = sorted({row["latent_dim"] for row in rows})
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, key, label in zip(
        panels,
        ("variance_explained", "accuracy", "fit_seconds"),
        ("variance explained", "accuracy of a classifier", "seconds of fit"),
        strict=True,
    ):
        for model in ("PCA", "TruncatedSVD", "DenseAutoencoder"):
            found = sorted((row["latent_dim"], row[key]) for row in rows if row["model"] == model)
            axes.plot(*zip(*found, strict=True), "o-", color=COLOURS[model], label=model)
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, lengths)
        axes.minorticks_off()
        axes.set_xlabel("dimensions of the code")
        axes.set_title(label, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[2].set_yscale("log")
    panels[2].set_yticks([2, 5, 10, 20, 50, 100], [2, 5, 10, 20, 50, 100])
    panels[2].minorticks_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        f"{rows[0]['n_test']:,} test chunks of files, 65,536 columns ({rows[0]['n_cores']} cores, "
        f"{rows[0]['processor']})",
        fontsize=10,
    )
    return _saved(figure, Path(path), dpi=100)


def _saved(figure, path, dpi=150):
    figure.savefig(path, dpi=dpi)
    return path
