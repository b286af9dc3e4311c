"""Self-contained HTML pages: no script, nothing loaded from anywhere, every name escaped, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecnn.errors import MissingDependencyError
from edgecnn.files import MADE_HERE


def require_jinja2() -> None:
    """Raise MissingDependencyError unless Jinja2 is installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("Jinja2 is not installed. Install it with: pip install 'edgecnn[export]'") from error


def render(template: Path, **values: Any) -> str:
    """Return a template of Jinja2 filled with `values`; it may include what lies beside it, and `base.css`.

    It says at its end that it was made here: `check_replaceable` looks for that.
    """
    require_jinja2()
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return f"{environment.get_template(template.name).render(**values).rstrip()}\n<!-- {MADE_HERE} -->\n"
