"""The page and the Markdown as they are written, with their drawings."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sweeping import write_sweep

from dit_exp.report.contents import contents
from dit_exp.report.page import Report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of cond by attn over three seeds: token is 6 lower than adaln, gqa 1 higher than mha."""

    def score(settings: dict[str, str]) -> dict[str, float]:
        fid = 40 - 6 * (settings["cond"] == "token") + (settings["attn"] == "gqa") + int(settings["seed"])
        return {"fid": fid, "recall": 0.5 + fid / 1000}

    axes = {"cond": ["adaln", "token"], "attn": ["mha", "gqa"], "seed": ["0", "1", "2"]}
    return contents(write_sweep(tmp_path_factory.mktemp("sweep"), axes, score))


class Links(HTMLParser):
    """Everything that a browser would fetch, and the names in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.names: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names += [value for name, value in attrs if name == "id"]
        self.fetched += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]


def test_the_page_is_one_file(report: Report):
    html = report.html()
    page = Links()
    page.feed(html)
    assert {link[:22] for link in page.fetched if not link.startswith("#")} == {"data:image/png;base64,"}
    assert {link[1:] for link in page.fetched if link.startswith("#")} <= set(page.names)
    assert len(page.names) == len(set(page.names)), "two drawings share a name"
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "http" not in html
    assert not re.search(r"url\((?!#)|@import", html)
    assert page.tags.count("svg") == 6
    assert page.tags.count("img") == 4


def test_the_markdown_holds_the_same_with_its_pictures_beside_it(report: Report, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "samples_9.png").write_bytes(b"of a setting that is no more")
    paths = report.write(tmp_path / "out")
    assert set(paths) == set((tmp_path / "out").iterdir())
    text = (tmp_path / "out" / "report.md").read_text()
    linked = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert {path.name for path in paths} == {*linked, "index.html", "report.md"}
    assert text.startswith(f"# Sweep conditioning\n\n**{report.verdict}**\n")
    assert "| cond=token attn=mha | 3 | 35.0 [32.5, 37.5] | 0.5350 [0.5325, 0.5375] |" in text
    assert "| token | 35.5<br>-6 [-6, -6] |" in text
    assert "- command: `python run.py +sweep=conditioning`" in text
