"""Training of the embedded merges on generated robot instructions and plain English words.

`python -m loomax.models.tokenizer.train` writes merges.txt again; a test checks that it is what
this file produces.
"""

from collections import Counter
from itertools import product

from loomax.models.tokenizer.bpe import FIRST_BYTE, FIRST_MERGE, MERGES, replace_pair, words_of

COLOURS = "red green blue yellow purple orange white black grey brown pink cyan".split()
OBJECTS = (
    "cube block ball bowl plate mug cup bottle can box drawer cabinet basket tray book pan pot "
    "stove microwave moka butter milk sauce soup cheese pudding dressing ketchup juice apple "
    "banana carrot spoon fork knife sponge towel disc target sphere cylinder button door handle "
    "knob switch lid rack shelf bin table tomato cream alphabet salad barbecue chocolate caddy "
    "wine cookie ramekin frying burner peg hole cloth screw tool object one"
).split()
PLACES = (
    "on in into onto under behind beside near above below between inside left right front back "
    "top bottom middle centre center of to from next side"
).split()
VERBS = (
    "pick place put move push pull lift grasp open close turn reach slide stack insert press "
    "rotate pour wipe drop take bring find touch hold release go sort hang fold grab carry give "
    "point raise lower switch set"
).split()
FILLERS = (
    "the a an it and then up down off both all other first second last not please robot arm "
    "gripper hand what how should do action with at is are be this that where there which task "
    "state goal while until before after without by as or no yes you your my i we can"
).split()
# English beside robots, so that other text is not spelt letter by letter.
ENDINGS = "s ed ing er est ly ness tion able ment al ful less ous ive ity ence ance".split()
STEMS = (
    "work look make call plan act learn see use need want help show start stop come know think "
    "keep turn run play read write ask answer time way day thing world part place case number "
    "point home water room light line word name form small large long short high low new old good "
    "great same different next early young important few public able"
).split()


def corpus() -> Counter[str]:
    """Word counts of the generated text."""
    counts: Counter[str] = Counter()
    phrases = [
        f"{verb} up the {colour} {thing}"
        for verb, colour, thing in product(VERBS, COLOURS, OBJECTS)
    ]
    phrases += [
        f"pick the {thing} and place it {place} the {other}"
        for thing, place, other in product(OBJECTS, PLACES, OBJECTS[::4])
    ]
    for phrase in phrases:
        counts.update(words_of(phrase))
    for word in COLOURS + OBJECTS + PLACES + VERBS + FILLERS:
        counts[f" {word}"] += 400
        counts[word] += 20
    for stem, ending in product(STEMS, ENDINGS):
        counts[f" {stem}{ending}"] += 3
        counts[f" {stem}"] += 3
    for phrase in ("Task: pick, State: 1;\nAction: ", "Pick Place Put Move"):
        for word in words_of(phrase):
            counts[word] += 200
    return counts


def train(counts: Counter[str], merges: int) -> list[tuple[int, int]]:
    """Greedy byte-pair merges: the most frequent pair first, ties to the smaller ids."""
    words = [([FIRST_BYTE + b for b in word.encode()], n) for word, n in counts.items()]
    table: list[tuple[int, int]] = []
    for merged in range(FIRST_MERGE, FIRST_MERGE + merges):
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, n in words:
            for pair in zip(ids[:-1], ids[1:], strict=True):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        table.append(best)
        words = [(replace_pair(ids, best, merged), n) for ids, n in words]
    return table


def main() -> None:
    table = train(corpus(), 1024 - FIRST_MERGE)
    MERGES.write_text("".join(f"{left} {right}\n" for left, right in table), encoding="ascii")


if __name__ == "__main__":
    main()
