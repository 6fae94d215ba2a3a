"""ReconstructionDisplay: rows of X, and below each what comes back from its code."""

from math import isqrt, prod

import numpy as np

from .._data.validation import dense_array, flat_rows
from .axes import Lines, Maps, Mosaic, Pictures, axes_for, check_matplotlib

_KINDS = ("auto", "image", "signal", "map")

# More would neither fit into a picture nor, where they are wide, into memory.
_MOST_ROWS = 100

_N_BIGRAMS = 256 * 256


class ReconstructionDisplay:
    """Rows of X beside their reconstructions: a column for each sample.

    Below the originals are the reconstructions of an autoencoder, those of other models if there
    are any, and the difference if it is wanted. Pictures are drawn as such, other rows as lines
    (reconstructions over the original, in grey), and 65,536 bigrams as a map of 256 x 256: first
    byte down, second byte across. Make one by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    X : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
        The originals. Of "signal", (n_samples, length, channels).
    X_hat : ndarray
        Their reconstructions, of the same shape.
    references : dict of ndarray, default=None
        Further reconstructions of the same shape, by name.
    kind : {"image", "signal", "map"}, default="image"
        How a row is drawn.
    name : str, default="reconstruction"
        What the row of ``X_hat`` is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where everything was drawn.
    figure_ : matplotlib Figure
        Its figure.
    artists_ : list of list
        One list for each row of names, from the originals down, with what each sample has there:
        an AxesImage; for "signal" a list of Line2D, in which what lies below comes first.
    names_ : list of Text
        The names of the rows, for each line of samples anew.
    difference_limit_ : float or None
        What the two ends of the scale of differences stand for.

    See Also
    --------
    LatentDisplay : What the codes look like.
    VarianceDisplay : How much of X they keep.

    Notes
    -----
    Originals and reconstructions have one scale. That of pictures goes from the least to the
    greatest number in the originals, for colours from 0 to 1, or to 255 where they are uint8, if
    they are within; what lies outside is drawn like its end. That of a map is an inverse hyperbolic
    sine: linear up to a tenth of the median of what is not zero, and logarithmic beyond.
    Differences are ``X_hat - X``; those of colours are drawn around grey.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import DenseAutoencoder, ReconstructionDisplay
    >>> X = load_digits().data
    >>> autoencoder = DenseAutoencoder(8, max_epochs=4, random_state=0).fit(X[:1000])
    >>> display = ReconstructionDisplay.from_estimator(
    ...     autoencoder, X[1500:1510], references={"PCA": PCA(8).fit(X[:1000])}, shape=(8, 8)
    ... )
    >>> [name.get_text() for name in display.names_]
    ['original', 'DenseAutoencoder', 'PCA']
    """

    def __init__(self, X, X_hat, *, references=None, kind="image", name="reconstruction"):
        self.X = X
        self.X_hat = X_hat
        self.references = references
        self.kind = kind
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        references=None,
        difference=False,
        shape=None,
        kind="auto",
        name=None,
        n_columns=None,
        ax=None,
        image_kw=None,
        difference_kw=None,
        line_kw=None,
    ):
        """Draw rows and what a fitted model makes of them.

        Parameters
        ----------
        estimator : object
            Fitted, with `transform` and `inverse_transform`.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            The rows to draw, 100 at most; or an array of pictures as the estimator takes them.
        references : dict of objects, default=None
            Other fitted models, by name. They get flat rows.
        difference : bool, default=False
            Whether to draw what the reconstruction has too much and too little.
        shape : tuple of int, default=None
            Shape of the picture in a flat row, channels last: ``(28, 28)``, ``(32, 32, 3)``. None
            takes ``input_shape_`` of the estimator, or the axes of X; if there are neither, a row
            is no picture.
        kind : {"auto", "image", "signal", "map"}, default="auto"
            How to draw a row: as a picture, as lines (channels last), or as a square map of
            frequencies. "auto" is "image" where two or three axes are known, "map" for 65,536
            columns, else "signal".
        name : str, default=None
            What to call the reconstructions; None for the name of the estimator's class.
        n_columns : int, default=None
            Most samples side by side; None for as many as have room.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        image_kw : dict, default=None
            Keywords of `imshow` for originals and reconstructions.
        difference_kw : dict, default=None
            Keywords of `imshow`, or of `plot` for "signal", for differences.
        line_kw : dict, default=None
            Keywords of `plot` for reconstructions.

        Returns
        -------
        display : ReconstructionDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        references, name = references or {}, name or type(estimator).__name__
        X = X if hasattr(X, "shape") else np.asarray(X)
        _check_number(X)
        flat = flat_rows(X)
        X_hat = _reconstructed(estimator, X)
        others = [_reconstructed(model, flat) for model in references.values()]
        arrays = [dense_array(rows) for rows in (X, X_hat, *others)]
        if shape is None and hasattr(estimator, "input_shape_"):
            arrays, shape, kind = _as_fitted(arrays, estimator, kind)
        return cls.from_predictions(
            *arrays[:2],
            references=dict(zip(references, arrays[2:], strict=True)),
            difference=difference,
            shape=shape,
            kind=kind,
            name=name,
            n_columns=n_columns,
            ax=ax,
            image_kw=image_kw,
            difference_kw=difference_kw,
            line_kw=line_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        X,
        X_hat,
        *,
        references=None,
        difference=False,
        shape=None,
        kind="auto",
        name="reconstruction",
        n_columns=None,
        ax=None,
        image_kw=None,
        difference_kw=None,
        line_kw=None,
    ):
        """Draw rows and their reconstructions.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            The rows to draw, 100 at most; or an array of pictures, channels last.
        X_hat : {array-like, sparse matrix or array}
            Their reconstructions, flat or not.
        references : dict of arrays, default=None
            Further reconstructions, by name.
        difference : bool, default=False
            Whether to draw ``X_hat - X``.
        shape : tuple of int, default=None
            Shape of the picture in a flat row, channels last; None takes the axes of X.
        kind : {"auto", "image", "signal", "map"}, default="auto"
            How to draw a row, as in `from_estimator`.
        name : str, default="reconstruction"
            What to call ``X_hat``.
        n_columns : int, default=None
            Most samples side by side; None for as many as have room.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        image_kw : dict, default=None
            Keywords of `imshow` for originals and reconstructions.
        difference_kw : dict, default=None
            Keywords of `imshow`, or of `plot` for "signal", for differences.
        line_kw : dict, default=None
            Keywords of `plot` for reconstructions.

        Returns
        -------
        display : ReconstructionDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        X = X if hasattr(X, "shape") else np.asarray(X)
        _check_number(X)
        X = dense_array(X)
        shape = X.shape[1:] if shape is None else tuple(shape)
        kind = _resolve_kind(kind, shape, prod(X.shape[1:]))
        if kind == "map":
            shape = (isqrt(prod(X.shape[1:])),) * 2
        references = references or {}
        if {"original", name} & set(references):
            raise ValueError(
                f"references must have names other than 'original' and {name!r}, got "
                f"{', '.join(map(repr, references))}."
            )
        return cls(
            _shaped(X, "X", len(X), shape),
            _shaped(X_hat, "X_hat", len(X), shape),
            references={
                key: _shaped(rows, f"references[{key!r}]", len(X), shape)
                for key, rows in references.items()
            },
            kind=kind,
            name=name,
        ).plot(
            difference=difference,
            n_columns=n_columns,
            ax=ax,
            image_kw=image_kw,
            difference_kw=difference_kw,
            line_kw=line_kw,
        )

    def plot(
        self,
        *,
        difference=False,
        n_columns=None,
        ax=None,
        image_kw=None,
        difference_kw=None,
        line_kw=None,
    ):
        """Draw.

        Parameters
        ----------
        difference : bool, default=False
            Whether to draw ``X_hat - X``.
        n_columns : int, default=None
            Most samples side by side; None for as many as have room.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        image_kw : dict, default=None
            Keywords of `imshow` for originals and reconstructions.
        difference_kw : dict, default=None
            Keywords of `imshow`, or of `plot` for "signal", for differences.
        line_kw : dict, default=None
            Keywords of `plot` for reconstructions.

        Returns
        -------
        self : ReconstructionDisplay
            The display.
        """
        check_matplotlib(f"{type(self).__name__}.plot")
        rows = {"original": self.X, self.name: self.X_hat, **(self.references or {})}
        names = list(rows)
        self.difference_limit_ = None
        if difference:
            error = np.subtract(self.X_hat, self.X, dtype=float)
            self.difference_limit_ = float(np.nanmax(np.abs(error)))
            names.append(f"difference \N{PLUS-MINUS SIGN}{self.difference_limit_:.3g}")
        if self.kind == "signal":
            painter = Lines(list(rows.values()), line_kw, difference_kw)
        else:
            painter = (Maps if self.kind == "map" else Pictures)(self.X, image_kw, difference_kw)
        mosaic = Mosaic(len(self.X), names, painter.cell, n_columns)
        self.ax_ = axes_for(ax)
        self.figure_ = self.ax_.figure
        self.artists_ = [
            painter.row(mosaic, self.ax_, row, X) for row, X in enumerate(rows.values())
        ]
        if difference:
            last = painter.differences(mosaic, self.ax_, len(rows), error, self.difference_limit_)
            self.artists_.append(last)
        self.names_ = mosaic.frame(self.ax_, in_proportion=painter.in_proportion, own=ax is None)
        return self


def _check_number(X):
    if not 1 <= X.shape[0] <= _MOST_ROWS:
        raise ValueError(
            f"X has {X.shape[0]} rows, but a picture has a column for each: give 1 to "
            f"{_MOST_ROWS}, such as X[:10]."
        )


def _reconstructed(model, X):
    return model.inverse_transform(model.transform(X))


def _as_fitted(arrays, estimator, kind):
    """Arrays, their shape and kind, as a fitted estimator says, with channels last."""
    shape, axis = estimator.input_shape_, estimator.channel_axis
    if axis is None:
        return arrays, shape, kind
    arrays = [np.moveaxis(X.reshape(-1, *shape), axis % len(shape) + 1, -1) for X in arrays]
    return arrays, arrays[0].shape[1:], "signal" if len(shape) == 2 and kind == "auto" else kind


def _resolve_kind(kind, shape, n_features):
    """What "auto" means; ValueError where the columns are not of that kind."""
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(map(repr, _KINDS))}.")
    if kind == "auto":
        if len(shape) > 1:
            return "image"
        return "map" if n_features == _N_BIGRAMS else "signal"
    if kind == "map" and isqrt(n_features) ** 2 != n_features:
        raise ValueError(f"kind='map' needs a square number of columns, got {n_features}.")
    if kind == "image" and len(shape) < 2:
        raise ValueError(f"kind='image' needs shape=(height, width[, channels]), got {shape}.")
    return kind


def _shaped(X, name, n_samples, shape):
    X = dense_array(X)
    if X.size != n_samples * prod(shape) or len(X) != n_samples:
        raise ValueError(f"{name} has shape {X.shape}, which is not {n_samples} rows of {shape}.")
    return X.reshape(n_samples, *shape)
