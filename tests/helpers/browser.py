"""Chromium without a window, driven over a pipe by the DevTools protocol: pages from disk, keys, the pointer."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--hide-scrollbars",
)
KEYS = {
    "ArrowRight": 39,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowDown": 40,
    "Enter": 13,
    "Escape": 27,
    "Home": 36,
    "End": 35,
}
LIMIT = 60.0  # seconds for an answer


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A page in a browser.

    Attributes:
        requests: addresses that pages asked for.
        errors: exceptions, and errors and warnings of the console.
    """

    def __init__(self, profile: Path) -> None:
        read, self.write = os.pipe()
        self.read, write = os.pipe()
        command = [
            find_chromium() or "chromium",
            *OPTIONS,
            f"--user-data-dir={profile}",
            "--window-size=1280,900",
        ]

        def take_pipes() -> None:  # the browser reads from descriptor 3 and writes to 4
            high = [os.dup2(descriptor, 90 + descriptor) for descriptor in (read, write)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        with open(os.devnull, "wb") as nowhere:
            self.process = subprocess.Popen(
                [*command, "about:blank"], stdout=nowhere, stderr=nowhere, preexec_fn=take_pipes, close_fds=False
            )
        os.close(read)
        os.close(write)
        self.buffer, self.number, self.session = b"", 0, ""
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(10)
        os.close(self.read)
        os.close(self.write)

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result; what happens meanwhile is recorded."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            answer = self._receive(deadline)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self._record(answer)
        raise TimeoutError(method)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            self.buffer += os.read(self.read, 1 << 20)
        message, _, self.buffer = self.buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _record(self, event: dict[str, Any]) -> None:
        method, values = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(values["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(values["args"])[:500])
        elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.errors.append(values["entry"]["text"])

    def open(self, page: Path) -> None:
        """Open a file and wait until its scripts have drawn everything."""
        self.ask("Page.navigate", url=page.resolve().as_uri())
        assert self.wait_for("document.documentElement?.dataset.ready === 'true'"), f"not ready: {self.errors}"

    def wait_for(self, condition: str) -> bool:
        """Wait until a condition holds in the page; return whether it does in time."""
        deadline = time.monotonic() + LIMIT
        while not (holds := bool(self.run(condition))) and time.monotonic() < deadline:
            time.sleep(0.05)
        return holds

    def run(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def hover(self, selector: str, number: int = 0) -> None:
        """Move the pointer over an element, which is scrolled into view."""
        x, y = self._find(selector, number)
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str, number: int = 0) -> None:
        """Click on an element."""
        x, y = self._find(selector, number)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def _find(self, selector: str, number: int) -> tuple[float, float]:
        script = (
            f"(() => {{ const found = document.querySelectorAll({json.dumps(selector)})[{number}]; "
            "found.scrollIntoView({block: 'center'}); const box = found.getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        x, y = self.run(script)
        return x, y

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS.get(key, 0))

    def text(self, selector: str) -> str:
        """Return the text that an element shows."""
        found: str = self.run(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    def texts(self, selector: str) -> list[str]:
        """Return the texts that elements show."""
        found: list[str] = self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")
        return found

    def emulate(self, scheme: str = "light", media: str = "") -> None:
        """Prefer a light or dark scheme, or show the page as it is printed."""
        self.ask(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def save_screenshot(self, path: Path, width: int = 1280, height: int = 900) -> None:
        """Save what is shown as a PNG file."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
