"""Show tables that are written for GitHub as GitHub shows them."""

from __future__ import annotations

import re

CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")


def shown(markdown: str) -> str:
    r"""Return a page with a pipe for `\|` in the code of its tables: the site would show the backslash."""
    lines = markdown.split("\n")
    return "\n".join(CODE.sub(_piped, line) if line.startswith("|") else line for line in lines)


def _piped(code: re.Match[str]) -> str:
    return code[0].replace("\\|", "|")
