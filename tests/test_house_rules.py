"""The walls of the house: who may import whom, what is documented, what the README promises."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparseconv

PACKAGE = Path(sparseconv.__file__).parent
ROOT = PACKAGE.parent
# from the ground up; testing is a side room of tests and benchmarks, above what it may use
UPWARDS = (
    "_errors | geometry _optional | io _native | backends | ops | tensor | functional"
    " | nn transforms | datasets viz models testing | bench tasks compat | cli"
)
LEVELS = {name: n for n, level in enumerate(UPWARDS.split(" | ")) for name in level.split()}
FILES = {
    ".".join(("sparseconv", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = [name for name in FILES if name != "sparseconv"]
HEAVY = ("open3d", "laspy", "plyfile", "rich", "triton", "matplotlib", "scipy")


def room(module):
    return module.split(".")[1]


def defines(path):
    """Names a file defines itself, rather than imports."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {t.id for t in targets if isinstance(t, ast.Name)}
    return names


def imports(module, *, deferred):
    """Yield (module imported, name taken from it or None) of the imports of our own package."""
    tree = ast.parse(FILES[module].read_text())
    for node in ast.walk(tree) if deferred else tree.body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if node.module.split(".")[0] == "sparseconv":
                for name in node.names:
                    whole = f"{node.module}.{name.name}"
                    is_file = whole in FILES or whole == "sparseconv._native"
                    yield (whole, None) if is_file else (node.module, name.name)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "sparseconv":
                    yield name.name, None


def allowed(module, target):
    """Whether a module may import a target of another room."""
    if room(module) == "testing":
        return LEVELS[room(target)] <= LEVELS["nn"]
    if room(target) == "testing":
        return room(module) == "bench"
    return LEVELS[room(target)] < LEVELS[room(module)]


def test_imports_go_down_and_to_the_defining_file():
    faults = []
    for module in MODULES:
        assert room(module) in LEVELS, f"{module}: a new room, say on which level it stands"
        for target, name in imports(module, deferred=True):
            facade = target in FILES and FILES[target].name == "__init__.py"
            if name is not None and facade and name not in defines(FILES[target]):
                faults.append(f"{module} takes {name} through {target}, not from its file")
            outside = target != "sparseconv" and room(target) != room(module)
            if outside and not allowed(module, target):
                faults.append(f"{module} imports {target}, which is not below it")
    assert not faults, "\n".join(faults)


def test_no_import_cycles():
    edges = {m: {t for t, _ in imports(m, deferred=False) if t in FILES} - {m} for m in FILES}
    done, path = set(), []

    def visit(module):
        if module in path:
            pytest.fail("cycle: " + " -> ".join([*path[path.index(module) :], module]))
        if module not in done:
            path.append(module)
            for target in sorted(edges[module]):
                visit(target)
            done.add(path.pop())

    for module in FILES:
        visit(module)


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, torch; before = set(sys.modules); import sparseconv; "
        f"print(*(m for m in {HEAVY} if m in set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [] and run.stderr == ""


def test_the_folder_of_data_is_no_package():
    assert not list((ROOT / "datasets").glob("*.py"))


@pytest.mark.parametrize("module", [m for m in MODULES if ">>>" in FILES[m].read_text()])
def test_docstring_examples(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed


def undocumented(node, name):
    """Yield the public names below a node that have no docstring."""
    if not ast.get_docstring(node):
        yield name
    for inner in node.body if isinstance(node, ast.Module | ast.ClassDef) else []:
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and not inner.name.startswith("_"):
            yield from undocumented(inner, f"{name}.{inner.name}")


def test_everything_public_says_what_it_is():
    silent = [n for m, path in FILES.items() for n in undocumented(ast.parse(path.read_text()), m)]
    assert not silent, "no docstring: " + ", ".join(silent)


def test_readme_snippets_run(tmp_path, monkeypatch):
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README here")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    assert snippets, "the README shows how the library is used"
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
