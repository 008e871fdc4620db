"""For mkdocs: links of docs/ that lead to other files of the repository work on the site as they do on GitHub.

What they lead to is brought along under repository/, and what is linked from there, too; the links are written anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent
HOME = "repository"  # of the site, where files lie that are not in docs/
LINK = re.compile(r"(?<!`)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds every file of the repository that a page links to, at any remove."""
    waiting = [file.src_uri for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for link, _ in LINK.findall((ROOT / _in_repository(page)).read_text(encoding="utf-8")):
            target = _site_place(_target(page, link))
            if target.startswith(f"{HOME}/") and files.get_file_from_path(target) is None:
                source = ROOT / target.removeprefix(f"{HOME}/")
                if not source.is_file():  # left as it is: mkdocs says which page has it
                    continue
                files.append(File.generated(config, target, abs_src_path=str(source)))
                waiting += [target] if source.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with its links as they are on the site."""
    here = page.file.src_uri

    def moved(match: re.Match[str]) -> str:
        place = _site_place(_target(here, match[1]))
        return f"]({os.path.relpath(place, PurePosixPath(here).parent)}{match[2] or ''})"

    return LINK.sub(moved, markdown)


def _in_repository(page: str) -> str:
    """Where a page of the site lies in the repository."""
    return page.removeprefix(f"{HOME}/") if page.startswith(f"{HOME}/") else f"docs/{page}"


def _target(page: str, link: str) -> str:
    """What a page's link leads to, in the repository."""
    return os.path.normpath(PurePosixPath(_in_repository(page)).parent / link)


def _site_place(path: str) -> str:
    """Where a file of the repository lies on the site."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{HOME}/{path}"
