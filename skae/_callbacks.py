"""scikit-learn's callbacks where it has them, from version 1.9 on; else nothing in their place."""

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """An older scikit-learn: there is no `set_callbacks`."""

    def with_callbacks(method):
        return method


def callback_context(estimator, n_epochs):
    """The context of a fit whose subtasks are its epochs; None before version 1.9."""
    if not hasattr(estimator, "set_callbacks"):
        return None
    return estimator._init_callback_context(max_subtasks=n_epochs)
