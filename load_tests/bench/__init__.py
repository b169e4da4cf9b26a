"""This package and its peers side by side: each in an environment of its own, on servers of the same kind, in turns."""
