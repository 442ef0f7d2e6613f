"""The gallery in headless Chromium, opened as a file."""

from __future__ import annotations

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captum_ib.report import read_tables
from captum_ib.report.gallery import gallery
from tests.report.folders import Folder

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium or Chrome here")

HOSTILE = "<img src=x onerror=window.stolen=1> </script><script>window.stolen=1</script>"
CAPTIONS = ("a red circle", "two green stars", "one blue ring", HOSTILE)


def score(index, method, seed, label):
    """Drop: M2IB falls with the index, NIB rises; the third sample has none from NIB."""
    if label == "word_auc":
        return (index * 3 % 7) / 10 + seed
    return (
        None
        if (index, method) == (2, "NIB")
        else (1 - index / 8 if method == "M2IB" else index / 8)
    )


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    config = {
        "model": "zoo:clip-scenes",
        "title": "clip-scenes",
        "methods": ["m2ib", "nib"],
        "metrics": ["drop_image", "word_auc"],
        "seeds": [0, 1],
        "samples": 6,
    }
    run = Folder(config=config, score=score, fails=[(5, "M2IB")], captions=CAPTIONS)
    (table,) = read_tables([run.write(folder / "run")])
    path = folder / "gallery.html"
    path.write_text(gallery(table), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, address, request):
    """The page at the size of a desk, or of the test's parameter; it must have raised nothing."""
    size = getattr(request, "param", {"width": 1360, "height": 3000})
    context = browser.new_context(viewport=size)
    page = context.new_page()
    seen = SimpleNamespace(page=page, errors=[], requests=[])
    page.on(
        "console", lambda m: seen.errors.append(m.text) if m.type in ("error", "warning") else 0
    )
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda r: seen.requests.append(r.url))
    page.goto(address)
    page.wait_for_selector(".tile .heat")
    yield seen
    assert seen.errors == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [address]
    context.close()


def names(page):
    return page.locator(".sample h2").all_text_contents()


def numbers(page):
    return [int(name.removeprefix("scene-")) for name in names(page)]


def pixels(page, tile, opacity="100"):
    """``(H, W, 3)`` what the screen shows of a tile's map, with nothing of the picture below it."""
    page.locator("#opacity").fill(opacity)
    png = tile.screenshot()
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def at(shot, x, y):
    """The colour at a place in the unit square."""
    return shot[int(y * shot.shape[0]), int(x * shot.shape[1])].tolist()


def test_opens_with_everything_in_place(opened):
    page = opened.page
    assert page.title() == "clip-scenes: maps"
    assert page.locator("h1").text_content() == "clip-scenes"
    assert page.locator("#status").text_content() == "6 samples"
    assert numbers(page) == [0, 1, 2, 3, 4, 5]
    tiles = page.locator(".sample").first.locator(".tile:visible .name").all_text_contents()
    assert tiles == ["Input", "M2IB", "NIB"]
    image = page.locator(".sample").first.locator("img.picture").first
    assert image.evaluate("i => [i.complete, i.naturalWidth]") == [True, 64]


def test_slider_sets_the_opacity_of_every_map(opened):
    page = opened.page
    opacity = "all => all.map(c => getComputedStyle(c).opacity)"
    maps = page.locator(".tile:visible .heat")
    assert set(maps.evaluate_all(opacity)) == {"0.75"}
    page.locator("#opacity").fill("25")
    assert set(maps.evaluate_all(opacity)) == {"0.25"}
    assert page.locator("#opacity-value").text_content() == "25 %"
    page.locator("#opacity").focus()
    page.keyboard.press("ArrowRight")
    assert set(maps.evaluate_all(opacity)) == {"0.26"}


def test_maps_have_the_colours_of_the_project(opened):
    """The first sample's peak is at (0.24, 0.33): yellow of viridis, dark red of RdBu; else 0.

    Where bits are 0, the picture shows.
    """
    first = opened.page.locator(".sample").first
    bits, signed = (pixels(opened.page, first.locator(".heat:visible").nth(n)) for n in (0, 1))
    bare = pixels(opened.page, first.locator(".heat:visible").first, opacity="0")
    assert at(bits, 0.95, 0.95) == at(bare, 0.95, 0.95)
    red, green, blue = at(bits, 0.24, 0.33)
    assert red > 150 and green > 200 and blue < 100
    red, green, blue = at(signed, 0.24, 0.33)
    assert red > 90 and red > 3 * green
    red, green, blue = at(signed, 0.95, 0.95)  # −1 of 2: blue
    assert blue > red + 60


def test_smoothing_mixes_values_not_colours_and_can_be_switched_off(opened):
    """Between the signed map's −1 and 2 lies 0, where the picture shows, not a mixture of both."""
    page = opened.page
    tile = page.locator(".sample").first.locator(".heat.signed:visible").first
    shot = pixels(page, tile)
    row = shot[int(len(shot) * 0.3), 3:-3].astype(int)
    assert len(set(map(tuple, row.tolist()))) > 14
    bare = pixels(page, tile, opacity="0")[int(len(shot) * 0.3), 3:-3].astype(int)
    assert np.abs(row - bare).max(1).min() < 12
    page.locator("#smooth").uncheck()
    hide = "all => all.forEach(picture => { picture.style.visibility = 'hidden'; })"
    page.locator(".picture").evaluate_all(hide)
    shot = pixels(page, tile)
    cells = [at(shot, (number + 0.5) / 7, 0.3) for number in range(7)]
    edges = [at(shot, (number + 0.9) / 7, 0.3) for number in range(7)]
    assert cells == edges  # one colour per cell


def test_what_remains_is_the_picture_seen_through_the_map(opened):
    page = opened.page
    tile = page.locator(".sample").first.locator(".heat:visible").first
    bare = pixels(page, tile, opacity="0")
    page.get_by_label("What remains").check()
    shot = pixels(page, tile)
    assert at(shot, 0.95, 0.95) == [0, 0, 0]
    share = np.divide(at(shot, 0.24, 0.33), at(bare, 0.24, 0.33))  # near the peak
    assert np.abs(share - 0.9).max() < 0.05


def test_methods_can_be_switched_off(opened):
    page = opened.page
    shown = page.locator(".sample").first.locator(".tile:visible .name")
    page.get_by_label("M2IB", exact=True).uncheck()
    assert shown.all_text_contents() == ["Input", "NIB"]
    page.locator("#none").click()
    assert shown.all_text_contents() == ["Input"]
    page.locator("#all").click()
    assert shown.all_text_contents() == ["Input", "M2IB", "NIB"]
    assert page.get_by_label("M2IB", exact=True).is_checked()


def test_sorting(opened):
    """Lower drops are better; a sample without a score comes last, whichever the direction."""
    page = opened.page
    page.locator("#order").select_option(label="M2IB")
    assert numbers(page) == [4, 3, 2, 1, 0, 5]  # 5 failed
    page.locator("#direction").click()
    assert page.locator("#direction").text_content() == "Worst first"
    assert numbers(page) == [0, 1, 2, 3, 4, 5]
    page.locator("#order").select_option(label="NIB")
    assert numbers(page) == [5, 4, 3, 1, 0, 2]
    page.locator("#direction").click()
    assert numbers(page) == [0, 1, 3, 4, 5, 2]


def test_sorting_by_another_score_confidence_and_mean(opened):
    page = opened.page
    page.locator("#score").select_option(label="AUC of content words ↑")
    page.locator("#order").select_option(label="NIB")
    # (3i mod 7)/10 is 0, 3, 6, 2, 5, 1 tenths; higher is better
    assert numbers(page) == [2, 4, 1, 3, 5, 0]
    page.locator("#order").select_option(label="Shown methods, mean")
    assert numbers(page) == [2, 4, 1, 3, 5, 0]
    page.locator("#order").select_option(label="Model confidence")
    assert numbers(page) == [5, 4, 3, 2, 1, 0]
    page.locator("#order").select_option(label="Order of the data")
    assert numbers(page) == [0, 1, 2, 3, 4, 5]


def test_search_in_caption_label_and_id(opened):
    page = opened.page
    search = page.locator("#search")
    for text, expected in (
        ("GREEN", [1, 5]), ("star two", [1, 5]), ("class 2", [2, 5]), ("scene-3", [3]),
        ("onerror", [3]), ("", [0, 1, 2, 3, 4, 5]),
    ):  # fmt: skip
        search.fill(text)
        assert numbers(page) == expected
    search.fill("elephant")
    assert numbers(page) == [] and page.locator("#empty").is_visible()
    assert page.locator("#status").text_content() == "0 of 6 samples"


def test_best_score_of_a_sample_is_marked(opened):
    """Drop: M2IB 1 − i/8, NIB i/8; at 4 they are equal, at 5 M2IB has failed."""
    tiles = opened.page.locator(".sample")
    for number, best in ((0, ["NIB"]), (3, ["NIB"]), (4, ["M2IB", "NIB"]), (5, []), (2, [])):
        marked = tiles.nth(number).locator(".tile:visible:has(.value.best) .name")
        assert marked.all_text_contents() == best
    assert tiles.nth(5).locator(".failed:visible").text_content() == "Failed: out of luck"


def test_words_wear_the_colours_of_their_attribution(opened):
    """Weights 1, 2, 3 of at most 3: viridis at 85, 170 and 255 of 255."""
    words = opened.page.locator(".sample").first.locator(".words").first.locator("span")
    assert words.all_text_contents() == ["a", "red", "circle"]
    colours = words.evaluate_all("all => all.map(w => getComputedStyle(w).backgroundColor)")
    assert colours == ["rgb(49, 104, 142)", "rgb(53, 183, 121)", "rgb(253, 231, 37)"]
    ink = words.evaluate_all("all => all.map(w => getComputedStyle(w).color)")
    assert ink == ["rgb(255, 255, 255)", "rgb(0, 0, 0)", "rgb(0, 0, 0)"]


def test_seeds(opened):
    """Scores of words grow by 1 with the seed."""
    page = opened.page
    page.locator("#score").select_option(label="AUC of content words ↑")
    value = page.locator(".sample").nth(1).locator(".value").first
    assert value.text_content() == "0.300"
    assert value.is_visible()
    shown = page.locator(".tile[data-method]:visible")
    before = page.locator(".sample").nth(1).locator(".heat:visible").first.get_attribute("src")
    page.locator("#seed").select_option(label="1")
    value = page.locator(".sample").nth(1).locator(".value:visible").first
    assert value.text_content() == "1.300"
    after = page.locator(".sample").nth(1).locator(".heat:visible").first.get_attribute("src")
    assert after != before and shown.count() == 12


def test_hostile_caption_is_only_text(opened):
    page = opened.page
    page.wait_for_timeout(100)  # an error handler of an image would run later
    assert page.evaluate("window.stolen") is None
    assert page.locator(".sample").nth(3).locator(".caption").text_content() == HOSTILE
    assert page.locator("img:not(.picture):not(.mark):not(.heat)").count() == 0
    assert page.locator("script").count() == 1


def test_policy_stops_a_script_that_gets_in_all_the_same(opened):
    page = opened.page
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.stolen = 1';"
        " document.body.append(s); }"
    )
    assert page.evaluate("window.stolen") is None
    assert len(opened.errors) == 1 and "Content Security Policy" in opened.errors.pop()


def test_a_map_opens_large(opened):
    page = opened.page
    dialog = page.locator("#large")
    page.locator(".sample").nth(1).locator("button.frame").first.click()
    assert dialog.is_visible()
    assert page.locator("#large-title").text_content() == "M2IB (Wang et al., NeurIPS 2023)"
    assert page.locator("#large-sample").text_content() == "scene-1 · class 1 · two green stars"
    rows = page.locator("#large-scores tr").all_text_contents()
    assert rows == ["Confidence drop, image ↓0.875", "AUC of content words ↑0.300"]
    page.keyboard.press("ArrowRight")
    assert page.locator("#large-title").text_content() == "NIB (Zhu et al., ICLR 2025)"
    page.keyboard.press("ArrowRight")
    assert page.locator("#large-title").text_content().startswith("M2IB")
    box = page.locator("#large-frame .frame").bounding_box()
    page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + 0.02 * box["height"])
    assert page.locator("#readout").text_content() == "0 bits here, max 2.9 bits"
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_keyboard(opened):
    page = opened.page
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("j/k")  # letters, not shortcuts, while one types
    assert page.locator("#search").input_value() == "j/k"
    page.locator("#search").fill("")
    page.evaluate("document.activeElement.blur()")
    here = "document.activeElement.querySelector('h2').textContent"
    for key, expected in (("j", "scene-0"), ("j", "scene-1"), ("k", "scene-0"), ("k", "scene-0")):
        page.keyboard.press(key)
        assert page.evaluate(here) == expected
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#large-title").text_content().startswith("M2IB")


def test_outline_of_the_truth(opened):
    page = opened.page
    mark = page.locator(".tile .mark").first
    assert not mark.is_visible()
    page.locator("#outline").check()
    assert mark.is_visible()


@pytest.mark.parametrize(
    "opened", [{"width": 360, "height": 740}, {"width": 768, "height": 900}], indirect=True
)
def test_narrow_windows_need_no_sideways_scrolling(opened):
    page = opened.page
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
    page.locator(".settings > summary").click()
    page.locator("#search").fill("green")
    assert page.locator(".sample").count() == 2
    page.locator("button.frame").first.click()
    box = page.locator("#large").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(browser, address, scheme):
    """At least 4.5 : 1 between every piece of text and its ground (WCAG AA)."""
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1360, "height": 3000})
    page.goto(address)
    page.wait_for_selector(".tile .heat")
    found = page.evaluate(CONTRAST)
    assert len(found) > 50
    assert [entry for entry in found if entry["ratio"] < 4.5] == []
    page.close()


CONTRAST = """() => {
  const parts = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => { const [r, g, b] = rgb.map((v) =>
    v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    const hidden = ["SCRIPT", "NOSCRIPT", "OPTION", "OPTGROUP"].includes(e.tagName);
    if (hidden || !walker.currentNode.data.trim() || !e.checkVisibility()) continue;
    const [a, b] = [light(parts(getComputedStyle(e).color)), light(ground(e))];
    found.push({ text: walker.currentNode.data.trim(),
      ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) });
  }
  return found;
}"""
