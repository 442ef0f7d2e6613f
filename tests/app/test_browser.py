"""The page in a browser: open, upload, explain, download; what goes wrong is said in words.

The server is the real command, in a process of its own. A browser is needed: Chromium as
``chromium``, with Playwright, both in the image that the tests run in.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from tests.app.serving import serving

pytest.importorskip("gradio", reason="the page needs the extra app")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("tmp")) as served:
        yield served


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@contextmanager
def opened(server, browser, query: str = "", *, silent: bool = True, size=(1280, 900)):
    """The opened page; at the end nothing was asked of others, and nothing logged as an error."""
    address = server.address
    context = browser.new_context(viewport=dict(zip(("width", "height"), size, strict=True)))
    tab = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda text: said.append(text.text) if text.type == "error" else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(f"{address}/{query}")
    tab.wait_for_selector("#ib-preview img")
    yield tab
    context.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert said == [] or not silent


@pytest.fixture
def page(server, browser):
    with opened(server, browser) as tab:
        yield tab


def explain(page) -> None:
    page.click("#ib-run")
    page.wait_for_selector("#ib-state >> text=done:", timeout=60_000)


def upload(page, name: str, content: bytes) -> None:
    page.set_input_files(
        "#ib-file input[type=file]",
        {"name": name, "mimeType": "application/octet-stream", "buffer": content},
    )


def png(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(data, "PNG")
    return data.getvalue()


def download(page, link: str) -> bytes:
    with page.expect_download() as waiting:
        page.click(link)
    return Path(waiting.value.path()).read_bytes()


def test_the_example_that_is_chosen_already(page):
    explain(page)
    titles = page.locator(".ib-card h3").all_inner_texts()
    assert titles == ["What the model sees", "CoM2IB", "NIB"]
    widths = page.eval_on_selector_all(".ib-card img", "all => all.map(one => one.naturalWidth)")
    assert widths == [448, 448, 448]
    caption = page.input_value("#ib-caption textarea, #ib-caption input")
    words = page.locator(".ib-card:nth-child(2) .ib-words span").all_inner_texts()
    assert words == caption.split()
    assert re.fullmatch(r"0\s*[\d.]+ bits\s*[\d.]+", page.locator(".ib-bar").first.inner_text())


def test_upload_explain_and_download(page):
    upload(page, "my cat.png", png(60, 40))
    page.wait_for_selector("#ib-preview >> text=60 × 40 pixels")
    page.fill("#ib-caption textarea, #ib-caption input", "a red circle")
    explain(page)
    with zipfile.ZipFile(io.BytesIO(download(page, "text=Everything (ZIP)"))) as archive:
        names = archive.namelist()
        record = json.loads(archive.read(next(n for n in names if n.endswith("m2ib.json"))))
        arrays = np.load(io.BytesIO(archive.read(next(n for n in names if n.endswith("nib.npz")))))
    assert len(names) == 7 and sum(name.endswith("-compare.png") for name in names) == 1
    assert record["text"] == "a red circle" and record["model"] == "zoo:clip-scenes"
    assert "/" not in record["image"] and record["image"].endswith(".png")
    assert arrays["tokens"].tolist() == ["<bos>", "a", "red", "circle", "<eos>"]
    with Image.open(io.BytesIO(download(page, "text=Figure (PNG)"))) as figure:
        assert figure.format == "PNG" and figure.width > 1000


def test_a_classifier(page):
    page.click("#ib-model input")
    page.click("[role=option]:has-text('zoo:vit-scenes')")
    page.wait_for_selector("#ib-target")
    assert not page.is_visible("#ib-caption")
    page.fill("#ib-target input", "star")
    page.keyboard.press("Enter")
    explain(page)
    assert page.locator(".ib-card h3").all_inner_texts()[1:] == ["CoIBA", "NIB"]
    assert page.inner_text(".ib-question") == "star"
    assert page.locator(".ib-words").count() == 0


def test_another_example_brings_its_caption(page):
    before = page.input_value("#ib-caption textarea, #ib-caption input")
    page.click("#ib-examples button >> nth=2")
    page.wait_for_selector("#ib-preview >> text=example-3.png")
    assert page.input_value("#ib-caption textarea, #ib-caption input") != before


def test_words_that_the_model_does_not_know(page):
    page.fill("#ib-caption textarea, #ib-caption input", "a red ${1+1}<b>elefant</b>")
    page.click("#ib-run")
    said = page.inner_text("#ib-state [role=alert]")
    assert "the word '${1+1}<b>elefant</b>' in" in said and "is not in the vocabulary" in said
    assert "Traceback" not in page.content() and page.locator("#ib-state b b").count() == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.png", b"no picture", "x.png can't be read: it is not a picture"),
        ("notes.txt", b"no picture", "notes.txt can't be read: it is not a picture"),
        ("x.png", png(300, 200), "300 × 200 pixels are too many, at most 0.05 million are read"),
    ],
)
def test_a_wrong_file_is_refused_in_words(page, name, content, message):
    upload(page, name, content)
    page.wait_for_selector("#ib-preview [role=alert]")
    assert message in page.inner_text("#ib-preview")
    page.click("#ib-run")
    page.wait_for_selector("#ib-state [role=alert]")
    assert message in page.inner_text("#ib-state")
    assert page.locator(".ib-card").count() == 0


def test_a_file_of_too_many_bytes_is_refused_in_words(server, browser):
    # Gradio asks for the progress of the upload that it has just refused, and logs that in vain.
    with opened(server, browser, silent=False) as page:
        upload(page, "x.png", b"0" * 200_001)
        page.wait_for_selector("text=/exceed the maximum allowed size.*x.png/")


def place(page, selector: str) -> tuple[float, float]:
    """Upper and lower edge in the window, without scrolling to it."""
    box = page.locator(selector).first.bounding_box()
    return box["y"], box["y"] + box["height"]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_explain_is_within_reach_and_its_answer_in_view(server, browser, width, height):
    with opened(server, browser, size=(width, height)) as page:
        above, below = place(page, "#ib-run")
        assert above > 0 and below <= height and page.evaluate("window.scrollY") == 0
        explain(page)
        above, below = place(page, "#ib-state .ib-note")
        assert above >= 0 and below <= height / 3
        assert place(page, ".ib-card")[0] < height
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_link_fills_the_fields_and_runs_nothing(server, browser):
    with opened(server, browser, "?model=vit-scenes&text=star&method=nib&example=2") as page:
        page.wait_for_selector("#ib-preview >> text=example-2.png")
        assert page.input_value("#ib-model input") == "zoo:vit-scenes"
        assert page.input_value("#ib-target input") == "star"
        assert page.locator(".ib-card").count() == 0
        explain(page)
        assert page.locator(".ib-card h3").all_inner_texts()[1:] == ["NIB"]
        link = page.get_attribute("#ib-state a", "href")
        assert link == "?model=zoo%3Avit-scenes&text=star&method=nib&example=2"


def test_a_link_that_names_a_path(server, browser):
    with opened(server, browser, "?model=/etc/passwd") as page:
        page.wait_for_selector("#ib-state [role=alert]")
        said = page.inner_text("#ib-state")
        assert "the model '/etc/passwd', which is not offered here" in said


def test_a_word_lights_its_region_and_the_look_changes_without_running(server, browser):
    with opened(server, browser, "?model=clip-scenes&method=cam2ib&text=a+red+circle") as page:
        page.wait_for_selector("#ib-methods >> text=CAM2IB")
        explain(page)
        page.locator(".ib-words span").nth(1).hover()
        assert page.locator(".ib-region:visible").get_attribute("alt") == (
            "where the word “red” looks"
        )
        map_, links = page.locator(".ib-seen img").first, page.locator(".ib-downloads a").first
        before, file = map_.get_attribute("src"), links.get_attribute("href")
        page.click("#ib-look button >> nth=0")
        page.click("#ib-look-grey input")
        page.wait_for_function(
            "file => !document.querySelector('.ib-downloads a').href.endsWith(file)", arg=file
        )
        assert map_.get_attribute("src") != before


def status(url: str, data: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_server_gives_no_other_files(server):
    address = server.address
    assert status(address) == 200
    secret = Path(__file__)
    for path in (
        f"/gradio_api/file={secret}",
        f"/gradio_api/file={Path.home() / '.bashrc'}",
        "/gradio_api/file=/etc/passwd",
        "/results/token/x.png",
        "/results/..%2F..%2Fetc/passwd",
    ):
        assert status(address + path) == 404, path


def test_the_server_answers_to_its_own_names_only(server):
    address = server.address
    assert status(address, Host="attacker.example") == 400


def test_a_request_larger_than_any_upload_is_refused(server):
    address = server.address
    try:
        found = status(f"{address}/gradio_api/queue/join", b"0" * 1_300_000, Origin=address)
    except URLError as error:  # the door closed while the rest was being sent
        assert isinstance(error.reason, (BrokenPipeError, ConnectionResetError))
    else:
        assert found == 413


def test_a_page_on_another_port_of_this_machine_reads_and_sends_nothing(server, browser):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(server.address)  # the browser has the app's cookie now
    before = server.uploads
    other = server.address.replace("127.0.0.1", "localhost")
    for origin in (other, "http://127.0.0.1:9"):
        tab.route(f"{origin}/**", lambda route: route.fulfill(body="<p>another page</p>"))
        tab.goto(f"{origin}/other")
        tried = tab.evaluate(
            """async (app) => {
                const form = new FormData();
                form.append("files", new Blob(["x"]), "x.png");
                const post = {method: "POST", body: form, credentials: "include"};
                const tries = [
                    fetch(app), fetch(app + "/gradio_api/queue/data?session_hash=abcdef1"),
                    fetch(app + "/gradio_api/upload", post),
                    fetch(app + "/gradio_api/upload", {...post, mode: "no-cors"}),
                ];
                return (await Promise.allSettled(tries)).map(
                    one => one.status == "rejected" ? "refused" : one.value.type);
            }""",
            server.address,
        )
        assert tried == ["refused"] * 4
        assert server.uploads == before
        framed = tab.evaluate(
            """async (app) => {
                const frame = document.createElement("iframe");
                frame.src = app;
                document.body.append(frame);
                await new Promise(done => { frame.onload = done; setTimeout(done, 3000); });
                try { return frame.contentDocument ? "same" : "shut"; } catch { return "shut"; }
            }""",
            server.address,
        )
        assert framed == "shut"
    context.close()


def test_the_page_that_is_closed_takes_its_upload_along(server, browser):
    with opened(server, browser) as tab:
        before = server.uploads
        upload(tab, "x.png", png(60, 40))
        tab.wait_for_selector("#ib-preview >> text=60 × 40 pixels")
        (file,) = server.uploads - before
    for _ in range(1000):
        if not file.exists():
            break
        time.sleep(0.02)
    assert not file.exists()


def test_nothing_is_left_when_it_ends(server):  # the last test: it ends the server
    assert server.home.is_dir()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(timeout=60)
    assert list(server.folder.glob("captum-ib-app-*")) == []
    assert "Traceback" not in server.log
