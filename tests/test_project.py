"""The house rules that a machine can check: who imports whom, what the base install pulls in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.project import ROOT, project

PACKAGES = ("streamer", "model", "bench")

# One arrow, bench -> streamer -> the torch-free half of model; never back.
TORCH_FREE = {
    f"model.{name}"
    for name in ("skeleton", "contract", "kinematics", "landmarks", "layouts", "prepare", "motion.synthetic")
}
TORCH_RUNTIMES = {ROOT / "streamer" / "runtimes" / f"{name}.py" for name in ("torch_reference", "torch_cuda")}


# Every module lies in one of these rooms; at the top of a package only what is named.
ROOMS = {
    "model": "files files/writers motion network noise peers training",
    "streamer": "adapt archive commands runtimes runtimes/native server sinks sources triton view wire",
    "bench": "accuracy demo documents latency service streams",
    "tests": "bench helpers model streamer",
}
AT_THE_TOP = {
    "model": (
        "calibration contract corruption evaluate export kinematics known_layouts landmarks layouts prepare rotations "
        "run_log skeleton"
    ),
    "streamer": (
        "__main__ actors batches carried carriers cli client clock doubt errors evidence filter foot_lock frames heels "
        "held_point intake legs orientation poses profiles quaternions sight skeletons source_joints standing "
        "time_shift tracks velocities vetting warnings watch"
    ),
    "bench": "drive layouts noise options pictures report scores track",
    "tests": "conftest test_docs test_project test_release",
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Full dotted names that a file imports, `from a import b` as a.b and a; TYPE_CHECKING blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module_of(name: str) -> str:
    """The module that a full dotted name lies in: itself, or without its last part."""
    is_module = any((ROOT / name.replace(".", "/")).with_suffix(end).exists() for end in ("", ".py"))
    return name if is_module else name.rpartition(".")[0]


def heads(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def in_fresh_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("package", ROOMS)
def test_every_module_lies_in_one_room(package: str) -> None:
    rooms = {ROOT / package / room for room in ROOMS[package].split()}
    top = {ROOT / package / f"{name}.py" for name in ["__init__", *AT_THE_TOP[package].split()]}
    astray = [path for path in modules(package) if path.parent not in rooms and path not in top]
    assert not astray, "put it into a room, or name it here"
    assert not [path for path in top | {room / "__init__.py" for room in rooms} if not path.is_file()]


def test_what_tests_share_lies_in_helpers() -> None:
    """No test file is another's library."""
    shared = {path: {n for n in imports_of(path) if n.startswith("tests.")} for path in modules("tests")}
    assert not {path.name: names for path, names in shared.items() if not all("helpers" in n for n in names)}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Inside functions, too: a circle that is hidden there is still one."""
    paths = {dotted(path): path for package in PACKAGES for path in modules(package)}
    reaches = {name: {module_of(n) for n in imports_of(path)} & set(paths) - {name} for name, path in paths.items()}
    while leaves := {name for name, others in reaches.items() if not others}:  # what is left in the end is circles
        reaches = {name: others - leaves for name, others in reaches.items() if name not in leaves}
    assert not reaches


@pytest.mark.parametrize("path", modules("model"), ids=lambda p: p.stem)
def test_model_imports_neither_streamer_nor_bench(path: Path) -> None:
    assert not heads(imports_of(path)) & {"streamer", "bench", "zmq", "socket", "threading", "asyncio"}


@pytest.mark.parametrize("path", [p for p in modules("streamer") if p not in TORCH_RUNTIMES], ids=lambda p: p.stem)
def test_streamer_imports_only_the_torch_free_half_of_model(path: Path) -> None:
    names = imports_of(path)
    reached = {module_of(name) for name in names if name.startswith("model.")}
    assert reached <= TORCH_FREE
    assert not heads(names) & {"bench", "torch"}


def test_the_torch_free_half_of_model_is_torch_free() -> None:
    names = sorted(TORCH_FREE)
    code = f"import sys, {', '.join(names)}; print('torch' in sys.modules)"
    assert in_fresh_interpreter(code) == "False"


def test_importing_streamer_leaves_torch_unimported() -> None:
    heavy = "{'torch', 'scipy', 'matplotlib', 'roma', 'onnx', 'onnxscript'}"
    code = f"import sys, streamer, streamer.cli, streamer.server.server; print(sorted({heavy} & set(sys.modules)))"
    assert in_fresh_interpreter(code) == "[]"


def test_demo_runs_on_the_base_and_bench_extras_alone() -> None:
    """`make demo` installs neither torch nor scipy: a module it needs must not import them."""
    code = (
        "import sys\n"
        "for name in ('torch', 'scipy', 'roma', 'safetensors', 'onnx', 'onnxscript'): sys.modules[name] = None\n"
        "import bench.demo.demo, bench.latency.latency, model.motion.synthetic, streamer.server.server, streamer.cli\n"
        "print('ok')"
    )
    assert in_fresh_interpreter(code) == "ok"


@pytest.mark.parametrize("name", ["model.corruption", "model.run_log"])
def test_what_the_readme_of_0_1_named_still_runs(name: str, tmp_path: Path) -> None:
    words = [str(tmp_path)] if name.endswith("run_log") else []
    (tmp_path / "log.jsonl").write_text('{"plan": {"minutes": 1.0}}\n')
    done = subprocess.run([sys.executable, "-m", name, *words], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_no_pickle_anywhere() -> None:
    for package in PACKAGES:
        for path in modules(package):
            assert not heads(imports_of(path)) & {"pickle", "cPickle", "dill", "joblib", "msgpack_numpy"}, path


def test_the_base_install_has_no_training_library() -> None:
    base = " ".join(str(project()["dependencies"]).split())
    for name in ("torch", "scipy", "matplotlib", "onnxscript"):
        assert name not in base


ONE_OF_TWO_FILES = """
import os, pathlib, pytest

@pytest.fixture
def exported(): pass

@pytest.mark.parametrize("n", range(6))
def test_own(n): pathlib.Path(f"own {__name__} {os.environ['PYTEST_XDIST_WORKER']}").touch()

@pytest.mark.parametrize("n", range(6))
def test_shared(n, exported): pathlib.Path(f"shared {os.environ['PYTEST_XDIST_WORKER']}").touch()
"""


def test_side_by_side_files_stay_whole_and_what_takes_long_is_made_once(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed (extra: dev)")
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text(ONE_OF_TWO_FILES)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--numprocesses", "2", "--dist", "loadgroup"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert "24 passed" in done.stdout, done.stdout + done.stderr
    workers = sorted(path.name.rpartition(" ")[0] for path in tmp_path.iterdir() if " gw" in path.name)
    assert workers == ["own test_a", "own test_b", "shared"], (
        "one worker each; of pytest-xdist 3.8 only with pytest < 9.2"
    )


def test_the_command_line_starts_and_names_its_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "--help"], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for command in ("demo", "serve", "replay", "record", "listen", "doctor", "bench"):
        assert command in done.stdout
