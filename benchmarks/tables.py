"""The tables of the documentation, written from the figures in benchmarks/results.

A page has a comment with the name of a table, the table, and a comment at its end. Between them
nothing is written by hand:

    python -m benchmarks.tables            # writes the tables into the pages
    python -m benchmarks.tables --check    # exits with status 1 if a page has other figures
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np

from benchmarks.lib.records import PUBLISHED, read

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/benchmarks.md")

_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

# What the README shows of many fields: sets where much is gained, and some where nothing is.
SHOWN = {
    ("spambase", 8): "words of e-mails",
    ("nsl_kdd", 8): "network traffic",
    ("ctg", 8): "heart rates",
    ("robot_wall", 8): "robot sensors",
    ("chest_xray", 8): "X-rays",
    ("mnist", 8): "MNIST",
    ("files", 16): "bytes of files",
    ("puma32h", 8): "independent columns",
    ("nir_soil", 8): "spectra",
}

# Shares of the variance of test rows in `directions`, of several seeds.
NETWORKS = ("networks", "networks_if_accurate")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    status = 0
    for page in PAGES:
        path = ROOT / page
        before = path.read_text(encoding="utf-8")
        after = with_tables(before)
        if after != before:
            print(f"{page}: {'other figures than benchmarks/results' * options.check or 'written'}")
            status |= options.check
            if not options.check:
                path.write_text(after, encoding="utf-8")
    return status


def with_tables(page):
    """The text of a page, with its tables from the results."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", page)


def fields():
    """A row for each data set: shares of the variance, PCA's and ours, at each length."""
    rows = read(PUBLISHED / "fields-shared.jsonl")
    lengths = sorted({row["latent_dim"] for row in rows})
    table = [["data", "kind", "rows x columns", *map(str, lengths), "accuracy or R2 at 8", "s"]]
    for name in dict.fromkeys(row["data"] for row in rows):
        cells = {row["latent_dim"]: row for row in rows if row["data"] == name}
        first = next(iter(cells.values()))
        shares = [_shares(cells[k]) if k in cells else "" for k in lengths]
        at_8 = cells.get(8)
        table.append(
            [
                name,
                first["kind"].split()[0],
                f"{first['n_train']:,} x {first['n_features']:,}",
                *shares,
                _accuracies(at_8) if at_8 else "",
                _seconds(at_8["ours_cpu_seconds"]) if at_8 else "",
            ]
        )
    return markdown(table)


def fields_in_short():
    """The rows of the README."""
    rows = {(r["data"], r["latent_dim"]): r for r in read(PUBLISHED / "fields-shared.jsonl")}
    table = [["data", "dimensions", "PCA", "skae", "seconds"]]
    for cell, words in SHOWN.items():
        row = rows[cell]
        table.append(
            [
                words,
                str(row["latent_dim"]),
                _share(row["pca"]),
                "PCA's" if row["code_is_pca"] else _share(row["ours"]),
                _seconds(row["ours_cpu_seconds"]),
            ]
        )
    return markdown(table)


def fields_in_sum():
    """Means over the data sets, by length of the code."""
    rows = read(PUBLISHED / "fields-shared.jsonl")
    table = [
        ["dimensions", "data sets", "PCA", "DenseAutoencoder", "code is PCA's", "median seconds"]
    ]
    for length in sorted({row["latent_dim"] for row in rows}):
        cells = [row for row in rows if row["latent_dim"] == length]
        table.append(
            [
                str(length),
                str(len(cells)),
                *(_share(np.mean([row[key] for row in cells])) for key in ("pca", "ours")),
                str(sum(row["code_is_pca"] for row in cells)),
                _seconds(np.median([row["ours_cpu_seconds"] for row in cells])),
            ]
        )
    return markdown(table)


def bigrams():
    """Models of the files of 19 formats."""
    table = [
        ["latent_dim", "model", "variance explained", "accuracy", "fit s", "transform s", "GB"]
    ]
    for row in sorted(read(PUBLISHED / "bigrams-files.jsonl"), key=lambda row: row["latent_dim"]):
        table.append(
            [
                f"{row['latent_dim']:,}",
                row["model"],
                f"{row['variance_explained']:.4f}",
                f"{row['accuracy']:.3f}",
                f"{row['fit_seconds']:.1f}",
                f"{row['transform_seconds']:.2f}",
                f"{row['peak_memory_gb']:.2f}",
            ]
        )
    return markdown(table)


def first_page():
    """Models of digits."""
    table = [["latent_dim", "model", "variance explained", "accuracy", "fit s"]]
    for row in read(PUBLISHED / "first-page.jsonl"):
        table.append(
            [
                str(row["latent_dim"]),
                row["model"],
                f"{row['variance_explained']:.3f}",
                f"{row['accuracy']:.3f}",
                f"{row['fit_seconds']:.1f}",
            ]
        )
    return markdown(table)


def anomalies():
    """Areas under the curve by data set and detector."""
    rows = read(PUBLISHED / "anomalies-shared.jsonl")
    detectors = [
        "PCA",
        "IsolationForest",
        "LocalOutlierFactor",
        "tails of columns",
        "AnomalyDetector",
    ]
    names = list(dict.fromkeys(row["data"] for row in rows))
    means = np.array(
        [
            [np.mean([row[kind] for row in rows if row["data"] == name]) for kind in detectors]
            for name in names
        ]
    )
    ranks = 1 + (means[:, :, None] < means[:, None, :]).sum(axis=2)
    table = [["data", *detectors]]
    table += [[n, *(f"{x:.3f}" for x in row)] for n, row in zip(names, means, strict=True)]
    table.append(["**mean**", *(f"{x:.3f}" for x in means.mean(axis=0))])
    table.append(["**mean rank**", *(f"{x:.1f}" for x in ranks.mean(axis=0))])
    return markdown(table)


def labels():
    """Mean accuracies of three classifiers by kind of code."""
    rows = read(PUBLISHED / "labels-shared.jsonl")
    kinds = list(dict.fromkeys(kind for row in rows for kind in row if _is_code(row[kind])))
    table = [["data", "latent_dim", *kinds]]
    for row in rows:
        found = [f"{np.mean(row[k]['accuracy']):.3f}" if k in row else "" for k in kinds]
        table.append([row["data"], str(row["latent_dim"]), *found])
    seconds = [
        _seconds(np.mean([np.mean(row[k]["seconds"]) for row in rows if k in row])) for k in kinds
    ]
    table.append(["**mean seconds of fit**", "", *seconds])
    return markdown(table)


def fidelity():
    """The largest errors of all components, ours and PCA's, by data set."""
    table = [["rows", "dtype", "weights", "direction: PCA, ours", "variance", "code"]]
    for row in read(PUBLISHED / "fidelity-shared.jsonl"):
        errors = [
            f"{max(row['PCA'][measure]):.0e}, {max(row['ours'][measure]):.0e}"
            for measure in ("direction", "variance", "code")
        ]
        table.append([row["data"], row["dtype"], "yes" if row["weights"] else "no", *errors])
    return markdown(table)


def directions():
    """The linear form of wide sparse rows beside the true directions and ARPACK."""
    table = [
        [
            "dimensions",
            "least cosine, leading half",
            "share of the variance",
            "the true one",
            "s",
            "ARPACK s",
            "networks",
            "with accurate directions",
        ]
    ]
    for row in read(PUBLISHED / "directions-shared.jsonl"):
        if "cosines" not in row:
            continue
        arpack = row.get("arpack_seconds")
        table.append(
            [
                f"{row['latent_dim']:,}",
                f"{min(row['cosines'][: row['latent_dim'] // 2]):.5f}",
                f"{row['share']:.5f}",
                f"{row['true_share']:.5f}",
                _seconds(row["seconds"]),
                "" if arpack is None else _seconds(arpack),
                *(_share(np.mean(row[key])) if key in row else "" for key in NETWORKS),
            ]
        )
    return markdown(table)


def hashed_text():
    """Seconds and memory where most columns are never used."""
    table = [["model", "s", "GB"]]
    for row in read(PUBLISHED / "directions-shared.jsonl"):
        for name, label in (("TruncatedSVD", "TruncatedSVD"), ("ours", "DenseAutoencoder, linear")):
            if name in row:
                table.append([label, f"{row[name]['seconds']:.2f}", f"{row[name]['peak_gb']:.2f}"])
    return markdown(table)


TABLES = {
    "fields": fields,
    "fields_in_short": fields_in_short,
    "fields_in_sum": fields_in_sum,
    "bigrams": bigrams,
    "first_page": first_page,
    "anomalies": anomalies,
    "labels": labels,
    "fidelity": fidelity,
    "directions": directions,
    "hashed_text": hashed_text,
}


def markdown(table):
    """Lines of a table whose first row is the head."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _is_code(value):
    return isinstance(value, dict) and "accuracy" in value


def _share(value):
    return f"{value:.3f}"


def _shares(row):
    ours = "=" if row["code_is_pca"] else _share(row["ours"])
    return f"{_share(row['pca'])} {ours}"


def _accuracies(row):
    pair = [f"{np.mean(row[key]):.3f}" for key in ("pca_accuracy", "accuracy")]
    return " ".join([pair[0], "=" if row["code_is_pca"] else pair[1]])


def _seconds(value):
    return f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
