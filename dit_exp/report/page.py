"""The report as it is written: one HTML page that needs nothing else, and Markdown beside its pictures."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """The first column names the row; `text` says that the others hold words, not figures."""

    header: list[str]
    rows: list[list[str]]
    title: str = ""
    text: bool = False


@dataclass(frozen=True)
class Picture:
    """`name` is its file's, without .png; `svg` is shown on the page where there is one."""

    name: str
    caption: str
    png: bytes
    svg: str = ""

    @property
    def data(self) -> str:
        """The picture as a URI, so that the page is one file."""
        return f"data:image/png;base64,{b64encode(self.png).decode()}"


@dataclass
class Section:
    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    wide: bool = False  # its pictures are pixel grids, which need more room than plots


@dataclass
class Report:
    """`facts` are what the sweep was: its command, commit, cells."""

    title: str
    verdict: str
    facts: list[tuple[str, str]]
    sections: list[Section]

    def write(self, folder: Path) -> list[Path]:
        """Writes index.html, report.md and the pictures; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.png"):
            path.unlink()  # of an earlier report, whose settings may have been others
        files = [
            (folder / "index.html", self.html().encode()),
            (folder / "report.md", self.markdown().encode()),
        ]
        files += [(folder / f"{p.name}.png", p.png) for p in self._pictures()]
        for path, content in files:
            path.write_bytes(content)
        return [path for path, _ in files]

    def html(self) -> str:
        return self._rendered("page.html.j2", escape=True)

    def markdown(self) -> str:
        return self._rendered("page.md.j2", escape=False)

    def _pictures(self) -> Iterator[Picture]:
        for section in self.sections:
            yield from section.pictures

    def _rendered(self, template: str, escape: bool) -> str:
        from jinja2 import Environment, FileSystemLoader

        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=escape,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["cell"] = lambda text: text.replace("|", "\\|").replace("\n", "<br>")
        environment.filters["breaking"] = _breaking
        return environment.get_template(template).render(report=self)


def _breaking(text: str) -> str:
    """HTML of a name that may go on in the next line after each underscore and dot."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<=[a-z0-9])([_.])(?=[a-z])", r"\1<wbr>", str(escape(text))))
