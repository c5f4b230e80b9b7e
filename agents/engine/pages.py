"""Reference counts of things that are alike: pages of keys and values, snapshots of states."""


class Pool:
    """Numbers 0 to `size` - 1, each free or held by one or more owners."""

    def __init__(self, size: int):
        self.size = size
        self._counts = [0] * size
        # The last one given back is the next one taken: it may still be in a near cache.
        self._free = list(range(size - 1, -1, -1))

    @property
    def free(self) -> int:
        """How many nobody holds."""
        return len(self._free)

    @property
    def used(self) -> int:
        """How many somebody holds."""
        return self.size - len(self._free)

    def owners(self, number: int) -> int:
        """How many hold it."""
        return self._counts[number]

    def take(self) -> int | None:
        """A free one, held once; None if there is none."""
        if not self._free:
            return None
        number = self._free.pop()
        self._counts[number] = 1
        return number

    def share(self, number: int) -> int:
        """One more owner of what is held.

        Raises:
            ValueError: nobody holds it.
        """
        if not self._counts[number]:
            raise ValueError(f"number {number} is free; only what is held can be shared")
        self._counts[number] += 1
        return number

    def release(self, number: int) -> bool:
        """One owner less; whether it is free now.

        Raises:
            ValueError: nobody holds it.
        """
        if not self._counts[number]:
            raise ValueError(f"number {number} is free; it cannot be released again")
        self._counts[number] -= 1
        if self._counts[number]:
            return False
        self._free.append(number)
        return True
