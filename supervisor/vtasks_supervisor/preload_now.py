"""The last that a fork server imports: it lets preload finish."""

from vtasks_supervisor import preload

preload.finish()
