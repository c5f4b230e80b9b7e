"""What a tool may raise so that the action server knows what went wrong."""


class ToolError(Exception):
    """A tool failed in a way that another attempt may cure."""


class MalformedOutput(ToolError):
    """A tool answered with something that cannot be read."""


class RateLimited(ToolError):
    """A tool refused because it was called too often (HTTP 429).

    Args:
        retry_after: seconds that the tool asked to be left alone; None if it did not say.
    """

    def __init__(self, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.retry_after = retry_after


class Rejected(ToolError):
    """A tool refused the arguments; another attempt would be refused too."""
