"""`hpstm bench all`: the documents say what the kept results say, and nothing that was written by hand."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("psutil", reason="psutil is not installed (extra: bench)")

from bench.documents import blocks, figures, markers, results, speed_text
from bench.documents.blocks import BLOCKS, BY_NAME, DOCUMENTS
from bench.documents.command import write_documents
from bench.documents.figures import FIGURES
from bench.documents.parts import NAMES, PARTS
from bench.documents.results import Stored
from bench.documents.running import Workplace, without_weights
from streamer.cli import application, main
from streamer.errors import ConfigError
from tests.helpers.documents import documents
from tests.helpers.project import ROOT

STORED = results.read_all(ROOT, NAMES)
WEIGHTS = results.present_weights(ROOT)
ANEW = "hpstm bench all --render"


def text_of(document: str, root: Path = ROOT) -> str:
    return (root / document).read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout with all that is written, and what it is written from."""
    root = tmp_path / "checkout"
    for document in (*DOCUMENTS, "model/weights/SHA256SUMS"):
        (root / document).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / document, root / document)
    shutil.copytree(ROOT / "bench" / "results", root / "bench" / "results", ignore=shutil.ignore_patterns("*.png"))
    return root


def edited(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text(encoding="utf-8")
    assert change(before) != before
    path.write_text(change(before), encoding="utf-8")


# -- what is in the repository ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_is_what_would_be_written(document: str) -> None:
    assert text_of(document) == blocks.written(ROOT, document, STORED, WEIGHTS), ANEW


def test_every_place_stands_once_and_every_figure_somewhere() -> None:
    assert not blocks.missing_places(ROOT)
    found = {place.name for document in DOCUMENTS for place in markers.places(text_of(document), document)}
    assert found == {*BY_NAME, *FIGURES}


def test_no_other_document_has_places() -> None:
    others = [path for path in documents(ROOT) if path.relative_to(ROOT).as_posix() not in DOCUMENTS]
    assert not [path for path in others if markers.places(path.read_text(encoding="utf-8"), str(path))]


def test_every_part_is_shown() -> None:
    """In a place, as a figure, or it writes a file of the checkout itself."""
    shown = {part for block in BLOCKS for part in (*block.parts, *block.more)}
    shown |= {figure.part for figure in FIGURES.values()}
    writes = {part.name for part in PARTS if re.search(r"(docs|bench/results)/", part.words)}
    assert shown <= set(NAMES) <= shown | writes


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_place_holds_whole_tables_and_says_where_it_is_from(block: blocks.Block) -> None:
    """A row has as many cells as its head; the last line names machine and date, or the first that there are none."""
    (place,) = [place for place in markers.places(text_of(block.document)) if place.name == block.name]
    tables = re.findall(r"(?:^\|.*\|$\n?)+", place.text, re.MULTILINE)
    for table in tables:
        head, ruler, *rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.splitlines()]
        assert all(re.fullmatch(r":?-{2,}:?", cell.strip()) for cell in ruler), table
        assert rows
        assert {len(row) for row in rows} == {len(head)} == {len(ruler)}, table
    if all(part in STORED for part in block.parts):
        last = place.text.strip().splitlines()[-1]
        assert re.search(r"\d cores?, .*\d{4}-\d\d-\d\d, weights [0-9a-f]{12}; load \d", last), last
    else:
        assert place.text.strip().startswith(f"**Not measured with these weights** ({WEIGHTS[:12]})")


def test_what_stood_in_a_place_before_is_kept_no_longer_than_needed() -> None:
    kept = {path.stem for path in (ROOT / "bench" / "results" / results.EARLIER).glob("*.md")}
    assert kept <= {block.name for block in BLOCKS if not all(part in STORED for part in block.parts)}, ANEW
    assert not {name for name in figures.before(ROOT) if FIGURES[name].part in STORED}, ANEW


@pytest.mark.parametrize("trial", [False, True], ids=["whole", "trial"])
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_is_a_command_that_can_be_called(part: object, trial: bool, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("rendered/1_002_1.npz", "rendered/2_016_1.npz", "aistpp/gJS_sFM_1.npz", "clips.csv"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    place = Workplace(ROOT, tmp_path, data)
    place.packed.mkdir()
    for split in ("train", "test", "unseen"):
        (place.packed / f"{split}.npz").touch()
    (part,) = [one for one in PARTS if one is part]
    more = ["--json", "x.json"] * part.json + ["--plots", "x"] * bool(part.pictures)
    application(None).parse_args([*place.words(part.command(trial)), *more])  # raises for what is unknown or missing


def test_kept_results_are_small() -> None:
    """They are of the repository: curves and single takes stay outside."""
    assert sum(path.stat().st_size for path in (ROOT / "bench" / "results").glob("*.json")) < 1.5e6


# -- what the checks notice -------------------------------------------------------------------------------------------


def test_a_number_that_was_written_by_hand_is_noticed_and_put_right(copy: Path) -> None:
    edited(copy / "docs" / "limits.md", lambda text: re.sub(r"\d+ of \d+ targets held", "99 of 99 targets held", text))
    assert write_documents(copy) == [copy / "docs" / "limits.md"]
    assert text_of("docs/limits.md", copy) == text_of("docs/limits.md")
    edited(copy / "README.md", lambda text: re.sub(r"\*\*[\d.]+\*\*", "**7.7**", text))
    assert main(["bench", "all", "--render", "--root", str(copy)]) == 0
    assert text_of("README.md", copy) == text_of("README.md")
    assert write_documents(copy) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("bench: unseen", "bench: unsene"), "docs/accuracy.md:.* no place 'unsene'"),
        (lambda text: text.replace("<!-- bench: unseen -->", ""), r"docs/accuracy.md:\d+: <!-- /bench --> ends what"),
        (lambda text: text.replace("<!-- /bench -->\n\n## At", "\n\n## At"), r"<!-- bench: delays --> within"),
        (lambda text: re.sub(r"<!-- bench: unseen -->.*?<!-- /bench -->", "", text, flags=re.DOTALL), "unseen in docs"),
        (lambda text: text.replace("bench: unseen", "bench: headline"), "no place 'headline' in this document|unseen"),
    ],
    ids=["unknown", "no beginning", "no end", "taken away", "of another document"],
)
def test_a_marker_that_is_wrong_is_named(copy: Path, change: Callable[[str], str], said: str) -> None:
    edited(copy / "docs" / "accuracy.md", change)
    with pytest.raises(ConfigError, match=said):
        write_documents(copy)


def test_other_weights_make_all_results_visibly_old(copy: Path) -> None:
    edited(copy / "model" / "weights" / "SHA256SUMS", lambda text: text.replace(WEIGHTS, "0" * 64))
    write_documents(copy)
    for block in BLOCKS:
        (place,) = [place for place in markers.places(text_of(block.document, copy)) if place.name == block.name]
        assert "**Not measured with these weights** (000000000000)" in place.text


def test_a_result_that_is_not_whole_or_not_ours_is_named(copy: Path) -> None:
    path = copy / "bench" / "results" / "pairs.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept["result"]["rows"] = [row for row in kept["result"]["rows"] if row["source"] != "aistpp"]
    path.write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the results of pairs.* lack .*; measure them again: hpstm bench all"):
        write_documents(copy)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"pairs\.json: not what `hpstm bench all` writes"):
        write_documents(copy)


def test_what_is_not_measured_is_said_and_asks_for_its_command(copy: Path) -> None:
    (copy / "bench" / "results" / "targets.json").unlink()
    with pytest.raises(ConfigError, match=r"figure [\w-]+: measure it with `hpstm bench all --only targets`"):
        write_documents(copy)
    assert "--only targets`." in BY_NAME["targets"].text(copy, {}, WEIGHTS)


# -- the command ------------------------------------------------------------------------------------------------------


def test_a_part_is_measured_kept_and_written_into_place(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """Real processes: two parts, one of which cannot be measured; then again, where nothing is left to do."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for part in ("streams", "rates"):  # as if they had never been measured
        (copy / "bench" / "results" / f"{part}.json").unlink(missing_ok=True)
    words = ["bench", "all", "--trial", "--only", "streams", "--only", "rates", "--root", str(copy)]
    words += ["--work", str(tmp_path / "work")]
    monkeypatch.setattr("bench.documents.command.find_data", lambda: None)
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "rates: no result: packed/test.npz: no folder of motion; give DATA" in said
    assert "again with --only rates" in said
    (place,) = [place for place in markers.places(text_of("docs/limits.md", copy)) if place.name == "streams"]
    assert "    hpstm bench streams --markdown bench/results/streams.md --small --case clean lone-ahead" in place.text
    assert "bars of 3 cases are held." in place.text
    assert "# Streams" in text_of("bench/results/streams.md", copy)
    assert not (copy / "bench" / "results" / results.EARLIER / "streams.md").exists()
    kept = results.read_all(copy, NAMES)["streams"]
    assert kept.weights == WEIGHTS
    assert kept.took_s > 0

    assert main([*words, "--skip-done"]) == 1
    assert "streams: done" in capsys.readouterr().out
    assert main(["bench", "all", "--list", "--root", str(copy)]) == 0
    listed = capsys.readouterr().out
    assert f"streams: 2.5 min; {kept.measured.date().isoformat()}" in listed
    assert "rates: 0.3 min; not measured" in listed


def test_where_it_may_not_write_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "all", "--trial"]) == 2
    assert "give --root, a copy of the checkout" in capsys.readouterr().err
    assert main(["bench", "all", "--root", str(tmp_path)]) == 2
    assert "no docs/ there" in capsys.readouterr().err
    assert main(["bench", "all", "--only", "latenzy"]) == 2


def test_peers_without_weights_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "bench" / "weights").mkdir(parents=True)
    (tmp_path / "bench" / "weights" / "smoothnet.safetensors").touch()
    command, left_out = without_weights('hpstm evaluate --methods SmoothNet "offline model" twin --clips 0', tmp_path)
    assert shlex.split(command)[1:] == ["evaluate", "--methods", "SmoothNet", "--clips", "0"]
    assert left_out == {name: f"no weights (bench/weights/{name.split()[0]}.safetensors)"
                        for name in ("offline model", "twin")}  # fmt: skip
    command, left_out = without_weights("hpstm bench ablation --teacher bench/weights/twin.safetensors", tmp_path)
    assert (command, list(left_out)) == ("hpstm bench ablation", ["twin"])


SMALL = {  # the benches' own results, in next to no time: what they write is what the places read
    "latency": "bench latency --runtimes native --actors 1 --steps 20 --offline-steps 0",
    "crowds": "bench throughput --no-server --rates 120 --seconds .05 --limit 2",
    "soak": "bench soak --hours .003",
    "velocity": "bench velocity synthetic --clips 1 --seconds 4 --rate 60 --noise white10 --delay 0 --predict .05",
    "feet": "bench feet synthetic --clips 1 --seconds 6 --noise white10",
    "accuracy": "evaluate synthetic --clips 1 --seconds 6 --noise realistic white10 clean --delay 0 0.1 --methods "
    'input One-Euro Kalman Holt Savitzky-Golay "HPSTM Live"',
}
SHOWN = {
    "latency": r"\| native \| `PoseFilter.push`, one actor \| \d+ \|.*The offline model was left out: not asked for",
    "crowds": r"\| in process \| 1 \| 120 \| \*\*[012]\+?\*\*",
    "soak": r"0.00\d+ h at 120 Hz in .* pushes, \d+ µs of processor time each",
    "velocity": r"\(mean speed \d.\d\d m/s\) \| 60 Hz: velocity .*\| white10, now \| .*\| white10, \+50 ms",
    "feet": r"\| white10 \| off \| .*\| white10 \| on \|",
    "accuracy": r"\| realistic \| now \| .*not measured.*\| white10 \| -100 ms \| .*\| clean \| now \| 0.0 / 0.0 ",
}


@pytest.mark.parametrize("part", SMALL)
def test_a_place_reads_what_its_bench_writes(part: str, tmp_path: Path) -> None:
    assert main([*shlex.split(SMALL[part]), "--json", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    one = Stored(part, f"hpstm {SMALL[part]}", WEIGHTS, 1.0, {}, result)
    path = results.write(tmp_path, one)
    assert path.stat().st_size < 60_000
    stored = {name: kept for name, kept in STORED.items() if name != "peers"}  # of other clips, or of none
    stored |= results.read_all(tmp_path, (part,))
    stored |= {"crowds-one": stored.get("crowds", one)}
    text = next(block for block in BLOCKS if part in block.parts and block.name != "headline").text(
        tmp_path, stored, WEIGHTS
    )
    assert re.search(SHOWN[part], text, re.DOTALL), text
    present = {name for name, kept in stored.items() if kept.weights == WEIGHTS}
    for block in (block for block in BLOCKS if set(block.parts) <= present):
        assert f"weights {WEIGHTS[:12]}; load" in block.text(tmp_path, stored, WEIGHTS)


# -- arithmetic and reading -------------------------------------------------------------------------------------------


def test_places_and_figures_are_found_and_filled() -> None:
    text = "a\n<!-- bench: one -->\nold\n<!-- /bench -->\nb <!-- bench: two -->3<!-- /bench --> `<!-- bench: x -->` c\n"
    first, second = markers.places(text)
    assert (first.name, first.line, first.is_block, second.name, second.is_block) == ("one", 2, True, "two", False)
    said = markers.filled(text, {"one": "new\n", "two": "4"}.__getitem__)
    assert said == text.replace("\nold\n", "\n\nnew\n\n").replace("3", "4")
    assert markers.filled(said, {"one": "new\n", "two": "4"}.__getitem__) == said


def test_results_lose_curves_and_digits_and_nothing_else() -> None:
    result = {"rows": [{"mm": 1.23456789, "curve_ms": [1.0], "takes": {"a": 1}, "n": 3, "none": None, "name": "x"}]}
    assert results.compact(result) == {"rows": [{"mm": 1.23457, "n": 3, "none": None, "name": "x"}]}


def test_two_servers_of_which_one_may_die_carry_what_one_does() -> None:
    """And of many, shares of a binomial: counted by hand for three, where half of 801 is 400.5, sigma 14.2."""
    assert speed_text.with_servers(429, 2) == 429
    assert speed_text.with_servers(429, 3) == 801
    assert speed_text.with_servers(0, 4) == 0


def test_results_of_several_machines_are_all_named() -> None:
    one = STORED["pairs"]
    here = one.result["machine"]
    other = replace(one, result={**one.result, "machine": {**here, "cpu": "Other", "load_1min": one.load + 3.0}})
    said = results.about([one, other])
    assert said.count("weights") == 2
    assert "Other" in said
    assert said.endswith(f"load {one.load:.1f} to {one.load + 3.0:.1f}")
    assert results.about([one, one]).count("weights") == 1


def test_a_figure_reads_what_its_table_shows() -> None:
    stored: dict[str, Stored] = STORED
    assert figures.text(ROOT, "clean-source", stored) in BY_NAME["targets"].text(ROOT, stored, WEIGHTS)
    assert figures.text(ROOT, "aistpp-worse-now", stored) in BY_NAME["pairs"].text(ROOT, stored, WEIGHTS)
