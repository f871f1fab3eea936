"""The documents for users and contributors, cut into their headings, fenced blocks and links."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEMPLATE = "src/agentrft/cli/templates/project/README.md"
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / TEMPLATE,
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
    )
)
FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block. `place` is the document and the heading that it stands under, as a link would name both."""

    document: str
    heading: str
    language: str
    text: str
    line: int
    number: int

    @property
    def place(self) -> str:
        return f"{self.document}#{anchor(self.heading)}" + (f"-{self.number}" if self.number else "")

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, without comments; a line that ends in a backslash goes on in the next."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"(^|\s+)#.*$", "", line).strip() for line in joined.splitlines()]
        return [line for line in lines if line]


def anchor(heading: str) -> str:
    """What GitHub makes of a heading, for links."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@cache
def blocks(*languages: str) -> list[Block]:
    """All fenced blocks in these languages, or in any."""
    found: list[Block] = []
    for document in DOCUMENTS:
        text = text_of(document)
        counts: dict[tuple[str, str], int] = {}
        for match in FENCE.finditer(text):
            headings = HEADING.findall(FENCE.sub("", text[: match.start()]))
            key = (headings[-1], match["language"])
            number = counts[key] = counts.get(key, -1) + 1
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(document, key[0], key[1], match["text"], line, number))
    return [block for block in found if not languages or block.language in languages]


def section(document: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    text = text_of(document)
    start = text.index(f"# {heading}\n")
    after = HEADING.search(FENCE.sub(lambda match: "." * len(match.group()), text), start + len(heading) + 2)
    return text[start : after.start() if after else None]


def anchors(document: str) -> set[str]:
    return {anchor(heading) for heading in HEADING.findall(FENCE.sub("", text_of(document)))}
