"""What requests take of a cache, in the units that an engine hands out, and how many tokens or requests so many units hold."""

from memcalc.frozen import NamedTuple

LONGEST = 2**31 - 1  # tokens: the longest context that is looked for


class Growth(NamedTuple):
    """A kind of layer whose cache grows with a sequence: `rate` units every `granule` tokens, of at most `cap` granules."""

    rate: int
    granule: int = 1
    cap: int | None = None
    extra: int = 0  # granules that every sequence takes beside

    def kept(self, tokens: int) -> int:
        """Tokens for which there is room in a sequence of `tokens`.

        >>> Growth(1, granule=16, cap=4).kept(17), Growth(1, granule=16, cap=4).kept(1000)
        (32, 64)
        """
        if tokens <= 0:
            return 0
        granules = -(-tokens // self.granule)
        return (min(granules, self.cap or granules) + self.extra) * self.granule


class Pool(NamedTuple):
    """A fixed share of the cache, `part` of `whole`, that some layers draw from: units of a sequence, and of its tokens."""

    part: int
    whole: int
    fixed: int
    growth: tuple[Growth, ...]

    def of(self, tokens: int) -> int:
        """Units of the whole cache for which the pool's share holds these tokens."""
        used = self.fixed + sum(kind.rate * (kind.kept(tokens) // kind.granule) for kind in self.growth)
        return -(-used * self.whole // self.part)


class Demand(NamedTuple):
    """What one sequence takes: `fixed` units whatever its length, and what grows. A unit is `unit` bytes.

    Of several `pools` the fullest decides; nothing grows beside them.
    """

    unit: int
    fixed: int
    growth: tuple[Growth, ...]
    passes: tuple[tuple[int, int], ...] = ()  # moments of an own forward pass: units a token of the prompt, and at once
    answer: int = 0  # tokens that are not the prompt's
    pools: tuple[Pool, ...] = ()
    groups: int = 1  # of layers, each with blocks of its own

    def of(self, tokens: int) -> int:
        """Units that the tokens of one sequence take, its fixed part left out."""
        return self.cache_of(tokens) + self.pass_of(tokens)

    def cache_of(self, tokens: int) -> int:
        """The part of it that stays."""
        if self.pools:
            return max(pool.of(tokens) for pool in self.pools) if tokens > 0 else 0
        return sum(kind.rate * (kind.kept(tokens) // kind.granule) for kind in self.growth)

    def pass_of(self, tokens: int) -> int:
        """The part of it that the forward pass over its prompt takes, where the engine runs all prompts whole and together."""
        prompt = max(0, tokens - self.answer)
        if tokens <= 0:
            return 0
        return max((rate * prompt + once for rate, once in self.passes), default=0)

    def tokens_of_a_group(self, units: int) -> int:
        """Tokens in blocks that are shared out among all groups, as vLLM counted them before 0.21.

        >>> Demand(1, 0, (Growth(1, 16), Growth(5, 16)), groups=6).tokens_of_a_group(10051)  # Gemma 4 31B, 24.54 GiB
        26800
        """
        return units // self.groups * min((kind.granule for kind in self.growth), default=0)

    def tokens_in(self, units: int) -> int | None:
        """Tokens that layers which keep all of them have room for, in the first of several pools; None without pools."""
        if not self.pools:
            return None
        first = self.pools[0]
        rate, granule = sum(kind.rate for kind in first.growth), min(kind.granule for kind in first.growth)
        return units * first.part // (first.whole * rate) * granule

    def units_of(self, tokens: int) -> int:
        """Units of several pools in whose first so many tokens stand."""
        first = self.pools[0]
        rate, granule = sum(kind.rate for kind in first.growth), min(kind.granule for kind in first.growth)
        return -(-tokens * first.whole * rate // (first.part * granule))

    def within(self, units: int) -> int | None:
        """The longest sequence whose tokens take at most so many units; None when there is no longest.

        The demand never falls with the length, so halving the interval finds it exactly.
        """
        if self.of(LONGEST) <= units:
            return None
        low, high = 0, LONGEST
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.of(middle) <= units else (low, middle)
        return low


class Requests(NamedTuple):
    """How tokens are shared: a prefix by all requests, the rest of a prompt by its copies, `own` by no one."""

    prefix: int
    prompt: int
    own: int
    copies: int
    slots: int = 1  # that divide `own` among themselves

    @property
    def stream(self) -> int:
        """Tokens of the longest sequence."""
        return self.prefix + self.prompt + -(-self.own // self.slots)

    def pieces(self, batch: int) -> tuple[tuple[int, int], ...]:
        """(tokens, how many such pieces) that `batch` requests keep."""
        return ((self.prefix, 1), (self.prompt, batch), (-(-self.own // self.slots), batch * self.copies * self.slots))

    def base(self, demand: Demand) -> int:
        """Units that all requests share."""
        return demand.of(self.prefix)

    def each(self, demand: Demand) -> int:
        """Units of one request more."""
        own = demand.of(-(-self.own // self.slots)) + demand.fixed
        return demand.of(self.prompt) + self.copies * self.slots * own

    def longest(self, demand: Demand, units: int) -> int | None:
        """The longest context that each of the requests can reach in `units` for one of them; None: there is no limit."""
        if self.slots > 1:
            left = units // self.slots - demand.fixed
            found = demand.within(left) if left >= 0 else 0
            return None if found is None else found * self.slots
        if self.copies == 1:
            left = units - demand.fixed
            found = demand.within(left) if left >= 0 else 0
            return None if found is None else self.prefix + found if left >= 0 else 0
        left = units - self.copies * (demand.of(self.own) + demand.fixed)
        if left < 0:
            return 0
        found = demand.within(left)
        return None if found is None else self.prefix + found + self.own
