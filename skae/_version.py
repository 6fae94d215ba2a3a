"""The version, which files of `save` tell as well."""

__version__ = "0.1.0"
