"""Writes docs/reference from the docstrings: one page for each public name, and an index.

    python docs/build_reference.py

A name is public if one of `MODULES` lists it in its ``__all__``; a module without one makes public
what it defines and what it imports ``as`` the same name, unless it begins with an underscore.
Signatures are read from the source, so that the pages are the same on every machine.
"""

import ast
import copy
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

PACKAGES = ("slt_rl", "toy_models")
NUMBERS = "ladder estimators diagnostics observables responses predictive"
TOOLS = "checkpoints increments launch sharding tempered_smc numpyro_nuts"
OUTER = "rl rl.craftax rl.craftax_events development agents report"
SUPERPOSITION = "training env rl rungs visitation memory difficulty_env"
TOYS = "first_only color_streak staircases finite_envs cheese cheese_exact"
MODULES = (
    "slt_rl",
    *(f"slt_rl.{name}" for name in NUMBERS.split()),
    *(f"slt_rl.{name}" for name in TOOLS.split()),
    *(f"slt_rl.{name}" for name in OUTER.split()),
    "toy_models",
    "toy_models.superposition",
    *(f"toy_models.superposition_{name}" for name in SUPERPOSITION.split()),
    *(f"toy_models.{name}" for name in TOYS.split()),
)
ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
NOTE = (
    "<!-- Written by docs/build_reference.py from the docstrings: edit those, then `make docs`. -->"
)

SECTIONS = "Args|Attributes|Returns|Yields|Raises|Notes?|Examples?|References?|Source"
NAMED_ITEMS = ("Args", "Attributes", "Raises")
LINE = 88


class PublicName(NamedTuple):
    """A name a user may import: `package` is where from, `value` what it is bound to."""

    package: str
    name: str
    value: Any

    @property
    def path(self) -> str:
        """The dotted name, the title of the page."""
        return f"{self.package}.{self.name}"

    @property
    def file(self) -> str:
        """The page's file."""
        twin = getattr(sys.modules[self.package], self.name.lower(), self.value)
        alone = twin is self.value or isinstance(twin, ModuleType)
        return f"{self.path}.md" if alone else f"{self.path}-class.md"


def public_names() -> list[PublicName]:
    """Every public name, by module and then alphabetically."""
    names = []
    for package in MODULES:
        module = importlib.import_module(package)
        for name in sorted(listed(module), key=lambda name: (name.lower(), name)):
            # A submodule that is listed has a section of the index, not a page.
            if not isinstance(getattr(module, name), ModuleType):
                names.append(PublicName(package, name, getattr(module, name)))
    return names


def listed(module: ModuleType) -> list[str]:
    """The names that a module makes public."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("_")]
    names: set[str] = set()
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.ImportFrom):
            names |= {alias.name for alias in statement.names if alias.asname == alias.name}
    return [name for name in names if not name.startswith("_")]


def pages() -> dict[str, str]:
    """The text of each file of docs/reference, by file name."""
    names = public_names()
    texts = {item.file: page(item) for item in names}
    texts["index.md"] = index_page(names)
    return texts


def index_page(names: list[PublicName]) -> str:
    """The list of all names with the first sentence of each, grouped by module."""
    parts = [NOTE, "# Reference", "Every public name, by the module it is imported from."]
    for package in MODULES:
        parts += [f"## `{package}`", summary(importlib.import_module(package).__doc__ or "")]
        items = [item for item in names if item.package == package]
        lines = [f"- [`{i.name}`]({i.file}): {summary(docstring(i))}" for i in items]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def page(item: PublicName) -> str:
    """The reference page of one name."""
    parts = [NOTE, f"# `{item.path}`"]
    node, path = definition(item)
    if isinstance(node, ast.ClassDef):
        parts.append(code(class_outline(item.value, node)))
    elif node is not None:
        is_function = isinstance(node, ast.FunctionDef)
        parts.append(code(signature(node) if is_function else ast.unparse(node)))
    parts += rendered_docstring(docstring(item))
    parts += [f"Defined in `{path}`."] if path else []
    parts += methods(item.value) if isinstance(node, ast.ClassDef) else []
    return "\n\n".join(part for part in parts if part) + "\n"


def defining(value: Any) -> Any:
    """The class or function behind a name, decorators taken off; None for anything else."""
    value = inspect.unwrap(value) if callable(value) else value
    return value if inspect.isclass(value) or inspect.isfunction(value) else None


def definition(item: PublicName) -> tuple[ast.AST | None, str | None]:
    """The syntax node that defines a name and its file in the checkout, None if unknown."""
    value = defining(item.value)
    if value is None:
        return assignment(item)[0], None
    node = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    path = Path(inspect.getsourcefile(value) or "").resolve()
    return node, str(path.relative_to(ROOT))


def docstring(item: PublicName) -> str:
    """The docstring of a name; for a constant or an alias, the string after its assignment."""
    value = defining(item.value)
    return assignment(item)[1] if value is None else inspect.getdoc(value) or ""


def assignment(item: PublicName) -> tuple[ast.AST | None, str]:
    """The statement ``name = ...``, in whichever module holds it, and the string that follows."""
    root = item.package.split(".")[0]
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] != root or item.name not in vars(module):
            continue
        body = ast.parse(inspect.getsource(module)).body
        for statement, following in zip(body, [*body[1:], ast.Pass()], strict=True):
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == item.name:
                value = following.value if isinstance(following, ast.Expr) else None
                text = ast.literal_eval(value) if isinstance(value, ast.Constant) else ""
                return statement, inspect.cleandoc(str(text))
    return None, ""


def signature(node: ast.FunctionDef) -> str:
    """``name(arguments) -> result`` on one line, or one argument a line where that is too long."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = split_arguments(node.args)
    short = f"{node.name}({', '.join(arguments)}){returns}"
    if len(short) <= LINE:
        return short
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"{node.name}(\n{lines}){returns}"


def split_arguments(arguments: ast.arguments) -> list[str]:
    """Each argument as it is written, with the bare ``/`` and ``*`` between them."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    words = list(map(written, positional, defaults))
    if arguments.posonlyargs:
        words.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        words.append("*" + ast.unparse(arguments.vararg))
    elif arguments.kwonlyargs:
        words.append("*")
    words += map(written, arguments.kwonlyargs, arguments.kw_defaults)
    return words + (["**" + ast.unparse(arguments.kwarg)] if arguments.kwarg else [])


def written(argument: ast.arg, default: ast.expr | None) -> str:
    """One argument with its annotation and default."""
    if default is None:
        return ast.unparse(argument)
    equals = " = " if argument.annotation else "="
    return ast.unparse(argument) + equals + ast.unparse(default)


def class_outline(value: type, node: ast.ClassDef) -> str:
    """The class statement with its fields, those inherited within the project first."""
    bases = [ast.unparse(base) for base in node.bases]
    lines = [f"class {node.name}" + (f"({', '.join(bases)})" if bases else "") + ":"]
    fields: dict[str, str] = {}
    for cls in reversed(own_classes(value)):
        for statement in class_node(cls).body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                fields[statement.target.id] = written_field(statement)
    shown = [text for name, text in fields.items() if not name.startswith("_")]
    return "\n".join(lines + [f"    {text}" for text in shown or ["..."]])


def written_field(statement: ast.AnnAssign) -> str:
    """``name: type = default``, with the default taken out of a call of ``dataclasses.field``."""
    text = f"{ast.unparse(statement.target)}: {ast.unparse(statement.annotation)}"
    default = statement.value
    if isinstance(default, ast.Call) and ast.unparse(default.func).endswith("field"):
        keywords = {word.arg: word.value for word in default.keywords}
        factory = keywords.get("default_factory")
        default = keywords.get("default", factory and ast.Call(factory, [], []))
    return text if default is None else f"{text} = {ast.unparse(default)}"


def own_classes(value: type) -> list[type]:
    """The class and those of its ancestors that this project defines, nearest first."""
    return [cls for cls in value.__mro__ if cls.__module__.split(".")[0] in PACKAGES]


def class_node(cls: type) -> ast.ClassDef:
    """The syntax node of a class."""
    node = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(node, ast.ClassDef)
    return node


def methods(value: type) -> list[str]:
    """Signature and docstring of each public method and property, in the order of the source."""
    parts: list[str] = []
    seen: set[str] = set()
    for cls in own_classes(value):
        for node in class_node(cls).body:
            if not isinstance(node, ast.FunctionDef) or node.name in seen:
                continue
            seen.add(node.name)
            if not node.name.startswith("_") or node.name == "__call__":
                parts += [f"## `{node.name}`", code(method_signature(node))]
                parts += rendered_docstring(inspect.getdoc(getattr(value, node.name)) or "")
    return parts


def method_signature(node: ast.FunctionDef) -> str:
    """The signature under its decorators; a property is shown as the attribute that it is."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if any("property" in decorator for decorator in decorators):
        returns = f": {ast.unparse(node.returns)}" if node.returns else ""
        return node.name + returns
    shown = copy.deepcopy(node)
    if shown.args.args and shown.args.args[0].arg in ("self", "cls"):
        del shown.args.args[0]
    return signature(shown)


def summary(text: str) -> str:
    """The first paragraph of a docstring on one line."""
    return escape(" ".join(text.strip().split("\n\n")[0].split()))


def rendered_docstring(text: str) -> list[str]:
    """A Google-style docstring as Markdown paragraphs."""
    body, *rest = re.split(rf"(?m)^({SECTIONS}):[ \t]*$", text)
    parts = prose(body)
    for heading, content in zip(rest[::2], rest[1::2], strict=True):
        parts.append("**Arguments**" if heading == "Args" else f"**{heading}**")
        content = textwrap.dedent(content.strip("\n"))
        parts += [named_items(content)] if heading in NAMED_ITEMS else prose(content)
    return [part for part in parts if part.strip()]


def prose(text: str) -> list[str]:
    """Paragraphs; a doctest or an indented formula becomes a block of code."""
    parts: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if paragraph.lstrip().startswith(">>>"):
            block = code(textwrap.dedent(paragraph))
            if parts and ">>>" in parts[-1]:
                block = (
                    parts.pop().removesuffix("\n```") + "\n\n" + block.removeprefix("```python\n")
                )
            parts.append(block)
        else:
            parts += formulas_apart(paragraph)
    return parts


def formulas_apart(paragraph: str) -> list[str]:
    """Splits a paragraph where the text turns into an indented formula or back."""
    parts: list[str] = []
    indented = None
    for line in paragraph.split("\n"):
        is_formula = line.startswith("    ")
        text = line if is_formula else escape(line)
        if is_formula == indented:
            parts[-1] += "\n" + text
        else:
            parts.append(text)
        indented = is_formula
    return parts


def named_items(content: str) -> str:
    """``name: text`` entries, with their indented continuation, as a list."""
    lines: list[str] = []
    for line in content.split("\n"):
        match = re.match(r"^([\w.*`][\w.*`, ]*?)(?: \(([^)]*)\))?:(?: +(.*))?$", line)
        if match:
            name, kind, text = match.groups()
            lines.append(
                f"- `{name.strip('`')}`{f' ({kind})' if kind else ''}: {escape(text or '')}"
            )
        else:
            lines.append("  " + escape(line.strip()) if line.strip() else "")
    return "\n".join(lines)


def escape(text: str) -> str:
    """Escapes what Markdown would take for emphasis or a tag, except between backticks."""
    pieces = re.split(r"(`+[^`]*`+)", re.sub(r"^(\s*)\* ", r"\1- ", text))
    return "".join(p if p.startswith("`") else re.sub(r"([*<])", r"\\\1", p) for p in pieces)


def code(text: str) -> str:
    """A fenced block of Python."""
    return f"```python\n{text}\n```"


def main() -> None:
    """Writes every page and removes those whose name is gone."""
    texts = pages()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.md"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(texts)} pages in {FOLDER.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
