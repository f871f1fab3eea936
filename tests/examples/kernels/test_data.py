"""The data can be made again, no family of graphs is in two files, and what they ask can be answered."""

import json
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from agentrft.data.samples import load_demonstrations, load_samples
from examples.kernels.bench import Bench
from examples.kernels.c_source import Habits, best, write
from examples.kernels.graphs import DIFFICULTIES, Graph, Step, draw_families
from examples.kernels.make_data import SIZES, write_data
from examples.kernels.policies import read_rows

ROOT = Path(__file__).parents[3]


def test_the_same_seed_gives_the_same_bytes_in_another_process(data: Path, tmp_path: Path) -> None:
    source = "import sys\nfrom pathlib import Path\nfrom examples.kernels.make_data import write_data\n"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    command = [sys.executable, "-c", source + "write_data(Path(sys.argv[1]), seed=0)", str(tmp_path)]
    subprocess.run(command, check=True, env=environment, timeout=120)
    for name in SIZES:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (data / f"{name}.jsonl").read_bytes()


def test_the_files_load_with_the_promised_sizes(data: Path) -> None:
    assert len(load_samples(data / "train.jsonl")) == 200
    assert len(load_samples(data / "validation.jsonl")) == 100
    assert len(load_samples(data / "test.jsonl")) == 200
    assert len(load_demonstrations(data / "demonstrations.jsonl")) == 160


def test_no_family_of_graphs_is_in_two_rows(data: Path) -> None:
    families = [row["family"] for name in SIZES for row in read_rows(data / f"{name}.jsonl")]
    assert len(families) == len(set(families)) == sum(SIZES.values())


def test_a_family_is_what_a_graph_is_without_its_constants() -> None:
    graphs = [Graph((Step("relu"), Step("mul", constant))) for constant in (0.5, 2.0)]
    assert graphs[0].family == graphs[1].family == "relu mul"
    assert Graph((Step("mul", 0.5), Step("relu"))).family == "mul relu"


def test_an_unknown_difficulty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="small, medium, large"):
        write_data(tmp_path, 0, "huge")


def test_the_prompt_has_the_expression_and_the_head_of_the_function() -> None:
    small = Graph((Step("plus_z"), Step("mul", 0.5), Step("tanh")))
    large = Graph((Step("relu"),), "softmax", (Step("times_z"),))
    reduced = Graph((Step("exp"),), "sum", (Step("neg"),))
    assert small.text == "torch.tanh((x + z) * 0.5)"
    assert large.text == "torch.softmax(torch.relu(x), dim=1) * w"
    assert reduced.text == "-torch.sum(torch.exp(x), dim=1)"
    assert [graph.signature for graph in (small, large, reduced)] == [1, 3, 2]


def test_a_graph_survives_its_row_and_nonsense_is_no_graph() -> None:
    graph = Graph((Step("mul", 0.5),), "rms_norm", (Step("relu"),), positive=True)
    assert Graph.from_json(json.loads(json.dumps(graph.as_json()))) == graph
    for nonsense in (None, {}, {**graph.as_json(), "over_row": "sort"}, {**graph.as_json(), "after": [["eval", 0]]}):
        with pytest.raises(ValueError):
            Graph.from_json(nonsense)


def test_demonstrations_call_in_order_and_submit(data: Path) -> None:
    numbers_of_compilations = set()
    for row in read_rows(data / "demonstrations.jsonl"):
        calls = [call["function"]["name"] for message in row["messages"] for call in message.get("tool_calls", [])]
        assert calls[0] == "compile"
        assert row["messages"][-1]["content"] == "submit"
        assert ("run", "run") not in pairwise(calls)
        numbers_of_compilations.add(calls.count("compile"))
    assert numbers_of_compilations == {1, 2}


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_best_source_is_right_and_is_said_to_be(bench: Bench, difficulty: str) -> None:
    for graph in draw_families(difficulty, 4, random.Random(11)):
        verdict = bench.judge(graph, best(graph))
        assert verdict.correct, (graph.text, best(graph), verdict)


def test_what_the_script_calls_wrong_is_wrong_and_what_it_calls_slow_is_right(bench: Bench) -> None:
    script = random.Random(3)
    for graph in draw_families("small", 3, random.Random(12)):
        wrong = write(graph, Habits(wrong=1.0), script)
        slow = write(graph, Habits(slow=1.0), script)
        assert not wrong.is_right
        assert slow.is_right
        for written in (wrong, slow):
            library = bench.compile(graph, written.source).library
            assert library is not None
            assert bench.check(graph, library).correct == written.is_right, (graph.text, written.source)
