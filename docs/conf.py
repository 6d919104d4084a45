from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.util.nodes import nested_parse_with_titles

sys.path.insert(0, str(Path(__file__).parent.parent))

from docs import cli_reference, config_table, page_api
from txmicro._version import __version__

project = "txmicro"
author = "The txmicro contributors"
copyright = f"2026, {author}"
version = release = __version__
extensions = ["sphinx.ext.autodoc"]
html_theme = "alabaster"
html_theme_options = {"description": "Small workers on one message bus", "page_width": "70em"}
html_show_sourcelink = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True


class ConfigTable(Directive):
    def run(self) -> list[nodes.Node]:
        parent = nodes.Element()
        self.state.nested_parse(StringList(config_table.full().splitlines(), "txmicro.config"), 0, parent)
        return parent.children


class PageApi(Directive):
    def run(self) -> list[nodes.Node]:
        parent = nodes.Element()
        self.state.nested_parse(StringList(page_api.full().splitlines(), "txmicro.page.api"), 0, parent)
        return parent.children


class CommandLine(Directive):
    def run(self) -> list[nodes.Node]:
        parent = nodes.section()
        parent.document = self.state.document
        lines = StringList(cli_reference.full().splitlines(), "txmicro.cli")
        nested_parse_with_titles(self.state, lines, parent)
        return parent.children


def setup(app: Any) -> None:
    app.add_directive("command-line", CommandLine)
    app.add_directive("config-table", ConfigTable)
    app.add_directive("page-api", PageApi)
