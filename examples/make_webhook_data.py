"""Makes examples/data/github-webhooks.jsonl: real GitHub webhook deliveries, one event a line.

The deliveries are those of the npm package @octokit/webhooks-examples (MIT), contributed by its users. One becomes

    {"name": "github/issues.opened", "data": {…the payload as GitHub sent it…}}

with the action after a dot where the payload has one. No ids: whoever sends the file gives fresh ones, so that every
sending starts new runs.

The rules: the file depends on the package's version alone, so running this again changes nothing; the order is the
package's, by event; repeated deliveries stay, as they do in life; deliveries that quote a signed download link or a
package registry's address are left out. Needs `npm` on the path:

    python examples/make_webhook_data.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from millstream.model.limits import EVENT_BYTES_MAX

PACKAGE: Final = "@octokit/webhooks-examples@7.6.1"
MEMBER: Final = "package/api.github.com/index.json"
TARGET: Final = Path(__file__).resolve().parent / "data" / "github-webhooks.jsonl"
FILE_BYTES_MAX: Final = 8 * 1024 * 1024
NPM_SECONDS_MAX: Final = 120

NAME: Final = re.compile(r"github/[a-z0-9_]+(?:\.[a-z0-9_-]+)?")
LEFT_OUT: Final = re.compile(r"X-Amz-Signature|pkg\.github\.com|ghcr\.io")


def main() -> int:
    """Writes the file and says what is in it; 1 where the package is not what was expected."""
    with tempfile.TemporaryDirectory() as folder:
        hooks = fetch(Path(folder))
    lines = list(event_lines(hooks))
    content = "".join(f"{line}\n" for line in lines).encode()
    if len(content) > FILE_BYTES_MAX:
        print(f"not written: expected at most {FILE_BYTES_MAX} bytes, got {len(content)}", file=sys.stderr)
        return 1
    TARGET.write_bytes(content)
    names = {json.loads(line)["name"] for line in lines}
    print(f"{TARGET.name}: {len(lines)} deliveries, {len(names)} event names, {len(content)} bytes")
    return 0


def fetch(folder: Path) -> list[dict[str, Any]]:
    """The package's list of webhooks, each with its ``examples``, by the ordinary npm client."""
    command = ["npm", "pack", PACKAGE, "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=NPM_SECONDS_MAX)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as files:
        member = files.extractfile(MEMBER)
        assert member is not None, f"{PACKAGE} has no file {MEMBER}"
        hooks: list[dict[str, Any]] = json.load(member)
    return hooks


def event_lines(hooks: list[dict[str, Any]]) -> Iterator[str]:
    """Every delivery as one line of compact JSON. Raises ValueError where one is not an event."""
    for hook in sorted(hooks, key=lambda hook: str(hook["name"])):
        for payload in hook["examples"]:
            line = json.dumps(event_of(hook["name"], payload), ensure_ascii=False, separators=(",", ":"))
            if len(line.encode()) > EVENT_BYTES_MAX:
                raise ValueError(f"{hook['name']}: expected at most {EVENT_BYTES_MAX} bytes, got {len(line.encode())}")
            if LEFT_OUT.search(line) is None:
                yield line


def event_of(hook: str, payload: Any) -> dict[str, Any]:
    """One delivery as an event. Raises ValueError where it is no object or its name would not be stable."""
    if not isinstance(payload, dict):
        raise ValueError(f"{hook}: expected an object as payload, got {type(payload).__name__}")
    action = payload.get("action")
    name = f"github/{hook}.{action}" if isinstance(action, str) else f"github/{hook}"
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{hook}: expected a name like github/issues.opened, got {name[:80]!r}")
    return {"name": name, "data": payload}


if __name__ == "__main__":
    sys.exit(main())
