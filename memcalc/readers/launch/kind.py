"""What a kind of launch file is: how it is recognised, its keys, and what its tool does where a key is absent."""

from collections.abc import Callable, Collection

from memcalc.frozen import NamedTuple
from memcalc.readers.launch.meanings import KeyTable
from memcalc.readers.launch.reading import Reading


class Kind(NamedTuple):
    """A row of the table of kinds (memcalc.readers.launch.recognise)."""

    name: str
    title: str  # the tool, with the version whose defaults these are
    keys: tuple[KeyTable, ...]
    is_one: Callable[[Collection[str]], bool]  # of the keys of a file, or the options of a command line
    finish: Callable[[Reading], None]
    task: str = "train"
    switch: str = ""  # the key that switches the table off in which it stands


def has(*all_: str, any_: Collection[str] = ()) -> Callable[[Collection[str]], bool]:
    """Whether all of some keys are there, and one of others; `a.` stands for all keys below a."""

    def found(keys: Collection[str]) -> bool:
        return all(_there(key, keys) for key in all_) and (not any_ or any(_there(key, keys) for key in any_))

    return found


def _there(key: str, keys: Collection[str]) -> bool:
    return any(each.startswith(key) for each in keys) if key.endswith(".") else key in keys
