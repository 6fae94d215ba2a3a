"""The version, which files of `save` contain too, and the address of the documentation."""

__version__ = "0.1.0"

# To be claimed before the first release (CONTRIBUTING.md): nobody owns it yet. It is written here
# alone, and the metadata of the package and the links of scikit-learn's diagrams are made from it.
DOCUMENTATION = "https://skae.readthedocs.io"
