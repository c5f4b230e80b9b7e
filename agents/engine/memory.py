"""What requests hold on the device: pages of keys and values, snapshots of recurrent states.

Pages are shared by reference count. A request writes behind its last computed token only, so a
page that others hold as well is copied when a request begins in the middle of it. A recurrent
state cannot be cut to a shorter prefix, so a prefix of a model that has such states begins where a
snapshot was taken.
"""

from loomax.agents.engine.config import EngineConfig
from loomax.agents.engine.pages import Pool
from loomax.agents.engine.radix import Node, Radix
from loomax.agents.engine.request import EngineRequest
from loomax.agents.engine.work import Call, Work


class Memory:
    """Accounts for pages and snapshots; what the device has to do about it is collected.

    Args:
        recurrent: whether the model has recurrent states.
    """

    def __init__(self, config: EngineConfig, *, recurrent: bool):
        self.config, self.recurrent = config, recurrent
        self.pages = Pool(config.pages)
        self.snapshots = Pool(config.snapshots + 1 if recurrent else 0)
        # The state before any token.
        self._blank = self.snapshots.take() if recurrent else None
        self.radix = Radix(config.page, self.pages, self.snapshots)
        self._saves: dict[int, int] = {}
        self._restores: dict[int, int] = {}
        self._copies: dict[int, int] = {}

    @property
    def free(self) -> int:
        """Pages that can be had without taking them from a request."""
        return self.pages.free + self.radix.evictable

    def inherit(self, child: EngineRequest, parent: EngineRequest, common: int) -> None:
        """Shares the pages of the first `common` tokens, as far as they are computed."""
        common = min(common, parent.computed)
        if common <= child.computed:
            return
        self.release(child)
        held = parent.pages[: self.config.pages_of(common)]
        child.pages = [self.pages.share(page) for page in held]
        for length, snapshot in parent.snapshots.items():
            if length <= common:
                child.snapshots[length] = self.snapshots.share(snapshot)
        child.computed = common

    def begin(self, request: EngineRequest) -> None:
        """Prepares a request that got a slot: the longest prefix that is computed is kept."""
        limit = len(request.tokens) - 1
        own = self._usable(request, limit)
        path = self.radix.match(request.tokens[:limit])
        found = self._deepest(path)
        if found > own:
            self._adopt(request, path[: found // self.config.page])
        else:
            self._cut(request, own)
        if self.recurrent:
            at = request.computed
            self._restores[request.slot] = request.snapshots[at] if at else self._blank

    def fits(self, request: EngineRequest, more: int) -> bool:
        """Whether there are pages for what a request holds not yet, and some more."""
        needed = self.config.pages_of(len(request.tokens)) - len(request.pages)
        return needed + more <= self.free

    def grow(self, request: EngineRequest, tokens: int) -> bool:
        """Takes pages until they hold so many tokens; False if there are none left."""
        while len(request.pages) < self.config.pages_of(tokens):
            page = self._take()
            if page is None:
                return False
            request.pages.append(page)
        return True

    def save(self, request: EngineRequest) -> None:
        """Keeps the states behind what a request has computed, if there is room for them."""
        at = request.computed
        if not self.recurrent or not at or at in request.snapshots:
            return
        snapshot = self._take_snapshot(request)
        if snapshot is not None and request.slot is not None:
            request.snapshots[at] = snapshot
            self._saves[snapshot] = request.slot

    def publish(self, request: EngineRequest) -> None:
        """Adds what a request has computed to the prefix cache."""
        whole = request.computed // self.config.page
        if self.config.prefix_cache and whole:
            tokens = request.tokens[: whole * self.config.page]
            kept = self.radix.insert(tokens, request.pages[:whole], request.snapshots)
            request.pages[:whole] = kept

    def release(self, request: EngineRequest) -> None:
        """Gives up all that a request holds."""
        for page in request.pages:
            self.pages.release(page)
        for snapshot in request.snapshots.values():
            self.snapshots.release(snapshot)
        request.pages, request.snapshots, request.computed = [], {}, 0

    def collect(self, calls: list[Call]) -> Work | None:
        """What was prepared, with the calls; None if there is nothing to do."""
        if not (calls or self._saves or self._restores or self._copies):
            return None
        work = Work(self._saves, self._restores, self._copies, tuple(calls))
        self._saves, self._restores, self._copies = {}, {}, {}
        return work

    def _usable(self, request: EngineRequest, limit: int) -> int:
        """Tokens of what a request holds that need not be computed again."""
        limit = min(limit, request.computed)
        if not self.recurrent:
            return limit
        return max((at for at in request.snapshots if at <= limit), default=0)

    def _deepest(self, path: list[Node]) -> int:
        """Tokens of a path in the prefix cache that a request can begin behind."""
        whole = len(path)
        while self.recurrent and whole and path[whole - 1].snapshot is None:
            whole -= 1
        return whole * self.config.page

    def _adopt(self, request: EngineRequest, path: list[Node]) -> None:
        """Holds the pages of a path, and nothing else."""
        pages = [self.pages.share(node.page) for node in path]
        last = path[-1].snapshot if self.recurrent else None
        kept = {} if last is None else {len(pages) * self.config.page: self.snapshots.share(last)}
        self.release(request)
        request.pages, request.snapshots = pages, kept
        request.computed = len(pages) * self.config.page

    def _cut(self, request: EngineRequest, length: int) -> None:
        """Keeps the first tokens of what a request holds, in pages that it may write."""
        whole, part = divmod(length, self.config.page)
        if part and self.pages.owners(request.pages[whole]) > 1:
            copy = self._take()
            if copy is None:
                self._cut(request, self._usable(request, whole * self.config.page))
                return
            self._copies[copy] = request.pages[whole]
            self.pages.release(request.pages[whole])
            request.pages[whole] = copy
        for page in request.pages[self.config.pages_of(length) :]:
            self.pages.release(page)
        del request.pages[self.config.pages_of(length) :]
        for at in [at for at in request.snapshots if at > length]:
            self.snapshots.release(request.snapshots.pop(at))
        request.computed = length

    def _take(self) -> int | None:
        page = self.pages.take()
        if page is None and self.radix.evict(1):
            page = self.pages.take()
        return page

    def _take_snapshot(self, request: EngineRequest) -> int | None:
        snapshot = self.snapshots.take()
        if snapshot is None and self.radix.evict_snapshot():
            snapshot = self.snapshots.take()
        # The one behind the prompt is what forks begin from.
        loose = [at for at in request.snapshots if at != request.prompt]
        while snapshot is None and loose:
            self.snapshots.release(request.snapshots.pop(loose.pop(0)))
            snapshot = self.snapshots.take()
        return snapshot
