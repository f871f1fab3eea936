"""What pages load beside their HTML: a style, a script of our own, and Vega, which draws the charts.

Vega's JavaScript comes out of `vl-convert-python`, which takes seconds and memory to bundle it: that is done once, in a
process of its own, and kept in the user's cache folder.
"""

import importlib.metadata
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

from agentrft.errors import UserError
from agentrft.models.catalog import cache_folder
from agentrft.store.files import replace_file

STATIC = Path(__file__).parent / "static"
BUNDLE_S = 120
DRAWING_REMEDY = "Run `pip install --force-reinstall vl-convert-python`."
SAID = 300
MAKE = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"
_making = threading.Lock()


@cache
def text_of(name: str) -> str:
    """A file of ours."""
    return (STATIC / name).read_text(encoding="utf-8")


def vega() -> str:
    """The script that has `vegaEmbed`.

    Raises:
        UserError: it could not be made or kept.
    """
    try:
        path = cache_folder() / f"vega-{importlib.metadata.version('vl-convert-python')}.js"
        with _making:
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                made = subprocess.run([sys.executable, "-c", MAKE], check=True, timeout=BUNDLE_S, capture_output=True)
                replace_file(path, made.stdout)
        return path.read_text(encoding="utf-8")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError("charts need the package 'vl-convert-python'.", DRAWING_REMEDY) from error
    except OSError as error:
        raise UserError(
            f"the script that draws charts cannot be kept in {cache_folder()}: {error.strerror or error}.",
            "Set AGENTRFT_CACHE to a folder that can be written.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"the script that draws charts was not made within {BUNDLE_S} s.", "Try it again.") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        last = said[-1] if said else f"exit status {error.returncode}"
        raise UserError(f"the script that draws charts could not be made: {last[:SAID]}.", DRAWING_REMEDY) from error
