"""Pages in a real browser: nothing wider than a phone or a desk, nothing fetched, details folded but on paper, both themes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
Run = Callable[..., Any]
COMMANDS = {
    "train": ("train", "llama-3.1-8b", "--gpus", "8", "--zero", "3", "--gpu", "h100"),
    "infer": ("infer", "llama-3.1-8b", "--gpu", "l4", "--engine", "vllm"),
    "plan": ("plan", "train", "gpt2", "--gpu", "4090", "--gpus", "1,2,4", "--tokens", "1B"),
    "compare": ("compare", "train", "gpt2", "--gpu", "l4", "--vary", "micro_batch=1,2,4", "--vary", "recompute=none,full"),
    "budget": ("budget", "llama-3.1-8b", "--tokens", "1T", "--gpu", "h100", "--gpus", "64"),
}
WIDTHS = {"phone": 390, "desk": 1280}
# Each page in a frame of its own; the page around it looks in from outside, as the pages themselves have no script.
LOOK = """<script>addEventListener("load",()=>{const out={};
for(const frame of document.querySelectorAll("iframe")){const page=frame.contentDocument,root=page.documentElement;
const body=frame.contentWindow.getComputedStyle(page.body);
const folded=[...page.querySelectorAll("details")].map(each=>[each.open,each.getBoundingClientRect().height]);
const wide=[...page.querySelectorAll(".wide")].map(each=>each.getBoundingClientRect().right);
out[frame.id]={scroll:root.scrollWidth,client:root.clientWidth,back:body.backgroundColor,ink:body.color,text:page.body.innerText,
folded,wide,fetched:frame.contentWindow.performance.getEntriesByType("resource").length,
links:[...page.querySelectorAll("a")].every(each=>page.getElementById(each.getAttribute("href").slice(1)))};}
document.body.innerHTML="<pre>"+JSON.stringify(out).replace(/&/g,"&amp;").replace(/</g,"&lt;")+"</pre>";});</script>"""


def chromium(*words: str) -> str:
    assert CHROMIUM is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000")
    done = subprocess.run([CHROMIUM, *flags, *words], capture_output=True, text=True, timeout=120, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """What each command writes."""
    found = {
        name: subprocess.run(
            [sys.executable, "-m", "memcalc", *words, "--format", "html"], capture_output=True, text=True, check=True
        ).stdout
        for name, words in COMMANDS.items()
    }
    assert all(page.startswith("<!doctype html>") for page in found.values())
    return found


def looked_at(pages: dict[str, str], folder: Path, *flags: str) -> dict[str, dict[str, Any]]:
    frames = "".join(
        f'<iframe id="{name} {size}" style="border:0;height:900px;width:{width}px" '
        f'srcdoc="{escape(page, quote=True)}"></iframe>'
        for name, page in pages.items()
        for size, width in WIDTHS.items()
    )
    around = folder / "around.html"
    around.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}{LOOK}</body>", encoding="utf-8")
    shown = re.search(r"<pre>(.*?)</pre>", chromium(*flags, "--dump-dom", around.as_uri()), re.DOTALL)
    assert shown, "the browser shows nothing"
    found: dict[str, dict[str, Any]] = json.loads(unescape(shown[1]))
    assert len(found) == len(pages) * len(WIDTHS)
    return found


@pytest.fixture(scope="module")
def light(pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return looked_at(pages, tmp_path_factory.mktemp("light"))


def test_no_page_is_wider_than_its_screen(light: dict[str, dict[str, Any]]) -> None:
    for name, seen in light.items():
        assert seen["client"] == WIDTHS[name.split()[1]]
        assert seen["scroll"] <= seen["client"], name
        assert all(right <= seen["client"] for right in seen["wide"]), name


def test_nothing_is_fetched_and_footnotes_lead_somewhere(light: dict[str, dict[str, Any]]) -> None:
    assert not any(seen["fetched"] for seen in light.values())
    assert all(seen["links"] for seen in light.values())


def test_details_are_folded_and_the_answer_is_there(light: dict[str, dict[str, Any]]) -> None:
    for name, seen in light.items():
        assert not any(opened or height > 120 for opened, height in seen["folded"]), name
    assert "FITS" in light["train phone"]["text"]
    assert "DeepSpeed" not in light["train phone"]["text"].split("Sources")[0].split("All else")[1]


def test_both_themes_can_be_read(
    pages: dict[str, str], light: dict[str, dict[str, Any]], tmp_path: Path
) -> None:  # fmt: skip
    dark = looked_at(pages, tmp_path, "--force-dark-mode")

    def brightness(colour: str) -> float:
        red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
        return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2

    for name in light:
        for seen, sign in ((light[name], 1), (dark[name], -1)):
            back, ink = brightness(seen["back"]), brightness(seen["ink"])
            assert sign * (back - ink) > 0, name
            assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) >= 7, name  # WCAG 2, level AAA


def test_paper_has_what_a_screen_folds(pages: dict[str, str], tmp_path: Path) -> None:
    sizes = []
    for name, page in (
        ("whole", pages["train"]),
        ("bare", re.sub(r"<details>.*</details>", "", pages["train"], flags=re.DOTALL)),
    ):
        (tmp_path / f"{name}.html").write_text(page, encoding="utf-8")
        chromium("--no-pdf-header-footer", f"--print-to-pdf={tmp_path / name}.pdf", (tmp_path / f"{name}.html").as_uri())
        sizes.append((tmp_path / f"{name}.pdf").read_bytes().count(b"/Type /Page\n"))
    assert sizes[0] > sizes[1] >= 1
