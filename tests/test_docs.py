"""The documents: every link leads somewhere, every python block runs, every command line parses."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from streamer.cli import COMMANDS, FAMILIES, application
from tests.helpers.documents import Block, anchors, command_lines, documents, inline_commands, links, python_blocks
from tests.helpers.project import ROOT

DOCUMENTS = documents(ROOT)
FROM_ELSEWHERE = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//[^"]+"')  # what a page loads
NOT_RUN = re.compile(r"# needs \S")  # how a block begins that needs a server, a device, another program
BLOCKS = [(path, block) for path in DOCUMENTS for block in python_blocks(path.read_text(encoding="utf-8"))]
LINES = [(path, *line) for path in DOCUMENTS for line in command_lines(path.read_text(encoding="utf-8"))]
INLINE = sorted({one for path in DOCUMENTS for one in inline_commands(path.read_text(encoding="utf-8"))})


def at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def blocks(run: bool) -> list[object]:
    """Those that run here, or those that only compile."""
    return [
        pytest.param(block, id=at(path, block.line))
        for path, block in BLOCKS
        if (NOT_RUN.match(block.text) is None) == run
    ]


def name_of(words: list[str]) -> str | None:
    """The command of the table that a line calls."""
    return next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None)


def options_of(name: str) -> set[str]:
    """Names of a command's options. Skips where its extra is not installed."""
    try:
        import_module(COMMANDS[name].function.partition(":")[0])
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed (extra: {COMMANDS[name].extra})")
    command = application(name)
    for word in name.split():
        command = command[word]
    return {one for argument in command.assemble_argument_collection() for one in argument.names}


# -- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_an_anchor(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    astray = []
    for link in links(text):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        inside = target.is_relative_to(ROOT) and target.is_file()
        if not inside or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            astray.append(link)
    assert not astray


def test_every_page_can_be_reached_and_is_in_the_menu() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    menu = set(
        re.findall(r"^ +- (?!repository/)(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert menu == pages
    index = {link.partition("#")[0] for link in links((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))}
    assert pages - {"index.md"} <= index


def test_the_picture_of_the_readme_is_small() -> None:
    assert (ROOT / "docs" / "demo.svg").stat().st_size < 1e6


# -- code -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks(run=True))
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block by itself, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, f"<line {block.line}>", "exec"), {"__name__": "block"})


@pytest.mark.parametrize("block", blocks(run=False))
def test_python_that_needs_more_than_this_machine_compiles(block: Block) -> None:
    compile(block.text, f"<line {block.line}>", "exec")


@pytest.mark.parametrize("words", [pytest.param(words, id=at(path, line)) for path, line, words in LINES])
def test_a_command_line_parses(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / word for word in words if Path(word).suffix and not Path(word).is_absolute()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # some commands look whether a file is there
    name = name_of(words)
    if name is None:  # --help, or an option of hpstm itself
        assert words[0] == "--version" or words[-1] == "--help", f"no command {words}"
    else:
        options_of(name)
        application(None).parse_args(words)  # raises for what is unknown, missing or of another type


@pytest.mark.parametrize("line", INLINE)
def test_a_command_in_the_prose_exists_with_its_options(line: str) -> None:
    words = line.replace("...", "").split()
    name = name_of(words)
    if name is None:  # a family, all commands, or an option of hpstm itself
        assert words[0] in (*FAMILIES, "COMMAND", "--help", "--version", "--install-completion"), f"no command {line}"
    else:
        given = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert given <= options_of(name)


# -- the site ---------------------------------------------------------------------------------------------------------


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for name in ("mkdocs", "mkdocstrings_handlers"):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed (extra: docs)")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "repository" / "streamer" / "PROTOCOL.html").is_file()
    assert "PoseFilter" in (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")]
    assert not [found for text in texts for found in FROM_ELSEWHERE.findall(text)]


# -- what is checked with ---------------------------------------------------------------------------------------------

SAMPLE = """# A page

See [it](b.md#two-words) and `[not](a.md)`, with `hpstm serve --delay 1`.

## Two words!

## Two words!

    tracker | hpstm source stdin --layout x    # hpstm nothing
    hpstm evaluate DATA \\
        --json out.json && hpstm listen
    hpstm: a message, [no](link.md)

```python
[1](2)
```
"""


def test_links_anchors_and_commands_are_found_and_nothing_else() -> None:
    assert links(SAMPLE) == ["b.md#two-words"]
    assert anchors(SAMPLE) == {"a-page", "two-words", "two-words-1"}
    assert [words for _, words in command_lines(SAMPLE)] == [
        ["source", "stdin", "--layout", "x"], ["evaluate", "DATA", "--json", "out.json"], ["listen"]
    ]  # fmt: skip
    assert [line for line, _ in command_lines(SAMPLE)] == [9, 10, 10]
    assert inline_commands(SAMPLE) == ["serve --delay 1"]
    assert [block.line for block in python_blocks(SAMPLE)] == [15]
