"""SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the numbers that the compiled planner draws."""

MASK = 2**64 - 1


class SplitMix:
    def __init__(self, seed: int):
        self._state = seed & MASK

    def next(self) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & MASK
        z = self._state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        return z ^ (z >> 31)

    def below(self, bound: int) -> int:
        return self.next() % bound
