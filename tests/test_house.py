"""The rules of the house, read from the source: who imports whom, and how long things may be."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module may import from its own layer's package and from the layers above it in this list;
# neighbors within a layer do not know each other. The first match of a name decides.
LAYERS = (
    ("slt_rl.jaxprs",),
    ("slt_rl.convolutions",),
    ("slt_rl.array_files", "slt_rl.compilation", "slt_rl.data", "slt_rl.diagnostics"),
    ("slt_rl.documents", "slt_rl.dots", "slt_rl.friction", "slt_rl.groups", "slt_rl.keys"),
    ("slt_rl._numbers", "slt_rl.draws", "slt_rl.parts"),
    ("slt_rl._checks", "slt_rl.estimators", "slt_rl.responses", "slt_rl.observables"),
    ("slt_rl.increments",),
    ("slt_rl.checkpoints", "slt_rl.rl"),
    ("slt_rl.predictive", "slt_rl.progress", "slt_rl.rounding", "slt_rl.step_error"),
    ("toy_models",),
    ("slt_rl.posterior", "slt_rl.samplers"),
    ("slt_rl.observer",),
    ("slt_rl.settings",),
    ("slt_rl.chains", "slt_rl.tempered_smc"),
    ("slt_rl.probes", "slt_rl.result", "slt_rl.numpyro_nuts", "slt_rl.block_checks"),
    ("slt_rl.calibration", "slt_rl.budget"),
    ("slt_rl.verdict", "slt_rl.sampling", "slt_rl.threads"),
    ("slt_rl.estimation", "slt_rl.kept"),
    ("slt_rl.chunks", "slt_rl.processes", "slt_rl.sharding"),
    ("slt_rl.precision",),
    ("slt_rl.llc",),
    ("slt_rl.ladder",),
    ("slt_rl.__init__",),
    ("slt_rl.development",),
    ("slt_rl.report",),
    ("slt_rl.agents",),
    ("slt_rl.validation",),
    ("slt_rl.difficulty",),
    ("slt_rl.launch",),
    ("slt_rl.cli",),
)
# Where less is allowed than the layers say, the whole list of what is.
ONLY = {
    "slt_rl.rl": {"slt_rl.rl", "slt_rl.data", "slt_rl._numbers"},
    "toy_models": {"toy_models", "slt_rl.rl", "slt_rl.data", "slt_rl._numbers"},
    "slt_rl.estimators": {"slt_rl.diagnostics"},
    "slt_rl.responses": {"slt_rl.diagnostics"},
    "slt_rl.predictive": {"slt_rl.responses"},
    "slt_rl.diagnostics": set(),
    "slt_rl.checkpoints": {"slt_rl.array_files", "slt_rl.documents"},
}
# Imported inside the function that needs them, so that a plain import stays light and extras stay
# extras. A package named here may import the library at the top of a module.
OPTIONAL = {
    "arviz": (),
    "craftax": (),
    "gymnasium": (),
    "matplotlib": (
        "slt_rl.report",
        "slt_rl.difficulty",
        "slt_rl.agents.figures",
        "slt_rl.agents.frame_figure",
    ),
    "seaborn": (),
    "submitit": (),
    "tqdm": (),
}
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 40
MAX_LOOP_LINES = 80
MAX_PARAMETERS = 8
MAX_POSITIONAL = 3
# The two calls most users ever make: everything they may want to change, by keyword.
MANY_PARAMETERS = {"estimate_llc", "llc_curve"}
# Signatures that another library dictates.
FOREIGN_SIGNATURES = {"step_env", "step"}

FILES = sorted(
    path
    for folder in ("slt_rl", "toy_models", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
)
PACKAGE_FILES = [
    path for path in FILES if path.relative_to(ROOT).parts[0] in ("slt_rl", "toy_models")
]


def name_of(path: Path) -> str:
    """The dotted name of a module of the checkout."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def every(paths):
    """One test for each file, named as the module."""
    return pytest.mark.parametrize("path", paths, ids=name_of)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def belongs(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def imported_modules(path: Path, nodes) -> set[str]:
    """Dotted names of what is imported, relative imports resolved, submodules told from names."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    modules = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                modules.add(submodule if is_own_module(submodule) else source)
    return modules


def is_own_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def layer_of(module: str) -> tuple[int, str] | None:
    """Number of the layer and the entry of `LAYERS` that holds the module; None for an outsider."""
    for number, entries in enumerate(LAYERS):
        for entry in entries:
            if belongs(module, entry):
                return number, entry
    return None


def import_errors(importer: str, imported: str) -> list[str]:
    """What is wrong with one import inside the project; an empty list if nothing."""
    if imported.split(".")[0] not in ("slt_rl", "toy_models"):
        return []
    imported = "slt_rl.__init__" if imported == "slt_rl" else imported
    own, other = layer_of(importer), layer_of(imported)
    if own is None or other is None:
        unknown = importer if own is None else imported
        return [f"{unknown} has no layer: give it one in LAYERS"]
    if own[1] == other[1]:
        return []
    allowed = ONLY.get(own[1])
    if allowed is not None and not any(belongs(imported, entry) for entry in allowed):
        return [f"{importer} may import only {sorted(allowed)}, not {imported}"]
    if allowed is None and other[0] >= own[0]:
        return [f"{importer} must not import {imported}: imports point the other way"]
    return []


@every(PACKAGE_FILES)
def test_imports_point_one_way(path):
    importer = name_of(path)
    if importer == "slt_rl":
        return  # the public list; what it may hold is tested below
    imported = imported_modules(path, ast.walk(tree_of(path)))
    errors = [error for other in sorted(imported) for error in import_errors(importer, other)]
    assert not errors, "\n".join(errors)


def test_import_of_the_package_stays_within_the_library():
    imported = imported_modules(
        ROOT / "slt_rl" / "__init__.py", tree_of(ROOT / "slt_rl/__init__.py").body
    )
    outer = (
        "slt_rl.development",
        "slt_rl.report",
        "slt_rl.validation",
        "slt_rl.difficulty",
        "slt_rl.agents",
        "slt_rl.cli",
        "toy_models",
    )
    assert [name for name in imported if any(belongs(name, entry) for entry in outer)] == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("slt_rl.posterior", "slt_rl.chains"),
        ("slt_rl.samplers", "slt_rl.posterior"),
        ("slt_rl.rl.potentials", "slt_rl.samplers"),
        ("toy_models.exact", "slt_rl.llc"),
        ("slt_rl.llc", "slt_rl.report.figures"),
        ("slt_rl.llc", "slt_rl"),
        ("slt_rl.estimators", "slt_rl.data"),
    ],
)
def test_the_rule_catches_imports_that_point_the_wrong_way(importer, imported):
    assert import_errors(importer, imported)


def module_level_nodes(tree: ast.Module):
    """Every node that runs at import: not inside a function, nor under `if TYPE_CHECKING`."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


@every(PACKAGE_FILES)
def test_optional_libraries_are_imported_where_they_are_used(path):
    tops = {
        name.split(".")[0] for name in imported_modules(path, module_level_nodes(tree_of(path)))
    }
    wrong = [
        name
        for name in tops & set(OPTIONAL)
        if not any(belongs(name_of(path), package) for package in OPTIONAL[name])
    ]
    assert wrong == []


@every(FILES)
def test_no_star_import_no_super_no_mutable_default(path):
    for node in ast.walk(tree_of(path)):
        where = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"{where}: import *"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "super", f"{where}: super()"
        if isinstance(node, ast.arguments):
            defaults = [*node.defaults, *(d for d in node.kw_defaults if d is not None)]
            mutable = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
            wrong = [ast.unparse(d) for d in defaults if isinstance(d, mutable)]
            assert wrong == [], "mutable default"


@every(PACKAGE_FILES)
def test_importing_makes_no_arrays(path):
    """A module-level array would take hold of an accelerator before the user can choose one."""
    calls = [
        ast.unparse(node.func)
        for node in module_level_nodes(tree_of(path))
        if isinstance(node, ast.Call)
    ]
    starts = ("jnp.", "jax.numpy.", "jax.random.", "jax.device", "np.random.")
    assert [call for call in calls if call.startswith(starts)] == []


FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(tree: ast.Module) -> set[ast.AST]:
    """Functions of a module and methods of its classes whose name has no underscore."""
    scopes = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    nodes = {node for scope in scopes for node in scope if isinstance(node, FUNCTION)}
    return {node for node in nodes if not node.name.startswith("_")}


def code_lines(node: ast.FunctionDef) -> int:
    """Lines from `def` to the end, without the docstring; where many parameters are granted, so are
    the lines of the signature."""
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = first.end_lineno - first.lineno + 1 if is_docstring else 0
    start = first.lineno if node.name in MANY_PARAMETERS else node.lineno
    return node.end_lineno - start + 1 - docstring


def may_be_long(node: ast.FunctionDef, lines: list[str]) -> bool:
    """Whether a comment `# long: <reason>` stands right above, or on the line of, the `def`."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    near = [lines[first - 2] if first > 1 else "", lines[node.lineno - 1]]
    return any(re.search(r"# long: \S+", line) for line in near)


@every(FILES)
def test_functions_and_files_are_short(path):
    too_long = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for node in filter(lambda node: isinstance(node, FUNCTION), ast.walk(tree_of(path))):
        limit = MAX_LOOP_LINES if may_be_long(node, lines) else MAX_FUNCTION_LINES
        if code_lines(node) > limit:
            too_long.append(f"{node.name}: {code_lines(node)} lines, at most {limit}")
    assert not too_long, "\n".join(too_long)
    assert len(lines) <= MAX_FILE_LINES


@every(FILES)
def test_parameters_are_few_and_named(path):
    wrong = []
    tree = tree_of(path)
    public = public_functions(tree)
    for node in filter(lambda node: isinstance(node, FUNCTION), ast.walk(tree)):
        named = [*node.args.posonlyargs, *node.args.args]
        named = [argument for argument in named if argument.arg not in ("self", "cls")]
        total = len(named) + len(node.args.kwonlyargs)
        if total > MAX_PARAMETERS and node.name not in MANY_PARAMETERS:
            wrong.append(f"{node.name}: {total} parameters, at most {MAX_PARAMETERS}")
        exempt = node.name in MANY_PARAMETERS | FOREIGN_SIGNATURES
        if node in public and len(named) > MAX_POSITIONAL and not exempt:
            wrong.append(f"{node.name}: keyword-only after the third, {len(named)} are positional")
    assert not wrong, "\n".join(wrong)


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned_names() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    wrong = [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)]
    assert wrong == [], "expected name==version on every line"
    return {normalized(pin.partition("==")[0]) for pin in pins}


def test_every_dependency_is_pinned():
    project = pyproject()["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    names = {normalized(re.match(r"[\w.-]+", line).group()) for line in wanted}
    assert sorted(names - pinned_names()) == []


def test_one_version_everywhere():
    source = (ROOT / "slt_rl" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(\S+)"$', source, re.MULTILINE).group(1)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE).group(1) == version
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE).group(1) == version
