"""Which pages of the KV cache are taken, and by how many sequences."""

from collections import Counter
from collections.abc import Iterable, Sequence

# On a CPU a page is a unit of the kernels' work too; on a GPU it is as many keys as one program reads at a time.
PAGE_TOKENS = 64


class PagePool:
    """Counts the holders of each page. A page without any is free; the one freed last is taken first.

    Args:
        pages: how many there are.
    """

    def __init__(self, pages: int) -> None:
        self._free = list(range(pages - 1, -1, -1))
        self._holders = [0] * pages

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def taken(self) -> int:
        """Pages that somebody holds; one that several hold counts once."""
        return len(self._holders) - len(self._free)

    def take(self, count: int) -> list[int]:
        """So many free pages, each now with one holder."""
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._holders[page] = 1
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """One more holds these."""
        for page in pages:
            self._holders[page] += 1

    def give_back(self, pages: Iterable[int]) -> None:
        """One less holds these."""
        for page in pages:
            self._holders[page] -= 1
            if not self._holders[page]:
                self._free.append(page)

    def freed_by(self, holders: Iterable[Sequence[int]]) -> int:
        """How many pages would be free if all of these holders gave theirs back."""
        counts = Counter(page for pages in holders for page in pages)
        return sum(count == self._holders[page] for page, count in counts.items())


def pages_of(tokens: int) -> int:
    """How many pages hold so many tokens."""
    return -(-tokens // PAGE_TOKENS)
