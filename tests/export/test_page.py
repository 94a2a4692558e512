"""The exported page in a real Chromium, served by `python -m http.server`."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from browser import DESKTOP, PHONE, chromium, python_server, server
from facegan.models.architectures import Generator
from facegan.models.sampling import generate
from facegan.sample.latents import latents, slerp

pytestmark = pytest.mark.e2e

PIXELS = """canvas => Array.from(
    canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"""

# What docs/sharing.md tells hosts with a policy of their own.
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(exported: Path) -> Iterator[str]:
    with python_server(exported) as found:
        yield found


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    with browser.new_page(viewport=request.param) as found:
        yield found


@pytest.fixture
def wide(browser: Browser) -> Iterator[Page]:
    with browser.new_page(viewport=DESKTOP) as found:
        yield found


def shown(page: Page, selector: str = "#face") -> NDArray[np.uint8]:
    """The pixels of a canvas: uint8 (32, 32, 3)."""
    colours = np.array(page.locator(selector).evaluate(PIXELS), np.uint8).reshape(32, 32, 4)
    assert (colours[..., 3] == 255).all()
    return colours[..., :3]


def drawn(network: Generator, z: torch.Tensor) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = next(generate(network, z))[0].numpy()
    return image


def show(page: Page, address: str, state: str, caption: str) -> None:
    page.goto(f"{address}#{state}")
    expect(page.locator("#caption")).to_have_text(caption, timeout=60_000)


def is_near(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    return bool(np.abs(a.astype(int) - b).max() <= 1)


def test_a_seed_is_the_image_of_python_and_no_other_host_is_asked(
    page: Page, address: str, network: Generator
) -> None:
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.on("console", lambda message: asked.append(message.text))
    show(page, address, "seed=17&to=4&morph=0", "Seed 17")
    expected = drawn(network, latents([17], 12))
    assert expected.std() > 20
    assert is_near(shown(page), expected)
    expect(page.locator("#random-faces [data-drawn]")).to_have_count(12)
    button = page.locator("#random-faces button").first
    seed = int(button.get_attribute("data-seed") or "")
    small = shown(page, "#random-faces button:first-child canvas")
    assert is_near(small, drawn(network, latents([seed], 12)))
    assert {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/" for url in asked} == {address}
    assert page.viewport_size
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_the_sliders_morph_and_truncate_as_python_does(
    page: Page, address: str, network: Generator
) -> None:
    show(page, address, "seed=17&to=4&morph=0", "Seed 17")
    morph, truncation = page.get_by_label("Morph", exact=True), page.locator("#truncation")
    box = morph.bounding_box()
    assert box
    page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
    page.mouse.down()
    caption = page.locator("#caption")
    for step in range(1, 5):  # while it is dragged, not only at the end
        before = caption.inner_text()
        page.mouse.move(box["x"] + step / 5 * box["width"], box["y"] + box["height"] / 2)
        expect(caption).not_to_have_text(before)
    page.mouse.up()
    morph.focus()
    page.keyboard.press("Home")
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    expect(caption).to_have_text("30% of the way from seed 17 to seed 4")
    z = latents([17, 4], 12)
    assert is_near(shown(page), drawn(network, slerp(z[0], z[1], torch.tensor([0.3]))))
    truncation.fill("1.5")
    text = "30% of the way from seed 17 to seed 4, truncation 1.5"
    expect(caption).to_have_text(text)
    z = latents([17, 4], 12, 1.5)
    assert is_near(shown(page), drawn(network, slerp(z[0], z[1], torch.tensor([0.3]))))
    expect(page.locator("#random-faces [data-drawn]")).to_have_count(12)
    assert page.url.endswith("#seed=17&to=4&morph=30&truncation=1.5")


def test_a_random_image_is_reached_with_the_keyboard_and_saved(wide: Page, address: str) -> None:
    wide.emulate_media(reduced_motion="reduce")
    show(wide, address, "seed=17&to=4&morph=0", "Seed 17")
    wide.locator("#from").focus()
    order = []
    for _ in range(8):
        wide.keyboard.press("Tab")
        order.append(wide.evaluate("document.activeElement.id || document.activeElement.title"))
    assert order[:6] == ["to", "morph", "truncation", "new-face", "download", "more-faces"]
    wide.keyboard.press("Enter")
    expect(wide.locator("#caption")).to_have_text(order[7])
    assert wide.locator("#from").input_value() == "17"
    with wide.expect_download() as download:
        wide.get_by_role("button", name="Save PNG").click()
    seed = order[7].removeprefix("Seed ")
    assert download.value.suggested_filename.endswith(f"-Seed-{seed}.png")
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_an_invalid_seed_says_what_is_valid(wide: Page, address: str) -> None:
    show(wide, address, "seed=17&to=4&morph=0", "Seed 17")
    for text in ("", "-1", "1.5", "4294967296"):
        wide.locator("#from").fill(text)
        message = "A seed is a whole number from 0 to 4294967295"
        expect(wide.locator("#caption")).to_have_text(message)
        wide.locator("#from").fill("4294967295")
        expect(wide.locator("#caption")).to_have_text("Seed 4294967295")


def test_an_invalid_address_still_draws(wide: Page, address: str) -> None:
    show(wide, address, "seed=17&to=4&morph=0", "Seed 17")
    for state, expected in (
        ("seed=3&to=-1&morph=y&truncation=z", "Seed 3"),
        ("seed=4&to=5&morph=300&truncation=9", "Seed 5"),
        ("seed=6&to=7&morph=-1&truncation=-1", "Seed 6, truncation 0.1"),
    ):
        wide.evaluate("state => { location.hash = state; }", state)
        expect(wide.locator("#caption")).to_have_text(expected)
    wide.evaluate("location.hash = 'seed=x&to=&truncation=2'")
    expect(wide.locator("#caption")).to_have_text(re.compile(r"^Seed \d+, truncation 2\.0$"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("generator.onnx", "generator.onnx: the server answers 404"),
        ("generator.json", "generator.json: the server answers 404"),
        ("onnxruntime-web/ort.wasm.gz", "onnxruntime-web/ort.wasm.gz: the server answers 404"),
        ("onnxruntime-web/ort.js", "its script does not run in this browser"),
    ],
)
def test_a_missing_file_is_named_on_the_page(
    name: str, reason: str, wide: Page, exported: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path / "page")
    (tmp_path / "page" / name).unlink()
    with server(tmp_path / "page", {}) as address:
        wide.goto(address)
        expect(wide.get_by_role("alert")).to_contain_text(reason, timeout=60_000)
        expect(wide.locator("#new-face")).to_be_hidden()


@pytest.mark.faults
def test_a_damaged_generator_is_an_error_on_the_page(
    wide: Page, exported: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path / "page")
    path = tmp_path / "page" / "generator.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with server(tmp_path / "page", {}) as address:
        wide.goto(address)
        alert = wide.get_by_role("alert")
        expect(alert).to_contain_text("The generator cannot be loaded: ", timeout=60_000)


def test_without_webassembly_the_page_says_so(wide: Page, exported: Path) -> None:
    with server(exported, {"Content-Security-Policy": "script-src 'self'"}) as address:
        wide.goto(address)
        alert = wide.get_by_role("alert")
        expect(alert).to_contain_text("WebAssembly", timeout=60_000)


@pytest.mark.faults
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"},
        {
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Embedder-Policy": "require-corp",
        },
        {"Content-Encoding": "gzip"},
    ],
    ids=["strict", "isolated", "decompressed by the browser"],
)
def test_other_hosts_headers_change_nothing(
    headers: dict[str, str], wide: Page, exported: Path, network: Generator
) -> None:
    with server(exported, headers) as address:
        show(wide, address, "seed=17&to=4&morph=0", "Seed 17")
        assert is_near(shown(wide), drawn(network, latents([17], 12)))


def test_opened_as_a_file_the_page_says_what_it_needs(wide: Page, exported: Path) -> None:
    wide.goto((exported / "index.html").as_uri())
    expect(wide.locator("#loading")).to_contain_text("it cannot be opened as a file")
    expect(wide.locator("#loading")).to_be_visible()
