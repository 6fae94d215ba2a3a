"""LatentDisplay: two dimensions of the code of each row."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self, TypedDict, Unpack

import numpy as np

from .._data.validation import dense_array
from .axes import Display, style_keywords

# Matthew Petroff's ten colours, distinct with any colour vision; each ten has its own marker.
_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)

_MARKERS = "o^sDvP"

_MOST_LABELS = len(_COLOURS) * len(_MARKERS)

# Integers with more distinct values than this are a quantity, not labels.
_MOST_INTEGERS = 20

# Number of labels in a column of the legend.
_LEGEND_ROWS = 20


class Drawing(TypedDict, total=False):
    """Keywords of `plot`."""

    ax: Any
    scatter_kw: Mapping[str, Any] | None
    legend_kw: Mapping[str, Any] | None


class LatentDisplay(Display):
    """Two dimensions of the code of each row, coloured by label or quantity.

    Each label has a colour, from the eleventh on another marker too, and an entry in a legend
    beside the axes. Numbers with more than twenty distinct values, or with fractions, are a
    quantity and have a colour bar. A code of one dimension is drawn against y, or as a histogram
    without y. Create a display with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, latent_dim)
        The codes.
    y : ndarray of shape (n_samples,), default=None
        Label or quantity of each row.
    dims : tuple of two int, default=(0, 1)
        The dimensions of the code on the horizontal and the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that contain the plot.
    figure_ : matplotlib Figure
        The figure of the axes.
    scatters_ : list of PathCollection
        The points of each label in order, or of all rows. Empty for a histogram.
    legend_ : matplotlib Legend or None
        Colours of the labels; None if y is not labels.
    colorbar_ : matplotlib Colorbar or None
        Colours of the quantity; None if y is not a quantity.

    See Also
    --------
    ReconstructionDisplay : Reconstructions from the codes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenseAutoencoder, LatentDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> autoencoder = DenseAutoencoder(2, max_epochs=4, random_state=0).fit(X[:1000])
    >>> display = LatentDisplay.from_estimator(autoencoder, X[1500:], y[1500:])
    >>> len(display.scatters_)
    10
    """

    def __init__(self, Z: Any, y: Any = None, *, dims: Sequence[int] = (0, 1)) -> None:
        self.Z = Z
        self.y = y
        self.dims = dims

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        dims: Sequence[int] = (0, 1),
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw the codes of rows.

        Parameters
        ----------
        estimator : object
            Fitted estimator with `transform`, such as a Pipeline that ends with an autoencoder.
        X : object
            Rows that `transform` accepts.
        y : array-like of shape (n_samples,), default=None
            Label or quantity of each row.
        dims : tuple of two int, default=(0, 1)
            The dimensions of the code on the horizontal and the vertical axis.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : LatentDisplay
            The drawn display.
        """
        cls._begin("from_estimator", drawing)
        return cls.from_predictions(estimator.transform(X), y, dims=dims, **drawing)

    @classmethod
    def from_predictions(
        cls,
        Z: Any,
        y: Any = None,
        *,
        dims: Sequence[int] = (0, 1),
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw codes.

        Parameters
        ----------
        Z : {array-like, sparse matrix or array} of shape (n_samples, latent_dim)
            The codes.
        y : array-like of shape (n_samples,), default=None
            Label or quantity of each row.
        dims : tuple of two int, default=(0, 1)
            The dimensions of the code on the horizontal and the vertical axis.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : LatentDisplay
            The drawn display.
        """
        cls._begin("from_predictions", drawing)
        Z = dense_array(Z)
        if y is not None:
            y = np.asarray(y)
            try:
                n_values = len(np.unique(y))
            except TypeError:  # words and None have no order
                y = y.astype(str)
                n_values = len(np.unique(y))
        if Z.ndim != 2:
            raise ValueError(f"Z must have two axes, rows and dimensions, got {Z.ndim}.")
        if y is not None and y.shape != (len(Z),):
            raise ValueError(f"y has shape {y.shape}, but there are {len(Z)} codes.")
        length = Z.shape[1]
        if length > 1 and not (
            np.shape(dims) == (2,)
            and all(isinstance(dim, Integral) and -length <= dim < length for dim in dims)
        ):
            raise ValueError(
                f"dims={dims} must be two dimensions of the code, from 0 to {length - 1}."
            )
        n_labels = 0 if y is None or _are_quantities(y) else n_values
        if n_labels > _MOST_LABELS:
            raise ValueError(
                f"y has {n_labels} different labels, but no more than {_MOST_LABELS} have "
                f"distinct colours and markers."
            )
        return cls(Z, y, dims=dims).plot(**drawing)

    def plot(
        self,
        *,
        ax: Any = None,
        scatter_kw: Mapping[str, Any] | None = None,
        legend_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in; None for a new figure.
        scatter_kw : dict, default=None
            Keywords of `scatter`, or of `hist` for a histogram.
        legend_kw : dict, default=None
            Keywords of `legend`.

        Returns
        -------
        self : LatentDisplay
            The display.
        """
        self._take_axes(ax)
        self.scatters_, self.legend_, self.colorbar_ = [], None, None
        one_dimension = self.Z.shape[1] == 1
        first, second = (0, 0) if one_dimension else self.dims
        self.ax_.set_xlabel(f"code[{first}]")
        if not one_dimension:
            self.ax_.set_ylabel(f"code[{second}]")
        x, up = self.Z[:, first], self.Z[:, second]
        if self.y is None and one_dimension:
            self._draw_histogram(x, scatter_kw)
        elif self.y is None or _are_quantities(self.y):
            self._draw_quantities(x, self.y if one_dimension else up, scatter_kw)
        else:
            self._draw_labels(x, None if one_dimension else up, scatter_kw, legend_kw)
        return self

    def _style(self, given, **defaults):
        from matplotlib.collections import PathCollection

        size = np.clip(10_000 / max(1, len(self.Z)), 4, 24)
        return style_keywords(PathCollection, given, **{"s": size, "linewidths": 0, **defaults})

    def _draw_histogram(self, x, hist_kw):
        from matplotlib.patches import Patch

        self.ax_.hist(x, **style_keywords(Patch, hist_kw, bins="auto", color=_COLOURS[0]))
        self.ax_.set_ylabel("rows")

    def _draw_quantities(self, x, up, scatter_kw):
        defaults = {"color": _COLOURS[0]} if self.y is None else {"c": self.y, "cmap": "viridis"}
        self.scatters_ = [self.ax_.scatter(x, up, **self._style(scatter_kw, **defaults))]
        if up is self.y:
            self.ax_.set_ylabel("y")
        if self.y is not None:
            self.colorbar_ = self.figure_.colorbar(self.scatters_[0], ax=self.ax_, label="y")

    def _draw_labels(self, x, up, scatter_kw, legend_kw):
        labels, label_indices = np.unique(self.y, return_inverse=True)
        for i, label in enumerate(labels):
            chosen = label_indices == i
            marker, colour = divmod(i, len(_COLOURS))
            style = self._style(scatter_kw, color=_COLOURS[colour], marker=_MARKERS[marker])
            # In a strip, heights without a pattern let few points hide each other.
            height = up[chosen] if up is not None else i + 0.7 * _spread(chosen.sum())
            self.scatters_.append(self.ax_.scatter(x[chosen], height, label=str(label), **style))
        if up is None:
            self.ax_.set_yticks(np.arange(len(labels)), labels)
            self.ax_.set_ylabel("y")
            return
        defaults = {"ncols": -(-len(labels) // _LEGEND_ROWS), "frameon": False, "markerscale": 2}
        outside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
        self.legend_ = self.ax_.legend(**{**outside, **defaults, **(legend_kw or {})})
        if self.figure_.get_layout_engine() is None:
            self._shrink_axes()

    def _shrink_axes(self):
        """Reduce the width of the axes by that of their legend, if there is no layout engine."""
        legend, axes = self.legend_.get_window_extent(), self.ax_.get_window_extent()
        if legend.x0 < axes.x1:
            return
        box = self.ax_.get_position()
        share = max(0.3, 1 - (legend.x1 - axes.x1) / axes.width)
        self.ax_.set_position([box.x0, box.y0, box.width * share, box.height])


def _are_quantities(y):
    if y.dtype.kind not in "fiu":
        return False
    values = np.unique(y[~np.isnan(y)])  # NaN is a label among whole numbers
    return len(values) > _MOST_INTEGERS or bool((values != np.round(values)).any())


def _spread(n):
    """Multiples of the golden ratio modulo 1: evenly spread over (-0.5, 0.5) without an order."""
    return (0.5 + np.arange(n) * (np.sqrt(5) - 1) / 2) % 1 - 0.5
