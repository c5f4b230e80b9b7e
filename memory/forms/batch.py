"""The largest batch of a form that the compiler accepts."""

from loomax.memory.forms.search import Search, Try

MOST = 2**20


def largest_batch(search: Search, start: Try, batch: int, multiple: int) -> Try | None:
    """The largest batch that fits in the form of `start`, to within `multiple` rows.

    Memory grows about linearly with the batch, so the next size to try is where the line through
    the last two tries meets the budget; what counts is what the compiler says there.

    Args:
        batch: rows at which the search was made.
        multiple: batches are multiples of this.
    """

    def ask(count: int) -> Try:
        return search.ask(start.form, start.lever, count * multiple)

    unit = max(1, batch // multiple)
    best, low, high = None, 0, MOST // multiple + 1
    points: list[tuple[int, int]] = []
    try:
        while high - low > 1 and len(points) < 16:
            count = _next(points, low, high, unit, search.budget)
            found = ask(count)
            if found.verdict.peak_bytes:
                points.append((count, found.verdict.peak_bytes))
            if found.verdict.fits(search.budget):
                best, low = found, count
            else:
                high = count
    except KeyboardInterrupt:
        search.interrupted = True
    return best


def _next(points: list[tuple[int, int]], low: int, high: int, unit: int, budget: int) -> int:
    """A size between `low`, which fits, and `high`, which does not."""
    guess = unit if not points else 2 * points[-1][0]
    distinct = sorted(set(points))
    if len(distinct) > 1:
        (a, first), (b, second) = distinct[-2:]
        slope = (second - first) / (b - a)
        guess = int(a + (budget - first) / slope) if slope > 0 else 2 * b
    # What the line says was tried already: step off it.
    tried = {count for count, _ in points}
    if guess in tried:
        guess = guess + 1 if guess <= low else guess - 1
    return min(max(guess, low + 1), high - 1)
