"""A real Chromium for tests, driven by Selenium, with nothing of a person's own browser in it.

    with chromium() as browser: browser.get(url)
    python tests/browser.py      installs it where it is missing, and prints where it is

A Chromium, or a Chrome, with its driver on the PATH is used. Else both are installed once from Debian's packages, which
fit each other. Where that cannot be, the tests are skipped with the reason; in CI that is a failure.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

BROWSERS: Final = ("chromium", "google-chrome", "google-chrome-stable", "chrome")
DRIVER: Final = "chromedriver"
PACKAGES: Final = ("chromium", "chromium-driver", "fonts-dejavu-core")
INSTALL_S: Final = 900.0
PATIENCE_S: Final = 120.0
FLAGS: Final = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # Containers have a small one.
    "--no-first-run",
    "--window-size=1280,900",
)


class Missing(Exception):
    """There is no browser and none can be installed; the message says what to do."""


@contextlib.contextmanager
def chromium() -> Iterator[Chrome]:
    """A browser with an empty profile; ended with all its processes."""
    try:
        browser, driver = programs()
    except Missing as missing:
        _cannot(str(missing))
    with tempfile.TemporaryDirectory(prefix="millstream-browser-", ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, f"--user-data-dir={profile}", *(("--no-sandbox",) if os.geteuid() == 0 else ())):
            options.add_argument(flag)
        window = Chrome(options, ChromeService(driver))
        try:
            window.set_page_load_timeout(PATIENCE_S)
            window.set_script_timeout(PATIENCE_S)
            yield window
        finally:
            window.quit()


def programs() -> tuple[str, str]:
    """The paths of a browser and its driver; installs both where they are missing. Raises Missing."""
    if found := _found():
        return found
    if shutil.which("apt-get") is None:
        raise Missing(
            f"no Chromium with a {DRIVER} on the PATH, and no apt-get to install them by: put both on the PATH"
        )
    with (Path(tempfile.gettempdir()) / "millstream-browser.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # One process at a time installs; the next finds them.
        if not _found():
            _install()
    if found := _found():
        return found
    raise Missing(f"{', '.join(PACKAGES)} are installed, and no {DRIVER} is on the PATH: {os.environ.get('PATH')}")


def _found() -> tuple[str, str] | None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which(DRIVER)
    return (browser, driver) if browser and driver else None


def _install() -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    if sudo and shutil.which("sudo") is None:
        raise Missing(
            f"no Chromium on the PATH, and no right to install it. As root: apt-get install {' '.join(PACKAGES)}"
        )
    print(f"installing {', '.join(PACKAGES)} by apt-get, once", file=sys.stderr, flush=True)
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        try:
            ran = subprocess.run(
                [*apt, *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"apt-get {command[0]} was not done after {INSTALL_S:.0f} s: is the network there?") from None
        if ran.returncode:
            raise Missing(f"apt-get {command[0]} ended with {ran.returncode}: {(ran.stdout + ran.stderr)[-500:]}")


def _cannot(why: str) -> NoReturn:
    text = f"a browser cannot be had: {why}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


if __name__ == "__main__":
    try:
        print(*programs(), sep="\n")
    except Missing as missing:
        sys.exit(f"tests/browser.py: {missing}")
