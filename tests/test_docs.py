"""The documentation keeps up with the code. Its examples run as doctests of the same session."""

import ast
import importlib.util
import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def load(path: Path):
    """Imports a script of docs/ by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build_reference = load(ROOT / "docs" / "build_reference.py")


@pytest.fixture(scope="module")
def expected():
    return build_reference.pages()


def test_reference_is_up_to_date(expected):
    found = {
        path.name: path.read_text(encoding="utf-8") for path in build_reference.FOLDER.glob("*.md")
    }
    assert sorted(found) == sorted(expected), "run `make docs`"
    assert [name for name in found if found[name] != expected[name]] == [], "run `make docs`"


def test_pages_differ_by_more_than_case(expected):
    assert len({name.lower() for name in expected}) == len(expected)


@pytest.mark.parametrize("item", build_reference.public_names(), ids=lambda item: item.path)
def test_every_public_name_is_documented(item):
    text = build_reference.docstring(item)
    assert len(text.split()) >= 3
    # A dataclass without a docstring gets its signature as one.
    assert not text.startswith(f"{item.name}(")


def test_tutorial_runs_and_finds_what_it_says(capsys):
    classes = load(ROOT / "docs" / "tutorials" / "tms.py").main(quick=True)
    assert "5+" in classes["labels"]
    assert {"5", "5+"} & set(classes["rewards"].ravel())
    assert "trusted" in capsys.readouterr().out


def test_tutorial_of_an_agent_goes_from_checkpoints_to_a_curve(tmp_path, capsys):
    path = ROOT / "docs" / "tutorials" / "gym_agent.py"
    curve = load(path).main(tmp_path, quick=True)
    printed = capsys.readouterr().out
    assert curve.steps.tolist() == [0, 4, 20]
    assert all(verdict in printed for verdict in curve.verdicts)
    bounds = curve.interval()
    assert ((bounds[:, 0] < curve.mean) & (curve.mean < bounds[:, 1])).all()
    assert (tmp_path / "llc.png").stat().st_size > 1000
    functions = {
        node.name: node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    lines = sum(len(ast.unparse(functions[name]).splitlines()) for name in ("measure", "draw"))
    assert lines < 40


@pytest.mark.very_slow
def test_tutorial_of_craftax_goes_from_an_empty_folder_to_a_report(tmp_path):
    pytest.importorskip("craftax")
    tutorial = load(ROOT / "docs" / "tutorials" / "craftax_agent.py")
    with jax.enable_x64(False):
        assert tutorial.run(tmp_path / "run", tutorial.QUICK) in (0, 1)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    # Everything on one axis, achievements, turning points and the agent in its world.
    assert page.count("<img") == 4 and "excess plant" in page
    assert [words[0] for words in tutorial.FULL] == [words[0] for words in tutorial.QUICK]


def test_readme_has_an_example_that_runs():
    assert ">>> " in (ROOT / "README.md").read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The fragment of each heading, as Markdown renderers make it."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        file, _, fragment = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if fragment:
            assert fragment in anchors(path), target


def _texts(node: ast.AST) -> list[str]:
    """A string of the source with `...` for what is formatted into it; no string, nothing."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if not isinstance(node, ast.JoinedStr):
        return []
    return ["".join(x.value if isinstance(x, ast.Constant) else "..." for x in node.values)]


def flags_in_the_code() -> list[str]:
    """What an estimate may be flagged with: what is added to `flags`, and `flag = ...`."""
    found = []
    for path in sorted((ROOT / "slt_rl").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "flags.add":
                found += _texts(node.args[0])
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "flag":
                found += _texts(node.value)
    return found


def test_every_flag_is_explained():
    text = (ROOT / "docs" / "how-to-choose.md").read_text(encoding="utf-8")
    table = text.split("|flag begins with|", 1)[1].split("\n\n", 1)[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    flags = flags_in_the_code()
    assert len(flags) >= 22
    # Not by more than one row: `equipartition ...` alone would explain four flags.
    explained = {flag: sum(flag.startswith(row) for row in rows) for flag in flags}
    assert [flag for flag, times in explained.items() if times != 1] == []
    assert [row for row in rows if not any(flag.startswith(row) for flag in flags)] == []


def test_every_flag_says_what_to_do():
    remedy = re.compile(r"\b(use|run|raise|polish|train)\b")
    assert [flag for flag in flags_in_the_code() if not remedy.search(flag)] == []


def test_every_page_can_be_reached_from_the_index():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [path for path in (ROOT / "docs").glob("*.md") if path.name != "index.md"]
    assert [path.name for path in pages if f"({path.name})" not in text] == []


def test_architecture_names_every_module():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [path.name for path in (ROOT / "slt_rl").glob("*.py") if path.stem != "__init__"]
    packages = [f"{path.parent.name}/" for path in (ROOT / "slt_rl").glob("*/__init__.py")]
    assert [name for name in modules + packages if f"  {name} " not in text] == []


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("The mean of `w*`, times w*.", ["The mean of `w*`, times w\\*."]),
        ("Law:\n\n    p(w) = 1 * 2\n\nEnd.", ["Law:", "    p(w) = 1 * 2", "End."]),
        (
            "One.\n\nArgs:\n    first: `[n]`, a\n        number.\n    second: b.\n\n"
            "Returns:\n    It.",
            [
                "One.",
                "**Arguments**",
                "- `first`: `[n]`, a\n  number.\n- `second`: b.",
                "**Returns**",
                "It.",
            ],
        ),
        (
            "One.\n\nExample:\n    >>> 1 + 1\n    2",
            ["One.", "**Example**", "```python\n>>> 1 + 1\n2\n```"],
        ),
    ],
)
def test_docstrings_become_markdown(text, rendered):
    assert build_reference.rendered_docstring(text) == rendered
