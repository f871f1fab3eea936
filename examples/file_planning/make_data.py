"""Write the data of this example: `python -m examples.file_planning.make_data`. The same seed gives the same bytes.

Four files and the repositories that their rows name; no package is in more than one of the files. Without `--requests`
the requests are generated from packages that are installed with agentrft, so that nothing is downloaded. With it they
are real ones, and the releases before each change come from PyPI, into a cache outside of the repository.
"""

import argparse
import json
import logging
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.file_planning.change_requests import ChangeRequest, load_change_requests, load_swe_bench
from examples.file_planning.demonstrations import demonstrate
from examples.file_planning.generated import generate
from examples.file_planning.policies import POLICIES, World, play, usual_names
from examples.file_planning.prompts import prompt_messages, search_words
from examples.file_planning.repositories import Repository, files_by_word, folders, whole
from examples.file_planning.scripted import Conversation
from examples.file_planning.sources import DEFAULT_CACHE, NoSource, installed_source, source_of
from examples.file_planning.tools import DATA, PlanningTools

SIZES = {"train": 240, "validation": 120, "test": 240, "demonstrations": 140}
# Which packages are whose. What is not named here goes to training.
INSTALLED = {
    "train": ("sympy",),
    "validation": ("numpy", "alembic", "pydantic"),
    "test": ("networkx", "jinja2", "fsspec"),
    "demonstrations": ("sqlalchemy", "huggingface_hub", "peft"),
}
REAL = {
    "validation": ("rich", "requests", "flask", "black"),
    "test": ("werkzeug", "click", "httpx"),
    "demonstrations": ("pytest", "scrapy"),
}
# Of `small`: how many files a repository has, and how many hits the search for a word.
LEAST_FILES, MOST_FILES = 6, 25
MOST_HITS = 6
# How many files an answer has at most.
MOST_ANSWERS = {"small": 2, "large": 4}
# Of one repository, so that the rows of a file are about many.
MOST_REQUESTS = {"small": 20, "large": 120}
VERSIONS = 4
# Generated are so many times as many requests as are needed.
POOL = 1.2

logger = logging.getLogger("make_data")
Chosen = tuple[ChangeRequest, Repository]


@dataclass(frozen=True)
class RealRequests:
    """Where real requests are.

    Attributes:
        requests: a file or folder of rows.
        cache: the folder of what is downloaded.
        versions: how many versions of a package are fetched, those with the most rows.
        clones: with it, the rows have SWE-bench's form, and their repositories are cloned there.
    """

    requests: Path
    cache: Path = DEFAULT_CACHE
    versions: int = VERSIONS
    clones: Path | None = None


def write_data(
    out: Path,
    seed: int,
    difficulty: str = "small",
    real: RealRequests | None = None,
    sizes: Mapping[str, int] = SIZES,
) -> None:
    """Write the files and repositories into `out`, which is created.

    Args:
        real: where real requests are; generated ones without.
        sizes: rows of each file, as far as there are so many.

    Raises:
        ValueError: there is no such difficulty, or a file would be empty.
    """
    if difficulty not in MOST_ANSWERS:
        raise ValueError(f"difficulty {difficulty!r}: there are {', '.join(MOST_ANSWERS)}")
    generator = random.Random(f"{seed}/{difficulty}")
    pools = _generated(difficulty, sizes, generator) if real is None else _real(real, difficulty)
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "repositories", ignore_errors=True)
    for name, size in sizes.items():
        pool = _spread(pools[name], generator)
        # Some demonstrations do not find what they should show.
        chosen = pool[: size * 2 if name == "demonstrations" else size]
        if not chosen:
            raise ValueError(f"no requests for {name}: give more packages or versions")
        for _, repository in chosen:
            repository.copy_to(out / "repositories")
        rows = [_row(request, repository, difficulty) for request, repository in chosen]
        if name == "demonstrations":
            rows = list(_demonstrations(rows, out / "repositories", generator))[:size]
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `write_data` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def world_of(out: Path, seed: int) -> World:
    """What the scripted policies may know of the data in a folder."""
    files = {
        folder.name: sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
        for folder in sorted((out / "repositories").iterdir())
    }
    return World(files, usual_names(read_rows(out / "train.jsonl")), random.Random(seed))


def _row(request: ChangeRequest, repository: Repository, difficulty: str) -> dict[str, Any]:
    return {
        "messages": prompt_messages(request.text, difficulty),
        "repository": repository.name,
        "difficulty": difficulty,
        "package": request.package,
        "kind": request.kind,
        "request": request.text,
        "files": sorted(request.files),
    }


def _demonstrations(
    rows: Iterable[dict[str, Any]], repositories: Path, generator: random.Random
) -> Iterator[dict[str, Any]]:
    # Our own commands: without bubblewrap they take a third of the time and answer the same.
    tools = PlanningTools(repositories, jailed=False)
    for number, row in enumerate(rows):
        talk = Conversation(tools, row, f"demonstration-{number}")
        if demonstrate(talk, row, generator):
            yield {**row, "messages": talk.messages}


def _generated(difficulty: str, sizes: Mapping[str, int], generator: random.Random) -> dict[str, list[Chosen]]:
    pools: dict[str, list[Chosen]] = defaultdict(list)
    for name, packages in INSTALLED.items():
        repositories: list[Repository] = []
        for package in packages:
            source = installed_source(package)
            if source is None:
                logger.warning("%s is not installed: %s does without it", package, name)
                continue
            repositories += _repositories(package, package, source, difficulty)
        generator.shuffle(repositories)
        for repository in repositories:
            if len(pools[name]) < POOL * sizes[name]:
                requests = generate(repository, MOST_REQUESTS[difficulty], generator)
                pools[name] += [(request, repository) for request in requests]
    return pools


def _real(real: RealRequests, difficulty: str) -> dict[str, list[Chosen]]:
    """Requests whose files are all in one repository, and that words of theirs lead to."""
    if real.clones is None:
        requests = _of_main_versions(load_change_requests(real.requests), real.versions)
    else:
        requests = load_swe_bench(real.requests, real.clones)
    whose = {package: name for name, packages in REAL.items() for package in packages}
    by_source: dict[tuple[str, str], list[ChangeRequest]] = defaultdict(list)
    for request in requests:
        by_source[request.package, request.version or request.commit].append(request)
    pools: dict[str, list[Chosen]] = defaultdict(list)
    for (package, version), asked in sorted(by_source.items()):
        try:
            source = source_of(asked[0], real.cache)
        except NoSource as error:
            logger.warning("left out: %s", error)
            continue
        name = f"{package}-{version[:12]}"
        for repository in _repositories(name, package, source, difficulty):
            pools[whose.get(package, "train")] += list(_answered_in(repository, asked, source, difficulty))
    return pools


def _of_main_versions(requests: Sequence[ChangeRequest], versions: int) -> list[ChangeRequest]:
    """Those of each package's versions with the most requests; those of commits all."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for request in requests:
        counted[request.package][request.version] += 1
    main = {(package, version) for package, found in counted.items() for version, _ in found.most_common(versions)}
    return [request for request in requests if request.commit or (request.package, request.version) in main]


def _answered_in(
    repository: Repository, requests: Sequence[ChangeRequest], source: Path, difficulty: str
) -> Iterator[Chosen]:
    inner = repository.source.relative_to(source).as_posix()
    prefix = "" if inner == "." else inner + "/"
    present = set(repository.files)
    hits = files_by_word(repository.texts()) if difficulty == "small" else {}
    seen: set[str] = set()
    for request in requests:
        files = tuple(file.removeprefix(prefix) for file in request.files if file.startswith(prefix))
        fits = len(files) == len(request.files) <= MOST_ANSWERS[difficulty] and present.issuperset(files)
        if fits and request.text not in seen and (difficulty == "large" or _leads(request.text, files, hits)):
            seen.add(request.text)
            yield ChangeRequest(request.package, request.text, files, kind=request.kind), repository


def _leads(request: str, files: Sequence[str], hits: dict[str, list[str]]) -> bool:
    """Whether the first words that a reader would search list every right file, and few others."""
    listed = [hits.get(word, []) for word in search_words(request)[:3]]
    found = {file for files_of_word in listed if len(files_of_word) <= MOST_HITS for file in files_of_word}
    return found.issuperset(files)


def _repositories(name: str, package: str, source: Path, difficulty: str) -> Iterator[Repository]:
    if difficulty == "large":
        yield whole(name, package, source)
    else:
        yield from folders(name, package, source, least=LEAST_FILES, most=MOST_FILES)


def _spread(pool: Sequence[Chosen], generator: random.Random) -> list[Chosen]:
    """The pool in an order in which each repository comes once before any comes twice."""
    shuffled = list(pool)
    generator.shuffle(shuffled)
    counts: Counter[str] = Counter()
    ranked: list[tuple[int, Chosen]] = []
    for chosen in shuffled:
        ranked.append((counts[chosen[1].name], chosen))
        counts[chosen[1].name] += 1
    return [chosen for _, chosen in sorted(ranked, key=lambda pair: pair[0])]


def _print_statistics(out: Path, seed: int) -> None:
    for name in SIZES:
        rows = read_rows(out / f"{name}.jsonl")
        packages = ", ".join(f"{package} {n}" for package, n in Counter(row["package"] for row in rows).most_common())
        print(f"{name}: {len(rows)} rows of {len({row['repository'] for row in rows})} repositories; {packages}")
    rows, world = read_rows(out / "test.jsonl"), world_of(out, seed)
    tools = PlanningTools(out / "repositories", jailed=False)
    print(f"\n{'on the test samples':20} reward  file F1  turns  calls")
    for name, policy in POLICIES.items():
        result = play(policy, rows, world, tools)
        print(f"{name:20} {result.reward:6.3f} {result.file_f1:8.3f} {result.turns:6.2f} {result.calls:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--difficulty", choices=list(MOST_ANSWERS), default="small")
    parser.add_argument("--requests", type=Path, help="real requests: a JSONL file, or a folder of them")
    parser.add_argument("--clones", type=Path, help="with it the requests have SWE-bench's form, cloned in this folder")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where releases are kept")
    parser.add_argument("--versions", type=int, default=VERSIONS, help="of each package, those with the most requests")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    real = None
    if arguments.requests is not None:
        real = RealRequests(arguments.requests, arguments.cache, arguments.versions, arguments.clones)
    write_data(arguments.out, arguments.seed, arguments.difficulty, real)
    _print_statistics(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
