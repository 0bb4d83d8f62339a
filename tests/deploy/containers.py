"""A container from an image's files: what an orchestrator gives a process, as far as Linux alone can give it.

    with Container(rootfs, config, tmp_path, network="none") as container:
        container.start(MILLSTREAM_EVENT_KEYS="…")
        container.execute("millstream", "runs", "list").stdout      as `docker exec`
        container.stop()                                            SIGTERM; the exit code

The process is number 1 of its own process, host name, mount and (unless it needs a broker) network namespaces: nobody
else's ports, and a loopback of its own. Its root is mounted read-only, `/tmp` is a tmpfs, `/data` a folder; it is the
image's user without any capability or a way to get one. Not checked, for only a real runtime has them: cgroups, seccomp
and AppArmor profiles, user namespaces, and a network to other containers.

Run as a script this file is what prepares the namespaces from inside, before it becomes the image's process.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

NAMESPACES = ("--mount", "--pid", "--ipc", "--uts")
WAIT_S = 60.0
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


class Container:
    """See the module. ``config`` is the image's: User, Env, Entrypoint, Cmd, WorkingDir.

    ``network`` "host": this machine's, as `docker run --network host`; "none": its own, with nobody else in it.
    """

    def __init__(self, rootfs: Path, config: dict[str, Any], folder: Path, network: Literal["none", "host"]) -> None:
        self.rootfs, self.config = rootfs, config
        self.data, self.log = folder / "data", folder / "log"
        self._namespaces = NAMESPACES if network == "host" else (*NAMESPACES, "--net")
        self._unshare: subprocess.Popen[bytes] | None = None
        self._environment: list[str] = []

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running():
            # Number 1, and with it all of its namespace. It would outlive unshare: --kill-child is a wish of a process
            # that has changed its user since, and the kernel forgets it then.
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.ended()

    def start(self, *command: str, **environment: str) -> None:
        """Start the image's entrypoint with ``command``, or with the image's own."""
        user = int(self.config["User"])
        self.data.mkdir(exist_ok=True)
        os.chown(self.data, user, user)
        variables = [f"{name}={value}" for name, value in environment.items()]
        self._environment = [*self.config["Env"], "HOME=/", *variables]
        line = [*self.config["Entrypoint"], *(command or self.config["Cmd"])]
        prepare = [sys.executable, __file__, str(self.rootfs), str(self.data), self.config["WorkingDir"]]
        with self.log.open("ab") as log:
            self._unshare = subprocess.Popen(
                ["unshare", *self._namespaces, "--fork", *prepare, *self._as_user(line)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """The number of its process outside."""
        assert self._unshare is not None
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        until = time.monotonic() + WAIT_S
        while not (found := children.read_text().split()):
            assert self._unshare.poll() is None and time.monotonic() < until, self.said()
            time.sleep(0.01)
        return int(found[0])

    def running(self) -> bool:
        """Whether its process has not ended."""
        return self._unshare is not None and self._unshare.poll() is None

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the image's user and in the working directory of its process."""
        enter = ["nsenter", "--target", str(self.pid), *self._namespaces, "--root", "--wd"]
        return subprocess.run([*enter, *self._as_user(command)], capture_output=True, text=True, check=False)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        assert self._unshare is not None
        return self._unshare.wait(WAIT_S)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.ended()

    def said(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-6_000:]

    def _as_user(self, command: list[str] | tuple[str, ...]) -> list[str]:
        user = self.config["User"]
        rights = [f"--reuid={user}", f"--regid={user}", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
        return ["/usr/bin/setpriv", *rights, "/usr/bin/env", "--ignore-environment", *self._environment, *command]


def become(rootfs: str, data: str, directory: str, command: list[str]) -> None:
    """Mount, take the loopback up (this machine's is), change the root, and be the command."""

    def mount(*arguments: str) -> None:
        subprocess.run(["mount", *arguments], check=True)

    mount("--bind", rootfs, rootfs)
    mount("--options", "remount,bind,ro", rootfs)
    mount("--types", "tmpfs", "--options", "mode=1777,nosuid,nodev", "tmpfs", f"{rootfs}/tmp")
    mount("--bind", data, f"{rootfs}/data")
    mount("--types", "proc", "proc", f"{rootfs}/proc")
    mount("--rbind", "/dev", f"{rootfs}/dev")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    os.chroot(rootfs)
    os.chdir(directory)
    os.execv(command[0], command)


if __name__ == "__main__":
    become(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
