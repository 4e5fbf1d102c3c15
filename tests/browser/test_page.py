"""The page for everybody: Japanese, phones, keyboards, screen readers, dark mode; the About tab."""

from __future__ import annotations

import json
import re

import pytest

from mutual_forcing.checkpoint import find_checkpoint, load_checkpoint

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.browser

TABS = {"Talk": "#talk-button", "Compare": "#compare-button", "Live": "#live-start"}
ABOUT = ".mf-facts"
# Controls that one can reach on the open tab and that have no name to be read out.
NAMELESS = """() => [...document.querySelectorAll(
    'button, a[href], input, textarea, select, video, summary, [role="group"], [tabindex="0"]')]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height > 1 && e.type !== 'hidden')
  .filter((e) => ![e.getAttribute('aria-label'), e.title, e.alt, e.innerText,
    ...[...(e.labels || [])].map((label) => label.innerText),
    ...(e.getAttribute('aria-labelledby') || '').split(' ').filter(Boolean)
      .map((id) => document.getElementById(id)?.innerText)].some((name) => name && name.trim()))
  .map((e) => e.outerHTML.slice(0, 160))"""
# Contrast of each text with the nearest opaque background behind it.
FAINT = """() => {
  const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return document.body.classList.contains('dark') ? [11, 15, 25] : [255, 255, 255];
  };
  const contrast = (e) => {
    const both = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  };
  return [...document.querySelectorAll('.mf-readout dt, .mf-readout dd, .mf-mode, .mf-preflight,' +
    '.mf-footer, .mf-header p, .mf-legend span, .mf-empty, .mf-facts dt, .mf-facts dd,' +
    '.mf-about li, .mf-table th')].filter((e) => e.checkVisibility() && e.innerText.trim())
    .map((e) => [e.className || e.tagName, contrast(e)]).filter(([, value]) => value < 4.5);
}"""


@pytest.fixture
def visit(browser, address):
    """Open the page as a visitor with a screen, a language and a theme; closed afterwards."""
    pages = []

    def opened(width: int = 1280, height: int = 900, locale: str = "en-US", theme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": height}, locale=locale)
        pages.append(page)
        page.goto(f"{address}?__theme={theme}")
        page.wait_for_selector("#talk-button")
        return page

    yield opened
    for page in pages:
        page.close()


def open_tabs(page):
    """Open one tab after the other and yield its name."""
    for name, waited_for in {**TABS, "About": ABOUT}.items():
        page.get_by_role("tab", name=name).click()
        page.wait_for_selector(waited_for)
        yield name


def test_a_japanese_visitor_reads_japanese_and_can_talk(visit, picture):
    page = visit(locale="ja-JP")
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    expect(page.locator("#talk-button")).to_have_text("話す")
    expect(page.locator("#stop-button")).to_have_text("停止")
    expect(page.get_by_label("セリフ", exact=True)).not_to_have_count(0)
    expect(page.get_by_label("控えめ").first, "the choices of the motion").to_be_checked()
    expect(page.locator(".mf-header")).to_contain_text("画像1枚")
    expect(page.locator("#player")).to_contain_text("最初の画面")
    expect(page.locator("#player")).not_to_contain_text("Talk")
    page.wait_for_selector("#preflight :text-matches('1チャンクあたり4 NFE')")
    expect(page.locator("#mode-badge")).to_have_text("Fewモード")

    page.set_input_files("#character input[type=file]", str(picture))
    page.wait_for_selector("#player .mf-poster:not([hidden])")
    page.fill("#text textarea", "Hello.")
    page.click("#talk-button")
    page.wait_for_selector("#clip video", timeout=120_000)
    expect(page.locator("#player .mf-status")).to_have_text(re.compile("秒を生成しました。$"))
    expect(page.locator("#player .mf-badge")).to_have_text("Fewモード・4ステップ")
    for name, known in (
        ("比べる", "ステップ数ごとに1つのバリエーション"),
        ("ライブ", "話した言葉が"),
        ("モデルについて", "できないこと"),
    ):
        page.get_by_role("tab", name=name).click()
        page.wait_for_selector(f"[role=tabpanel] :text('{known}'):visible")


def test_other_visitors_read_english(visit):
    page = visit(locale="fr-FR")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("#talk-button")).to_have_text("Talk")
    expect(page.locator("#player")).to_contain_text("First picture", ignore_case=True)


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_a_phone_never_scrolls_sideways_and_has_the_button_at_hand(visit, locale):
    page = visit(390, 844, locale)
    for index, button in enumerate([*TABS.values(), ABOUT]):
        page.locator("[role=tab]:visible").nth(-4 + index).click()
        page.wait_for_selector(button)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390, button
        if button != ABOUT:
            box = page.locator(button).bounding_box()
            assert box["y"] + box["height"] <= 844 and box["height"] >= 44, f"{button}: {box}"


def test_every_control_has_a_name(visit):
    page = visit()
    for name in open_tabs(page):
        assert page.evaluate(NAMELESS) == [], name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_their_background(visit, theme):
    page = visit(theme=theme)
    for name in open_tabs(page):
        assert page.evaluate(FAINT) == [], name


def test_the_keyboard_reaches_the_button_and_shows_where_it_is(visit):
    page = visit()
    page.focus("#text textarea")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.id"))
        if reached[-1] == "talk-button":
            break
    assert reached[-1] == "talk-button", f"in 40 steps only: {reached}"
    ring = page.evaluate("() => getComputedStyle(document.activeElement).outline")
    assert "solid" in ring and "3px" in ring
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Choose a character first")


def test_about_says_what_the_checkpoint_says(visit, checkpoint):
    page = visit()
    page.get_by_role("tab", name="About").click()
    page.wait_for_selector(ABOUT)
    expect(page.locator(ABOUT)).to_contain_text(load_checkpoint(checkpoint).digest)
    expect(page.locator(f"{ABOUT} a")).to_have_attribute("href", re.compile("2604.25819$"))
    folder = find_checkpoint(checkpoint)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    rows = page.locator("#training-record tbody tr")
    expect(rows).to_have_count(len(record.get("stages", {})))
    if (folder / "README.md").is_file():
        card = (folder / "README.md").read_text(encoding="utf-8").replace("`", "")
        heading = page.inner_text("#model-card h1")
        assert heading and heading in card
