"""What the results of the benchmark of many fields say: a summary in words, and its claims."""

import numpy as np
from scipy.stats import sem

from benchmarks.lib.claims import SLACK
from benchmarks.lib.fields_data import BUNDLED, OTHERS

# Lengths of the code whose cells are counted in means; longer ones have claims of their own.
SHORT = (2, 8, 16)
ALL_CELLS = 74  # of the sets in a folder, at these lengths

# By how much of the variance a cell may be behind PCA.
BEHIND = 0.002

# Where the far end gains more than `TO_GAIN` beyond PCA, at least `REACHING` of the cells have
# `REACHED` of its gain, and every one `LEAST_REACHED`.
TO_GAIN, REACHED, REACHING, LEAST_REACHED = 0.01, 0.9, 0.9, 0.6

# The cell that has less of it: 0.51.
KNOWN_SHORT = "turbofan at 8"

# Least shares: the mean over all cells, of the default and of the far end, and of some cells.
MEAN, FAR_MEAN = 0.66, 0.66
LEAST = {"letter": 0.72, "robot_wall": 0.70, "nsl_kdd": 0.75, "spambase": 0.35, "chicago_l": 0.72}

# At `LONG` dimensions, where PCA leaves more than `LEFT`, so many cells have a code of their own.
LONG, LEFT, OWN_CODES = 32, 0.01, 2 / 3

# What accuracy or R2 may lose beyond two standard errors of the seeds.
ACCURACY_SLACK = 0.005

# Cells where codes that explain more are worse for a prediction, beyond that. No other may be.
KNOWN_WORSE = {
    ("chicago_l", 2),
    ("nsl_kdd", 2),
    ("puma32h", 2),
    ("spoken_digits", 2),
    ("turbofan", 2),
    ("splice_dna", 8),
    ("turbofan", 8),
    ("nsl_kdd", 16),
}

# Seconds of processor against an earlier version in the same run: the median of all cells, and
# of those where PCA is kept. Of `ConvAutoencoder` against `DenseAutoencoder`, in every cell.
SECONDS, SECONDS_OF_PCA, CONV_SECONDS = 1.03, 0.25, 3.0


def summary(rows):
    """Lines about the cells of short codes in a folder's sets, and about the others."""
    lines = []
    for title, cells in _parts(rows).items():
        if not cells:
            continue
        far = [row["far"] for row in cells if "far" in row]
        lines.append(
            f"{title}: {len(cells)} cells, mean share PCA {_mean(cells, 'pca'):.3f}, "
            f"ours {_mean(cells, 'ours'):.3f}"
            + (f", far end {np.mean(far):.3f} ({len(far)} cells)" if far else "")
            + f"; median seconds {_median(cells, 'ours_seconds'):.1f} "
            f"({_median(cells, 'ours_cpu_seconds'):.1f} of processor)"
        )
        behind = [_name(row) for row in cells if row["ours"] < row["pca"] - BEHIND]
        lines.append(f"  more than {BEHIND} below PCA: {', '.join(behind) or 'none'}")
        reached = _reached(cells)
        if reached:
            most = sum(part >= REACHED for part in reached.values())
            low = [f"{name} {part:.2f}" for name, part in reached.items() if part < LEAST_REACHED]
            lines.append(
                f"  {REACHED:.0%} of the far end's gain: {most} of {len(reached)} cells "
                f"({most / len(reached):.0%}); less than {LEAST_REACHED:.0%}: "
                f"{', '.join(low) or 'none'}"
            )
        own = sum(not row["code_is_pca"] for row in cells)
        lines.append(f"  codes that are not PCA's: {own} of {len(cells)}")
        worse = [_accuracy_words(row) for row in cells if _is_worse(row)]
        if any("accuracy" in row for row in cells):
            lines.append(f"  worse classified or predicted: {', '.join(worse) or 'none'}")
    return "\n".join(lines)


def compared(rows, earlier):
    """Lines of the shares of each cell now and earlier, and the summary of both."""
    known = {(row["data"], row["latent_dim"]): row for row in earlier}
    pairs = [(row, known.get((row["data"], row["latent_dim"]))) for row in rows]
    pairs = [(new, old) for new, old in pairs if old is not None]
    lines = [f"{'cell':<20}    PCA  earlier    now  change"]
    lines += [
        f"{_name(new):<20}{new['pca']:>7.3f}{old['ours']:>9.3f}{new['ours']:>7.3f}"
        f"{new['ours'] - old['ours']:>+8.3f}"
        for new, old in pairs
    ]
    earlier = summary([old for _, old in pairs])
    return "\n".join([*lines, "Earlier, the same cells:", earlier])


def claims_of(rows):
    """(holds, sentence) of what is claimed about the cells that were measured."""
    claims = []
    for row in rows:
        gain = row["ours"] - row["pca"]
        claims.append((gain >= -BEHIND, f"{_name(row)}: {100 * gain:+.2f} points beyond PCA"))
        if "accuracy" in row:
            is_known = (row["data"], row["latent_dim"]) in KNOWN_WORSE
            claims.append((is_known or not _is_worse(row), _accuracy_words(row)))
        if row["latent_dim"] == SHORT[0] and row["data"] in LEAST:
            least = LEAST[row["data"]]
            sentence = f"{_name(row)}: share {row['ours']:.3f}, at least {least}"
            claims.append((row["ours"] >= least, sentence))
    short, long, _ = _parts(rows).values()
    return claims + _claims_of_short(short) + _claims_of_long(long) + _claims_of_seconds(rows)


def _claims_of_short(cells):
    claims = []
    if len(cells) == ALL_CELLS:
        for key, least in (("ours", MEAN), ("far", FAR_MEAN)):
            if all(key in row for row in cells):
                mean = _mean(cells, key)
                claims.append((mean >= least, f"mean share {key}: {mean:.3f}, at least {least}"))
    reached = _reached(cells)
    for name, part in reached.items():
        sentence = f"{name}: {part:.0%} of the far end's gain"
        claims.append((part >= LEAST_REACHED or name == KNOWN_SHORT, sentence))
    if reached:
        most = np.mean([part >= REACHED for part in reached.values()])
        sentence = f"{most:.0%} of {len(reached)} cells have {REACHED:.0%} of the far end's gain"
        claims.append((most >= REACHING, sentence))
    return claims


def _claims_of_long(cells):
    cells = [row for row in cells if row["pca"] < 1 - LEFT]
    if not cells:
        return []
    own = np.mean([not row["code_is_pca"] for row in cells])
    return [
        (own >= OWN_CODES, f"{own:.0%} of {len(cells)} cells at {LONG} have a code of their own")
    ]


def _claims_of_seconds(rows):
    rows = [row for row in rows if "earlier_cpu_seconds" in row]
    claims = []
    for title, most, cells in (
        ("all cells", SECONDS, rows),
        ("cells with PCA's code", SECONDS_OF_PCA, [row for row in rows if row["code_is_pca"]]),
    ):
        if cells:
            now, earlier = (
                _median(cells, key) for key in ("ours_cpu_seconds", "earlier_cpu_seconds")
            )
            sentence = f"{title}: median of {now:.2f} s, {earlier:.2f} s of the earlier version"
            claims.append((now <= most * earlier, sentence))
    return claims


def convolutional_claims(rows):
    """(holds, sentence) of `ConvAutoencoder` beside `DenseAutoencoder` in each cell."""
    claims = []
    for row in rows:
        shares = f"{_name(row)}: share {row['conv']:.3f}, dense {row['dense']:.3f}"
        claims.append((row["conv"] >= row["dense"] - SLACK, shares))
        ratio = row["conv_cpu_seconds"] / row["dense_cpu_seconds"]
        claims.append((ratio <= CONV_SECONDS, f"{_name(row)}: {ratio:.1f} times dense's seconds"))
    return claims


def _parts(rows):
    """Cells of a folder's sets with short codes, those with long ones, and all others."""
    bundled = {*BUNDLED, *OTHERS}
    folder = [row for row in rows if row["data"] not in bundled]
    return {
        f"fields, {SHORT[0]} to {SHORT[-1]} dimensions": [
            row for row in folder if row["latent_dim"] in SHORT
        ],
        f"fields, {LONG} dimensions": [row for row in folder if row["latent_dim"] == LONG],
        "other sets": [row for row in rows if row["data"] in bundled],
    }


def _reached(cells):
    """By cell, what part of the far end's gain is reached where there is something to gain."""
    gains = {
        _name(row): (row["ours"] - row["pca"], row["far"] - row["pca"])
        for row in cells
        if "far" in row
    }
    return {name: ours / far for name, (ours, far) in gains.items() if far > TO_GAIN}


def _is_worse(row):
    lift, error = lift_of(row)
    return lift < -ACCURACY_SLACK - 2 * error


def lift_of(row):
    """Accuracy or R2 beyond PCA's, and its standard error; zeros where it was not measured."""
    if "accuracy" not in row:
        return 0.0, 0.0
    ours, pca = row["accuracy"], row["pca_accuracy"]
    error = np.hypot(sem(ours), sem(pca)) if min(len(ours), len(pca)) > 1 else 0.0
    return float(np.mean(ours) - np.mean(pca)), float(error)


def _accuracy_words(row):
    lift, error = lift_of(row)
    return f"{_name(row)}: {lift:+.4f} of {row['measure']} against PCA (error {error:.4f})"


def _name(row):
    return f"{row['data']} at {row['latent_dim']}"


def _mean(cells, key):
    return float(np.mean([row[key] for row in cells]))


def _median(cells, key):
    return float(np.median([row[key] for row in cells]))
