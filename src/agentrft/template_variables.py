"""The variables that a chat template has beside the conversation itself, such as `enable_thinking`."""

import re

from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

# What transformers gives every template; no variable of these is a user's to set.
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}
_GIVEN |= {"raise_exception", "strftime_now", "tojson"}
# A block that only transformers' environment knows; it makes no difference to what is written.
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def template_variables(template: str) -> list[str]:
    """The names that `template` reads and that neither it nor a conversation gives, in order."""
    environment = ImmutableSandboxedEnvironment(extensions=[loopcontrols])
    try:
        tree = environment.parse(_GENERATION.sub("", template))
    except TemplateSyntaxError:
        return []
    # A name that is set in one place and read in another is the template's own; unless it asks whether it was given.
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"} - _asked_for(tree)
    found = meta.find_undeclared_variables(tree) - own - _GIVEN
    return sorted(name for name in found if not name.endswith("_token"))


def _asked_for(tree: nodes.Template) -> set[str]:
    """The names of which a template asks whether they are defined, or that it gives a default."""
    asked = [one.node for one in tree.find_all(nodes.Test) if one.name in ("defined", "undefined")]
    asked += [one.node for one in tree.find_all(nodes.Filter) if one.name in ("default", "d") and one.node]
    return {one.name for one in asked if isinstance(one, nodes.Name)}
