"""Axes of displays, and rows drawn side by side in one axes as pictures, maps or lines."""

from functools import partial
from inspect import signature
from numbers import Integral

import numpy as np

# Width and height in inches of a cell with a signal or a map.
_SIGNAL, _MAP = (1.9, 0.8), (2.6, 2.6)

# Least and greatest height in inches of a cell with a picture.
_PICTURE_HEIGHTS = (0.8, 1.6)

_PIXELS_PER_INCH = 60

# Maximum width in inches of the cells in one line of a mosaic.
_LINE_WIDTH = 10.0

# Inches between neighbouring cells, between lines, around names, and around the whole figure.
_GAP, _WIDE_GAP, _MARGIN, _PAD = 0.07, 0.3, 0.1, 0.15

# Height of a name with the space around it, in multiples of its font size.
_LINE_SPACING = 1.4


def check_matplotlib(caller):
    """Raise ImportError if matplotlib is missing; called before any long work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{caller} needs matplotlib: pip install "skae[plot]".') from error


def style_keywords(artist, given, **defaults):
    """Keywords for an artist: the user's, whatever their alias, and defaults for the others."""
    from matplotlib.cbook import normalize_kwargs

    given = normalize_kwargs(given, artist)
    # matplotlib takes colours under one of two names, and limits outside of a norm or inside.
    for name, others in (("c", ["color"]), ("norm", ["vmin", "vmax"])):
        if given.get(name) is not None:
            defaults = {key: value for key, value in defaults.items() if key not in others}
    if "norm" in defaults and "norm" not in given:
        for limit in {"vmin", "vmax"} & set(given):
            setattr(defaults["norm"], limit, given.pop(limit))
    return {**defaults, **given}


def checked_names(feature_names, n_columns):
    """Names of columns as an array; ValueError if there are not as many as columns."""
    names = np.asarray(feature_names, dtype=object)
    if names.shape != (n_columns,):
        raise ValueError(
            f"feature_names has shape {names.shape}, but there are {n_columns} columns."
        )
    return names


def column_labels(feature_names, columns):
    """Labels of some columns: their names, or "x0", "x1" and so on where they have none."""
    return [f"x{j}" if feature_names is None else str(feature_names[j]) for j in columns]


def check_count(**count):
    """Raise ValueError if a number of columns, given by its name, is no positive integer."""
    ((name, n),) = count.items()
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise ValueError(f"{name}={n!r} must be a positive integer.")


class Display:
    """What all displays share; the rest is ``plot`` and two constructors that call it."""

    @classmethod
    def _begin(cls, method, drawing):
        """Before any long work, raise if matplotlib is missing or `plot` has no such keyword."""
        check_matplotlib(f"{cls.__name__}.{method}")
        known = [name for name in signature(cls.plot).parameters if name != "self"]
        for name in drawing:
            if name not in known:
                raise TypeError(
                    f"{cls.__name__}.{method} has no keyword {name}: for drawing there are "
                    f"{', '.join(known)}."
                )

    def _take_axes(self, ax):
        """Set ``ax_`` and ``figure_`` for a plot, and return the axes; None for a new figure's."""
        check_matplotlib(f"{type(self).__name__}.plot")
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(layout="constrained")  # which leaves room for labels
        if not hasattr(ax, "spines"):
            raise TypeError(f"ax must be one matplotlib Axes, got {type(ax).__name__}.")
        self.ax_, self.figure_ = ax, ax.figure
        for side in {"top", "right"} & set(ax.spines):  # polar axes have others
            ax.spines[side].set_visible(False)
        return ax


class Pictures:
    """Draw grey pictures (n, height, width), or coloured ones with the channels as last axis.

    Of pictures with other than three or four channels the mean is drawn, in grey.
    """

    equal_aspect = True

    def __init__(self, X, image_kw, difference_kw):
        from matplotlib.image import AxesImage

        X = _grey_or_coloured(X)
        self._limits = _limits_of_colours(X) if X.ndim == 4 else _limits(X)
        low, high = self._limits
        self._style = style_keywords(AxesImage, image_kw, cmap="gray", vmin=low, vmax=high)
        self._difference_kw = difference_kw
        height = np.clip(X.shape[1] / _PIXELS_PER_INCH, *_PICTURE_HEIGHTS)
        self.cell = height * X.shape[2] / X.shape[1], height

    def draw_row(self, mosaic, ax, row, X):
        """Draw the rows of X from left to right."""
        return self._draw(mosaic, ax, row, self._shown(_grey_or_coloured(X)), self._style)

    def draw_differences(self, mosaic, ax, row, error, limit):
        """Draw differences on a scale from minus ``limit`` to ``limit``."""
        from matplotlib.image import AxesImage

        limit, error = limit or 1.0, _grey_or_coloured(error)
        if error.ndim == 4:  # a colour map takes a single channel
            error = (error / limit + 1) / 2
        scale = {"cmap": "coolwarm", **self._scale_of_differences(limit)}
        style = style_keywords(AxesImage, self._difference_kw, **scale)
        return self._draw(mosaic, ax, row, error, style)

    def _shown(self, X):
        low, high = self._limits
        return np.clip((X - low) / (high - low), 0, 1) if X.ndim == 4 else X

    def _scale_of_differences(self, limit):
        return {"vmin": -limit, "vmax": limit}

    def _draw(self, mosaic, ax, row, X, style):
        return [mosaic.draw_picture(ax, row, i, pixels, **style) for i, pixels in enumerate(X)]


class Maps(Pictures):
    """Draw square maps of frequencies, most of which are small or zero.

    The scale is an inverse hyperbolic sine: linear up to a tenth of the median of non-zero
    entries, and logarithmic above.
    """

    cell = _MAP

    def __init__(self, X, image_kw, difference_kw):
        from matplotlib.colors import AsinhNorm
        from matplotlib.image import AxesImage

        sizes = np.abs(X[(X != 0) & np.isfinite(X)])
        self._scale = partial(AsinhNorm, 0.1 * float(np.median(sizes)) if len(sizes) else 1.0)
        norm = self._scale(vmin=0, vmax=float(sizes.max(initial=0)) or 1.0)
        self._style = style_keywords(AxesImage, image_kw, cmap="magma", norm=norm)
        self._difference_kw = difference_kw

    def _shown(self, X):
        return X

    def _scale_of_differences(self, limit):
        return {"norm": self._scale(vmin=-limit, vmax=limit)}


class Lines:
    """Draw signals (n, length) or (n, length, channels), reconstructions over the originals."""

    equal_aspect = False
    cell = _SIGNAL

    def __init__(self, rows, line_kw, difference_kw):
        from matplotlib.lines import Line2D

        self._X = rows[0]
        # Limits include reconstructions, which would overlap the cells above and below otherwise.
        self._limits = _limits(np.stack([_limits(X) for X in rows]))
        self._style = style_keywords(Line2D, line_kw, color="C0", linewidth=1.0)
        self._difference = style_keywords(Line2D, difference_kw, color="C3", linewidth=1.0)

    def draw_row(self, mosaic, ax, row, X):
        """Draw the rows of X from left to right."""
        lines = []
        for i, values in enumerate(X):
            curve = partial(mosaic.draw_curve, ax, row, i, limits=self._limits)
            lines.append(curve(self._X[i], color="0.6", linewidth=1.2))
            if X is not self._X:
                lines[-1] += curve(values, **self._style)
        return lines

    def draw_differences(self, mosaic, ax, row, error, limit):
        """Draw differences around zero, on a scale from minus ``limit`` to ``limit``."""
        limit = limit or 1.0
        lines = []
        for i, values in enumerate(error):
            curve = partial(mosaic.draw_curve, ax, row, i, limits=(-limit, limit))
            lines.append(curve(np.zeros(2), color="0.6", linewidth=0.8))
            lines[-1] += curve(values, **self._difference)
        return lines


class Mosaic:
    """A grid of cells with a column for each sample, wrapped into lines, and named rows in a line.

    One axes contains all cells, because the layout of an axes for each of fifty samples would take
    seconds. A cell has a width and a height in inches; ``n_columns`` are side by side at most, with
    None as many as fit.
    """

    def __init__(self, n_samples, names, cell, n_columns=None):
        self.names, self.cell = names, cell
        most = max(1, int(_LINE_WIDTH / cell[0])) if n_columns is None else n_columns
        self.n_lines = -(-n_samples // most)
        self.n_columns = -(-n_samples // self.n_lines)  # lines of similar length
        self._width = cell[0] / cell[1]
        self._gap, self._wide_gap = _GAP / cell[1], _WIDE_GAP / cell[1]
        self._line = len(names) * (1 + self._gap) + self._wide_gap

    def cell_box(self, row, sample):
        """Left, bottom, width and height of a cell."""
        line, column = divmod(sample, self.n_columns)
        bottom = -line * self._line - row * (1 + self._gap) - 1
        return column * (self._width + self._gap), bottom, self._width, 1.0

    def add_names(self, ax, *, equal_aspect, new_figure):
        """Write the names of the rows, set the limits of the axes, and return the names.

        A new figure gets the size that fits all cells; in given axes the names shrink to fit.
        """
        # Of the grid, in multiples of a cell's height.
        width = self.n_columns * (self._width + self._gap) - self._gap
        height = self.n_lines * self._line - self._wide_gap - self._gap
        names = [
            ax.text(
                0, self.cell_box(row, line * self.n_columns)[1] + 0.5, name, ha="right", va="center"
            )
            for line in range(self.n_lines)
            for row, name in enumerate(self.names)
        ]
        widest = max(name.get_window_extent().width for name in names) / ax.figure.dpi
        if new_figure:
            unit = across = self.cell[1]
            ax.figure.set_size_inches(
                widest + 2 * _MARGIN + width * unit + _PAD, height * unit + _PAD
            )
        else:
            box, dpi = ax.get_window_extent(), ax.figure.dpi
            room = (box.width / dpi, box.height / dpi)
            unit = min(room[1] / height, room[0] / width) if equal_aspect else room[1] / height
            size = names[0].get_fontsize()
            share = min(1.0, 72 * unit / (_LINE_SPACING * size), room[0] / 3 / widest)
            widest *= share
            across = (room[0] - widest - 2 * _MARGIN) / width
            if equal_aspect:
                unit = across = min(unit, across)
            for name in names:
                name.set_fontsize(min(share * size, 72 * unit / _LINE_SPACING))
        for name in names:
            name.set_x(-_MARGIN / across)
        ax.set_aspect("equal" if equal_aspect else "auto")
        ax.set(
            xlim=(-(widest + 2 * _MARGIN) / across, width), ylim=(-height, 0), xticks=[], yticks=[]
        )
        ax.spines[:].set_visible(False)
        return names

    def draw_picture(self, ax, row, sample, pixels, **style):
        """Draw pixels (height, width) or (height, width, channels) in a cell."""
        left, bottom, width, height = self.cell_box(row, sample)
        return ax.imshow(pixels, extent=(left, left + width, bottom, bottom + height), **style)

    def draw_curve(self, ax, row, sample, values, limits, **style):
        """Draw values (length, channels) as lines in a cell whose height is the limits' range."""
        left, bottom, width, height = self.cell_box(row, sample)
        low, high = limits
        x = left + width * np.linspace(0.04, 0.96, len(values))
        y = bottom + height * (0.04 + 0.92 * (values - low) / (high - low))
        return ax.plot(x, y, **style)


def _grey_or_coloured(X):
    return X if X.ndim == 3 or X.shape[-1] in (3, 4) else X.mean(axis=-1)


def _limits(X):
    low, high = float(np.nanmin(X)), float(np.nanmax(X))
    return (low, high) if high > low else (low, low + 1.0)


def _limits_of_colours(X):
    if X.dtype == np.uint8:
        return 0.0, 255.0
    low, high = _limits(X)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
