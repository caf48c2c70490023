"""What a deployment may be called: its name is a folder's, a tag in a cloud, and part of what is made there."""

from __future__ import annotations

import re
from typing import Final

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
NAME_WORDS: Final = "1 to 63 lower-case letters, digits and inner hyphens"
