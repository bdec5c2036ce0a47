"""Which licences permit training, by what they are called: "CC BY-SA 4.0", "Public domain", "fair use".

Names come from Wikimedia's `LicenseShortName`, from mapping files and from the config, so one licence is spelt in many
ways; links to creativecommons.org are names as well.
"""

import re

_NOT_A_WORD = re.compile(r"[^a-z0-9+]+")
_ALTERNATIVES = re.compile(r"[;|]|\bor\b")

# Any of these, whatever else is said.
_FORBIDDING = re.compile(
    r"\b(nc|nd|non ?commercial|no ?deriv\w*|fair use|fair dealing|non ?free|all rights reserved|rights reserved"
    r"|research (use )?only|(academic|educational|editorial|personal|private|evaluation) use|research use"
    r"|noai|no ai|no tdm|unfree|proprietary|with permission)\b"
)
_PERMITTING = re.compile(
    r"\b(public ?domain|pd|cc ?0|cc zero|publicdomain zero|no (known )?(copyright )?restrictions|copyrighted free use"
    r"|cc by|creative commons attribution|licenses by|cc sa|licenses sa"
    r"|gfdl|gnu free documentation|free art li[cs]en[cs]e|fal|open government li[cs]en[cs]e|ogl|godl|kogl type 1"
    r"|etalab"
    r"|attribution|mit|apache|bsd|isc|[al]?gpl(v?\d\+?)?|mpl|odbl|odc by|pddl|unlicense|wtfpl|beerware|ofl)\b"
)


def permits_training(licence: str | None) -> bool | None:
    """Whether a licence lets a model be trained on the picture and the model be passed on.

    This is our reading of licences by their names, and no legal advice. What forbids commercial use or derivatives, or
    claims no more than fair use, does not permit it; free licences do, and ask for the author's name, which travels
    with the picture. Of alternatives ("GFDL or CC BY-NC 2.0") one is enough.

    Args:
        licence: the name, or a link to it; None and "" where nothing was said.

    Returns:
        None where the name says nothing that we know.

    >>> permits_training("CC BY-SA 4.0"), permits_training("CC BY-NC 2.0"), permits_training("see file page")
    (True, False, None)
    """
    if not licence:
        return None
    readings = [_read(alternative) for alternative in _ALTERNATIVES.split(licence.casefold())]
    if any(readings):
        return True
    return False if False in readings else None


def _read(name: str) -> bool | None:
    plain = _NOT_A_WORD.sub(" ", name).strip()
    if _FORBIDDING.search(plain):
        return False
    return True if _PERMITTING.search(plain) else None
