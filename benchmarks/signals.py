"""Claim: convolutions suit columns that have an order, and only those.

- Ordered: rows of the two photographs that scikit-learn brings, 128 neighbouring pixels of
  luminance each. At 32 dimensions `ConvAutoencoder` errs no more than PCA on test parts of the
  photographs.
- Long: 65,536 pixels in the order of a scan, to 1,024 dimensions, by plain convolutions on one
  channel (`linear_path=False`) with each bottleneck.
- Without an order: byte bigrams of the files of this Python, 65,536 columns. The same plain
  convolutions keep less of test chunks than `DenseAutoencoder` does.

    python -m benchmarks.signals

Exits with status 1 if a claim is false.
"""

import argparse
import sys
import time

import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.decomposition import PCA

from benchmarks.lib.claims import check
from benchmarks.lib.datasets import load_split
from benchmarks.lib.measure import circumstances
from benchmarks.lib.records import RESULTS, write
from skae import ConvAutoencoder, DenseAutoencoder

LENGTH, LATENT_DIM = 128, 32
LONG, LONG_CODE, ROWS_SEEN = 65_536, 1024, 3300
# Six stages of stride 2 leave 1,024 positions of 65,536, eight leave 256.
BOTTLENECKS = {
    "dense": {"channels": (8, 8, 16, 16, 32, 32, 64, 64), "hidden_layer_sizes": ()},
    "channels": {"channels": (8, 8, 16, 16, 32, 32, 64, 64)},
    "map": {"channels": (8, 8, 16, 16, 32, 32)},
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = [*_short(options.seed), *_long(options.seed)]
    path = RESULTS / "signals.jsonl"
    write([{**row, "seed": options.seed, **circumstances()} for row in rows], path)
    print(f"Figures: {path}")
    return judge(rows)


def luminance():
    """The photographs as (2, height, width) in [0, 1]."""
    photographs = np.stack(load_sample_images().images).astype(np.float32) / 255
    return photographs @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _short(seed):
    pictures = luminance()
    n_windows = pictures.shape[2] // LENGTH
    windows = pictures[:, :, : n_windows * LENGTH].reshape(-1, LENGTH)
    # Blocks of 32 rows apart, since neighbouring rows are similar.
    line = np.tile(np.repeat(np.arange(pictures.shape[1]), n_windows), 2)
    is_test = line // 32 % 4 == 3
    X_train, X_test = windows[~is_test], windows[is_test]
    yield _row("photograph rows", "PCA", PCA(LATENT_DIM), X_train, X_test)
    for model in (
        DenseAutoencoder(LATENT_DIM, random_state=seed),
        ConvAutoencoder(LATENT_DIM, random_state=seed),
    ):
        yield _row("photograph rows", type(model).__name__, model, X_train, X_test)


def _long(seed):
    scan = luminance().reshape(2, -1)
    starts = np.arange(0, scan.shape[1] - LONG + 1, 640)
    is_test = starts >= 0.7 * starts[-1]
    # No training window shares a pixel with a test window.
    is_training = starts + LONG <= starts[is_test][0]
    X_train, X_test = (
        np.concatenate([[picture[s : s + LONG] for s in starts[part]] for picture in scan])
        for part in (is_training, is_test)
    )
    for bottleneck in BOTTLENECKS:
        yield _row(
            "photograph scans",
            bottleneck,
            _plain(bottleneck, seed, X_train.shape[0]),
            X_train,
            X_test,
        )
    split = load_split("files-sqrt", per_format=500, seed=seed)
    X_train, X_test = (X[:1100].astype(np.float32) for X in (split.X_train, split.X_test))
    dense = DenseAutoencoder(LONG_CODE, random_state=seed)
    yield _row("byte bigrams", "DenseAutoencoder", dense, X_train, X_test)
    for bottleneck in BOTTLENECKS:
        yield _row(
            "byte bigrams", bottleneck, _plain(bottleneck, seed, X_train.shape[0]), X_train, X_test
        )


def _plain(bottleneck, seed, n_rows):
    return ConvAutoencoder(
        LONG_CODE,
        input_shape=(LONG,),
        bottleneck=bottleneck,
        **BOTTLENECKS[bottleneck],
        linear_path=False,
        learning_rate=0.001,
        batch_size=16,
        max_epochs=round(ROWS_SEEN / n_rows),
        random_state=seed,
    )


def _row(data, model, estimator, X_train, X_test):
    start = time.perf_counter()
    estimator.fit(X_train)
    seconds = time.perf_counter() - start
    if isinstance(estimator, PCA):
        X_hat = estimator.inverse_transform(estimator.transform(X_test))
        kept = 1 - np.square(X_test - X_hat).sum() / np.square(X_test - estimator.mean_).sum()
    else:
        kept = estimator.score(X_test)
    print(
        f"{data:<18}{model:<18}{X_train.shape[0]:>6} x {X_train.shape[1]:<7}variance {kept:.4f}"
        f"{seconds:>8.1f} s",
        flush=True,
    )
    return {
        "data": data,
        "model": model,
        "n_train": X_train.shape[0],
        "n_test": X_test.shape[0],
        "n_features": X_train.shape[1],
        "variance_explained": float(kept),
        "fit_seconds": seconds,
    }


def judge(rows):
    """0 if every claim holds, else 1; a sentence for each."""
    kept = {(row["data"], row["model"]): row["variance_explained"] for row in rows}
    ours, pca = (kept["photograph rows", model] for model in ("ConvAutoencoder", "PCA"))
    dense = kept["byte bigrams", "DenseAutoencoder"]
    claims = [
        (ours >= pca, f"rows of photographs: ConvAutoencoder keeps {ours:.4f}, PCA {pca:.4f}")
    ]
    claims += [
        (
            kept["byte bigrams", bottleneck] < dense,
            f"byte bigrams: convolutions to a {bottleneck} bottleneck keep "
            f"{kept['byte bigrams', bottleneck]:.4f}, DenseAutoencoder {dense:.4f}",
        )
        for bottleneck in BOTTLENECKS
    ]
    return check(claims)


if __name__ == "__main__":
    sys.exit(main())
