"""The page to play with, in headless Chromium: its masks against the library's, and what a reader can do."""

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Route, sync_playwright
from scipy.fft import dctn
from scipy.stats import beta, ks_2samp, kstest, norm

import cowmask
from tests.pages import ROOT

PLAY = ROOT / "docs/play"
ORIGIN = "https://play.invalid/"  # answered from the folder; no name is looked up
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")

SLIDERS = [("cow", "sigma"), ("cow", "proportion"), ("box", "area"), ("box", "boxes"), ("mixup", "alpha")]
KINDS = ("cow", "box", "mixup")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def page(browser: Browser, requests: list[str]) -> Iterator[Page]:
    """Return the page, drawn, on a phone's screen; any error of its scripts fails the test."""
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.on("request", lambda request: requests.append(request.url))
    context.route("**/*", answer)
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(ORIGIN + "index.html")
    wait_until_drawn(page)
    yield page
    context.close()
    assert not errors


def answer(route: Route) -> None:
    path = PLAY / urlsplit(route.request.url).path.removeprefix("/")
    if route.request.url.startswith(ORIGIN) and path.is_file():
        route.fulfill(path=path)
    else:
        route.abort()


def wait_until_drawn(page: Page) -> None:
    page.locator("#share:not(:empty)").wait_for()
    page.evaluate("() => new Promise(requestAnimationFrame)")


def press(page: Page, selector: str, key: str) -> None:
    page.locator(selector).press(key)
    wait_until_drawn(page)


def choose_kind(page: Page, kind: str) -> None:
    page.locator(f"[name=kind][value={kind}]").check(force=True)  # its label is what is seen
    wait_until_drawn(page)


def pixels(page: Page, canvas: str) -> NDArray[np.uint8]:
    """Return what a canvas shows, (height, width, 4)."""
    url: str = page.evaluate("id => document.getElementById(id).toDataURL()", canvas)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


def opacity(page: Page) -> NDArray[np.uint8]:
    """Return how much of each pixel the mask takes from picture B, 0 to 255."""
    return pixels(page, "mask")[..., 3]


def settings(**changed: Any) -> dict[str, Any]:
    """Return what `drawMask` of the page takes."""
    of_the_page = {"kind": "cow", "sigma": 6, "proportion": 0.5, "area": 0.5, "boxes": 1, "alpha": 1, "side": 128}
    return of_the_page | changed


def areas(page: Page, seeds: int, **changed: Any) -> NDArray[np.float64]:
    """Return the fraction of picture B in the masks of the seeds from 0 to `seeds` - 1."""
    script = """([settings, seeds]) => Array.from({ length: seeds }, (_, seed) => {
      const mask = drawMask({ ...settings, seed });
      return mask.reduce((sum, value) => sum + value, 0) / mask.length / 255;
    })"""
    return np.array(page.evaluate(script, [settings(**changed), seeds]))


def picture(color: tuple[int, ...], size: tuple[int, int] = (30, 20)) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", size, color).save(file, "PNG")
    return file.getvalue()


def drop(page: Page, selector: str, **files: bytes) -> None:
    """Drop files, named by their keywords, on an element."""
    script = """files => {
      const transfer = new DataTransfer();
      for (const [name, content] of Object.entries(files)) {
        const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name));
      }
      return transfer;
    }"""
    transfer = page.evaluate_handle(script, {name: base64.b64encode(file).decode() for name, file in files.items()})
    page.dispatch_event(selector, "drop", {"dataTransfer": transfer})


# The masks


@pytest.mark.parametrize(
    ("size", "sigma", "proportion"),
    [
        ((512, 512), 12.0, 0.5),
        ((512, 512), 3.0, 0.3),
        ((97, 130), 4.5, 0.9),
        ((130, 97), 40.0, 0.25),
        ((64, 45), 1.0, 0.5),
        ((48, 64), 5.0, 0.0),
        ((48, 64), 5.0, 1.0),
    ],
)
def test_masks_are_the_librarys_from_the_same_noise(
    page: Page, size: tuple[int, int], sigma: float, proportion: float
) -> None:
    noise = torch.randn(1, 1, *size)
    coefficients = np.zeros((4 * -(-max(size) // 4),) * 2)  # as many along each axis as the page may ask for
    coefficients[: size[0], : size[1]] = dctn(noise[0, 0].double().numpy(), norm="ortho")
    script = """({ values, side, size, sigma, proportion }) => {
      const [height, width] = size;
      return Array.from(thresholdField(cowField({ values, side }, { height, width }, sigma), proportion));
    }"""
    of_noise = {"values": coefficients.ravel().tolist(), "side": len(coefficients)}
    mask = page.evaluate(script, of_noise | {"size": size, "sigma": sigma, "proportion": proportion})
    expected = cowmask.cow_masks(1, size, sigma, proportion, noise=noise, method="direct")
    agreement = (torch.tensor(mask).view(size).bool() == expected[0, 0]).double().mean()
    assert agreement > 0.999 if 0 < proportion < 1 else agreement == 1


@pytest.mark.parametrize("proportion", [0.1, 0.3, 0.5, 0.8])
def test_areas_are_the_proportion_over_the_seeds(page: Page, proportion: float) -> None:
    cow = areas(page, 200, proportion=proportion)
    assert cow.mean() == pytest.approx(proportion, abs=0.01)
    assert cow.std() > 0.005
    assert areas(page, 50, kind="box", area=proportion) == pytest.approx(proportion, abs=0.01)


def test_areas_vary_as_the_librarys(page: Page) -> None:
    masks = cowmask.cow_masks(500, (64, 64), 8.0, 0.3)
    drawn = areas(page, 500, side=64, sigma=8, proportion=0.3)
    assert ks_2samp(drawn, masks.double().mean((1, 2, 3)).numpy()).pvalue > 0.01


def test_noise_is_white_and_of_its_seed(page: Page) -> None:
    drawn = np.array(page.evaluate("() => [1, 2].map(seed => Array.from(drawNoise(99, uniformFrom(seed)).values))"))
    for values in drawn:
        assert kstest(values, norm.cdf).pvalue > 0.01
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.04
    assert abs(np.corrcoef(*drawn)[0, 1]) < 0.04


def test_boxes_have_sides_and_places_as_the_librarys(page: Page) -> None:
    script = """area => Array.from({ length: 500 }, (_, seed) =>
      Object.values(drawBoxes({ height: 3000, width: 4000 }, 3 * area, 3, uniformFrom(seed))[2]))"""
    top, left, height, width = np.array(page.evaluate(script, 0.2), dtype=float).T
    assert height * width / 12e6 == pytest.approx(0.2, abs=1e-3)
    assert kstest(np.log(height / 3000) / np.log(0.2), "uniform").pvalue > 0.01
    assert kstest(top / (3001 - height), "uniform").pvalue > 0.01
    assert kstest(left / (4001 - width), "uniform").pvalue > 0.01
    assert (top + height <= 3000).all()
    assert (left + width <= 4000).all()


def test_boxes_are_filled_where_they_lie(page: Page) -> None:
    script = """() => Array.from(fillBoxes({ height: 4, width: 5 }, [
      { top: 1, left: 2, height: 2, width: 3 }, { top: 0, left: 0, height: 2, width: 1 }]))"""
    expected = [[1, 0, 0, 0, 0], [1, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]
    assert np.array_equal(np.reshape(page.evaluate(script), (4, 5)), expected)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 2.0])
def test_weights_of_mixup_are_of_the_beta_distribution(page: Page, alpha: float) -> None:
    script = "alpha => Array.from({ length: 1000 }, (_, seed) => drawWeight(alpha, uniformFrom(seed)))"
    assert kstest(page.evaluate(script, alpha), beta(alpha, alpha).cdf).pvalue > 0.01


# The page


@pytest.mark.parametrize("kind", KINDS)
def test_the_mixed_image_is_b_where_the_mask_is_white(page: Page, kind: str) -> None:
    choose_kind(page, kind)
    press(page, "#side", "ArrowLeft")
    share = opacity(page)[..., None] / 255
    a, b, mixed = (pixels(page, canvas)[..., :3].astype(float) for canvas in ("a", "b", "mixed"))
    assert mixed.shape == (480, 480, 3)
    assert np.abs(mixed - (a + (b - a) * share)).max() <= (2 if kind == "mixup" else 0)
    assert np.abs(a - b).mean() > 20
    assert page.locator("#share").text_content() == (
        f"{100 * share.mean():.1f}% of {'every pixel is' if kind == 'mixup' else 'the pixels are'} from B"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_shows_the_same_mask(page: Page, kind: str) -> None:
    choose_kind(page, kind)
    first = opacity(page)
    press(page, "#seed", "ArrowRight")
    second = opacity(page)
    assert not np.array_equal(first, second)
    press(page, "#seed", "ArrowLeft")
    assert np.array_equal(opacity(page), first)
    press(page, "#new-mask", "Enter")
    assert np.array_equal(opacity(page), second)
    press(page, "#seed", "End")
    press(page, "#new-mask", "Enter")
    assert page.locator("#seed").input_value() == "0"


@pytest.mark.parametrize(("kind", "slider"), SLIDERS)
def test_every_slider_changes_the_mask_and_its_text(page: Page, kind: str, slider: str) -> None:
    choose_kind(page, kind)
    before, text = opacity(page), page.locator(f"#{slider}").get_attribute("aria-valuetext")
    press(page, f"#{slider}", "End")
    assert not np.array_equal(opacity(page), before)
    assert page.locator(f"#{slider}").get_attribute("aria-valuetext") != text
    shown = {name for _, name in SLIDERS if page.locator(f"#{name}").is_visible()}
    assert shown == {name for of, name in SLIDERS if of == kind}


def test_a_larger_proportion_adds_to_the_mask(page: Page) -> None:
    before = opacity(page)
    press(page, "#proportion", "ArrowRight")
    assert (opacity(page) >= before).all()
    press(page, "#proportion", "End")
    assert (opacity(page) == 255).all()
    press(page, "#proportion", "Home")
    assert (opacity(page) == 0).all()


def test_features_keep_their_pixels_when_the_image_shrinks(page: Page) -> None:
    press(page, "#side", "Home")
    assert opacity(page).shape == (128, 128)
    assert page.locator("#sigma").get_attribute("aria-valuetext") == "12.0 px, 9.4% of the side"


def test_the_kind_is_chosen_by_keyboard(page: Page) -> None:
    page.locator("[name=kind][value=cow]").focus()
    for kind in ("box", "mixup", "cow"):
        page.keyboard.press("ArrowRight")
        assert page.locator(f"[name=kind][value={kind}]").is_checked()


def test_the_call_makes_such_masks(page: Page) -> None:
    def call() -> Any:
        return eval(page.locator("#call").text_content() or "", vars(cowmask).copy())

    assert (call().sigma, call().proportion) == (12.0, 0.5)
    press(page, "#sigma", "ArrowRight")
    press(page, "#proportion", "ArrowLeft")
    assert (call().sigma, call().proportion) == (12.9, 0.49)
    choose_kind(page, "box")
    assert isinstance(call(), cowmask.CutMix)
    assert (call().area, call().n_boxes) == (0.5, 1)
    press(page, "#boxes", "End")
    assert (call().area, call().n_boxes) == (0.5, 8)
    choose_kind(page, "mixup")
    press(page, "#alpha", "Home")
    assert isinstance(call(), cowmask.MixUp)
    assert call().alpha == 0.1


def test_the_call_is_copied(page: Page) -> None:
    press(page, "#copy", "Enter")
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == "CowMix(sigma=12.0, proportion=0.5)"


def test_a_dropped_file_is_shown(page: Page) -> None:
    cat = pixels(page, "a")
    drop(page, "#b", **{"red.png": picture((200, 0, 0, 255))})
    page.locator("#b[aria-label='Picture B: red.png']").wait_for()
    assert (pixels(page, "b") == (200, 0, 0, 255)).all()
    assert np.array_equal(pixels(page, "a"), cat)
    assert (pixels(page, "mixed")[opacity(page) == 255] == (200, 0, 0, 255)).all()
    page.locator("#picture-b").select_option("Cat")
    wait_until_drawn(page)
    assert np.array_equal(pixels(page, "b"), cat)


def test_two_dropped_files_are_a_and_b(page: Page) -> None:
    drop(page, "#mask", **{"clear.png": picture((9, 9, 9, 0)), "blue.png": picture((0, 0, 250, 255))})
    page.locator("#b[aria-label='Picture B: blue.png']").wait_for()
    assert (pixels(page, "a") == 255).all(), "white is seen through what is transparent"
    assert (pixels(page, "b") == (0, 0, 250, 255)).all()


def test_an_opened_file_is_shown_by_its_middle(page: Page, tmp_path: Path) -> None:
    wide = np.zeros((512, 1536, 3), dtype=np.uint8)
    wide[:, 512:1024] = (0, 90, 30)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    page.get_by_label("Open picture A").set_input_files(tmp_path / "wide.png")
    page.locator("#a[aria-label='Picture A: wide.png']").wait_for()
    assert (pixels(page, "a") == (0, 90, 30, 255)).all()


def test_what_is_no_picture_is_said_so(page: Page) -> None:
    before = pixels(page, "mixed")
    drop(page, "#a", **{"notes.txt": b"no picture"})
    page.get_by_text("notes.txt cannot be read as a picture: choose a PNG, JPEG or WebP file.").wait_for()
    assert np.array_equal(pixels(page, "mixed"), before)


def test_no_request_leaves_the_page(page: Page, requests: list[str]) -> None:
    drop(page, "#a", **{"red.png": picture((200, 0, 0, 255))})
    page.locator("#a[aria-label='Picture A: red.png']").wait_for()
    assert page.evaluate("url => fetch(url).then(() => 'sent', () => 'refused')", ORIGIN + "index.html") == "refused"
    files = {url.removeprefix(ORIGIN) for url in requests if not url.startswith(("data:", "blob:"))}
    assert files == {str(path.relative_to(PLAY)) for path in PLAY.rglob("*.*") if path.is_file()}


def test_the_page_works_from_the_disk(browser: Browser) -> None:
    page, problems = browser.new_page(), list[str]()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((PLAY / "index.html").as_uri())
    wait_until_drawn(page)
    assert "% of the pixels are from B" in (page.locator("#share").text_content() or "")
    page.close()
    assert not problems


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_fits_a_phone_and_its_controls_have_names(page: Page, kind: str) -> None:
    choose_kind(page, kind)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 360
    nameless = """() => Array.from(document.querySelectorAll("input, select, button, canvas"))
      .filter(part => !part.labels?.length && !part.ariaLabel && !part.textContent).map(part => part.outerHTML)"""
    assert page.evaluate(nameless) == []


def test_the_focus_is_not_hidden_by_the_image(page: Page) -> None:
    page.locator("[name=kind][value=cow]").focus()
    hidden = """() => document.activeElement.getBoundingClientRect().top
      < document.querySelector(".mixed").getBoundingClientRect().bottom"""
    for key in ["Tab"] * 10 + ["Shift+Tab"] * 10:
        page.keyboard.press(key)
        assert not page.evaluate(hidden), page.evaluate("() => document.activeElement.outerHTML")
