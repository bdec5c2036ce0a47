"""Files of other people's servers, on their way to our disk: whole, unchanged, and without being a nuisance.

The first step of a fact: before a line can be read, its dump must be here. `manners` says who asks, how we wait and
where we let ourselves be sent; `validators` reads what a server says about a file; `partial` is the file while it
grows; `exchange` asks one server once; `download` insists, and goes from the file's own host to its mirrors; `shown`
is a config without credentials.

What strangers name, such as pictures, is asked in another way, and never believed: `addresses` says what may be asked,
`pinned` connects to what was checked, `bounded` takes one answer within limits.
"""

from mmkg.web.bounded import STATUSES, Answer, BoundedClient, Limits, Skip, kind_of
from mmkg.web.download import Download, Outcome, download, is_intact
from mmkg.web.exchange import Progress
from mmkg.web.manners import Unreachable, shown_url, user_agent
from mmkg.web.partial import Record, read_record
from mmkg.web.shown import shown_config
from mmkg.web.validators import Checksum, parse_checksum_file

__all__ = [
    "STATUSES",
    "Answer",
    "BoundedClient",
    "Checksum",
    "Download",
    "Limits",
    "Outcome",
    "Progress",
    "Record",
    "Skip",
    "Unreachable",
    "download",
    "is_intact",
    "kind_of",
    "parse_checksum_file",
    "read_record",
    "shown_config",
    "shown_url",
    "user_agent",
]
