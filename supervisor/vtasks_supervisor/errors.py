"""What can go wrong, one class for each decision of a caller."""


class SupervisorError(Exception):
    """The root of this package's errors."""


class SpecError(SupervisorError):
    """A spec is wrong, or cannot be carried to another process: mend it."""


class ChannelClosed(SupervisorError):
    """The peer of a channel is gone."""


class TreeFailed(SupervisorError):
    """No child of the tree can do its work: end the process, so that its keeper notices."""
