"""Claim: two dimensions of an autoencoder separate digits better than two of PCA.

On the 8 x 8 digits that scikit-learn brings, a quarter of them test rows: from codes of two
dimensions five nearest neighbours recognise at least 15 points more of the test digits than from
PCA's, and from codes of eight dimensions the squared error of reconstructions is at most 0.6 of
PCA's. Draws the pictures of the README: the codes, the reconstructions, and the figures of
byte bigrams that `benchmarks.bigrams --data FOLDER` has measured.

    python -m benchmarks.first_page

Exits with status 1 if the claim is false.
"""

import sys
import time

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.figures import codes_in_two_dimensions, gain_and_cost, reconstructions
from benchmarks.lib.measure import circumstances, explained_by_reconstructions
from benchmarks.lib.records import PUBLISHED, RESULTS, read, write
from skae import ConvAutoencoder, DenseAutoencoder

GAIN, SHARE_OF_ERROR = 0.15, 0.6
N_SHOWN = 12


def main():
    split = load_split("digits")
    X_train, X_test = (X / 16 for X in (split.X_train, split.X_test))
    jobs = [(2, PCA), (2, DenseAutoencoder), (8, PCA), (8, DenseAutoencoder), (8, ConvAutoencoder)]
    rows, codes, pictures = [], {}, {}
    for latent_dim, kind in jobs:
        shape = {"input_shape": (8, 8)} if kind is ConvAutoencoder else {}
        start = time.perf_counter()
        model = kind(latent_dim, random_state=0, **shape).fit(X_train)
        seconds = time.perf_counter() - start
        Z_train, Z_test = model.transform(X_train), model.transform(X_test)
        X_hat = model.inverse_transform(Z_test)
        neighbours = KNeighborsClassifier(5).fit(Z_train, split.y_train)
        row = {
            "model": kind.__name__,
            "latent_dim": latent_dim,
            "error": float(np.square(X_test - X_hat).mean()),
            "variance_explained": explained_by_reconstructions(X_train, X_test, X_hat),
            "accuracy": neighbours.score(Z_test, split.y_test),
            "fit_seconds": seconds,
        }
        rows.append({**row, **circumstances()})
        print(
            f"{kind.__name__:<17}{latent_dim} dimensions: {row['variance_explained']:.1%} of the "
            f"variance, {row['accuracy']:.1%} recognised, {seconds:.1f} s of fit"
        )
        if latent_dim == 2:
            codes[f"{kind.__name__}: {row['accuracy']:.0%} recognised"] = Z_test
        else:
            shown = [X[:N_SHOWN].reshape(-1, 8, 8) for X in (X_test, X_hat)]
            pictures[f"{kind.__name__}"] = shown
    path = RESULTS / "first-page.jsonl"
    write(rows, path)
    title = f"{len(X_test)} test digits of 64 pixels, each as a code of two dimensions"
    drawn = [
        codes_in_two_dimensions(title, codes, split.y_test, path.with_name("first-page-codes.png")),
        reconstructions(
            "Test digits, reconstructed from codes of eight dimensions",
            pictures,
            path.with_name("first-page-reconstructions.png"),
        ),
        gain_and_cost(
            read(PUBLISHED / "bigrams-files.jsonl"), path.with_name("first-page-files.png")
        ),
    ]
    print(f"Figures: {path}", *(f"Picture: {picture}" for picture in drawn), sep="\n")
    return judge(rows)


def judge(rows):
    """0 if the claims hold, else 1; a sentence for each."""
    found = {(row["model"], row["latent_dim"]): row for row in rows}
    gain = found["DenseAutoencoder", 2]["accuracy"] - found["PCA", 2]["accuracy"]
    share = found["DenseAutoencoder", 8]["error"] / found["PCA", 8]["error"]
    return check(
        [
            (
                gain >= GAIN,
                f"from two dimensions {100 * gain:+.1f} points of the digits are recognised, "
                f"compared with PCA (claimed: at least {100 * GAIN:+.0f})",
            ),
            (
                share <= SHARE_OF_ERROR,
                f"at eight dimensions the error is {share:.2f} of PCA's "
                f"(claimed: at most {SHARE_OF_ERROR})",
            ),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
