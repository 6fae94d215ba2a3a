"""Results of long steps that fits on the same rows share."""

import torch
from sklearn.utils.validation import check_memory


class Cache:
    """What a `joblib.Memory` keeps of some rows, by the name of the step.

    Parameters
    ----------
    memory : str or joblib.Memory
    key : dict of str to str or int
        All that the results depend on, other than their names.
    """

    def __init__(self, memory, key):
        self._call = check_memory(memory).cache(_arrays, ignore=["compute"])
        self._key = key

    def recall(self, name, compute):
        """The tensors that ``compute()`` returns in a dict, or those kept under the name."""
        arrays = self._call(self._key, name, compute)
        return {name: torch.tensor(array) for name, array in arrays.items()}


def _arrays(key, name, compute):
    return {name: tensor.cpu().numpy() for name, tensor in compute().items()}
