"""Where displays draw: matplotlib, which is imported only when something is drawn."""


def check_matplotlib(caller):
    """Raise ImportError, before any long work, where there is nothing to draw with."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{caller} needs matplotlib: pip install "skae[plot]".') from error


def axes_for(ax):
    """The axes that were given, or those of a new figure that makes room for its labels."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(layout="constrained")
    return ax


def styled(artist, given, **defaults):
    """Keywords for an artist: ours, unless they were given, by whatever alias."""
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(given, artist)}
