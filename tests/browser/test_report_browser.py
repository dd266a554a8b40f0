"""The report in a real browser: the 3D view shows the objects where they belong, and nothing leaves the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.gaussians.pose import pose_from_matrix, transform
from sam3d_gs.gaussians.thinning import Thinning
from sam3d_gs.report.page import write_report
from sam3d_gs.report.view3d import pack_object
from sam3d_gs.types import Gaussians, Phrase
from tests.browser.conftest import Tab
from tests.toy_scene import BALLS, SIZE, Ball, K, report_data

pytestmark = pytest.mark.browser

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_report(root / "report.html", report_data(root))
    return root / "report.html"


def show(tab: Tab, path: Path, state: str = "ready") -> Tab:
    tab.page.goto(path.as_uri())
    tab.page.wait_for_selector(f'#viewer[data-state="{state}"]')
    return tab


def expected(tab: Tab, point: np.ndarray) -> np.ndarray:
    """(2,) CSS pixel of the canvas where the photo's camera shows `point`, the photo fitted into the canvas."""
    box = tab.page.evaluate(
        "(() => { const c = document.querySelector('canvas'); return [c.clientWidth, c.clientHeight]; })()"
    )
    zoom = min(box[0] / SIZE[0], box[1] / SIZE[1])
    pixel = (K @ point)[:2] / point[2]
    return np.asarray((np.array(box) - zoom * np.array(SIZE)) / 2 + zoom * pixel)


def colour_at(tab: Tab, ball: Ball) -> np.ndarray:
    x, y = expected(tab, np.array(ball.centre)).round().astype(int)
    return np.asarray(tab.picture("canvas")[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1)))


def looks_like(colour: np.ndarray, ball: Ball) -> bool:
    return bool(np.abs(colour / 255 - ball.rgb).max() < 0.12)


@pytest.mark.slow
def test_the_objects_are_seen_where_the_photo_has_them(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(), report)
    assert [ball.phrase for ball in BALLS if not looks_like(colour_at(tab, ball), ball)] == []
    assert len(np.unique(tab.picture("canvas").reshape(-1, 3), axis=0)) > 200
    assert tab.page.evaluate("splatViewer.drawn") == sum(ball.gaussians for ball in BALLS)


def test_nothing_leaves_the_page_and_nothing_complains(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(), report)
    for button in ("#swing", "#home"):
        tab.page.click(button)
    tab.page.wait_for_timeout(300)
    assert [url for url in tab.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert tab.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("point", [(0.3, -0.2, 2.5), (-0.9, 0.4, 4.0)])
def test_a_splat_lands_on_its_pixel(open_tab: OpenTab, tmp_path: Path, point: tuple[float, float, float]) -> None:
    """One Gaussian: its picture is centred where K projects its mean, and the page's own projection says the same."""
    speck = Ball("speck", (0.0, 0.0, 0.0), point, 0.5, gaussians=1)
    write_report(tmp_path / "report.html", report_data(tmp_path / "w", [speck]))
    tab = show(open_tab(), tmp_path / "report.html")
    wanted = expected(tab, np.array(point))
    np.testing.assert_allclose(tab.page.evaluate("p => splatViewer.project(p)", list(point)), wanted, atol=0.01)
    darkness = 255.0 - tab.picture("canvas").mean(2)
    darkness[darkness < 60] = 0  # the backdrop
    rows, columns = np.mgrid[: darkness.shape[0], : darkness.shape[1]] + 0.5
    seen = np.array([(darkness * columns).sum(), (darkness * rows).sum()]) / darkness.sum()
    np.testing.assert_allclose(seen, wanted, atol=0.3)


@pytest.mark.slow
def test_a_splat_has_the_width_that_its_scale_says(open_tab: OpenTab, tmp_path: Path) -> None:
    speck = Ball("speck", (0.0, 0.0, 0.0), (0.0, 0.0, 2.5), 0.8, gaussians=1)
    write_report(tmp_path / "report.html", report_data(tmp_path / "w", [speck]))
    tab = show(open_tab(), tmp_path / "report.html")
    centre = expected(tab, np.array(speck.centre))
    zoom = expected(tab, np.array([1.0, 0, 2.5]))[0] - centre[0]  # CSS pixels per scene unit at this depth
    darkness = 255.0 - tab.picture("canvas").mean(2)
    covered = (darkness > darkness.max() / 2).sum()  # half of the peak is reached at sqrt(2 ln 2) sigma
    sigma_px = np.sqrt(covered / np.pi / (2 * np.log(2)))
    assert sigma_px == pytest.approx(0.05 * 1.6 * zoom, rel=0.06)


@pytest.mark.slow
def test_the_page_draws_what_the_renderer_draws(open_tab: OpenTab, tmp_path: Path) -> None:
    """Stretched, turned, overlapping, see-through splats, against the renderer that makes the other pictures."""
    pytest.importorskip("numba", reason="needs numba")
    from sam3d_gs.gaussians.render import Camera, render

    data = report_data(tmp_path, BALLS[:1])
    rng = np.random.default_rng(5)
    quats = rng.normal(size=(150, 4))
    gaussians = Gaussians(
        means=rng.uniform(-1.4, 1.4, (150, 3)).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        log_scales=np.log(rng.uniform(0.01, 0.4, (150, 3))).astype(np.float32),
        opacity_logits=rng.uniform(-2, 3, 150).astype(np.float32),
        sh0=rng.uniform(-1.5, 1.5, (150, 3)).astype(np.float32),
    )
    described = replace(data.objects[0].object, gaussians=150)
    splats = pack_object(Thinning(gaussians), described.T_camera_object, limit=150)
    objects = [replace(data.objects[0], object=described, splats=splats)]
    write_report(tmp_path / "report.html", replace(data, objects=objects))
    tab = show(open_tab(), tmp_path / "report.html")
    tab.page.add_style_tag(content=".stage { background: #fff !important; } .viewer { border: 0 !important; }")
    drawn = tab.picture("canvas")

    height, width = drawn.shape[:2]
    zoom, k = min(width / SIZE[0], height / SIZE[1]), K.copy()
    k[:2] *= zoom
    k[:2, 2] += (np.array([width, height]) - zoom * np.array(SIZE)) / 2
    placed = transform(gaussians, pose_from_matrix(described.T_camera_object))
    wanted = 255 * render(placed, Camera(k, width, height, np.eye(4)), backend="numba").rgb
    inner = (slice(20, -20), slice(20, -20))  # the frame has round corners
    off = np.abs(drawn - wanted)[inner]
    assert np.std(wanted[inner]) > 30
    assert off.mean() < 2.0
    assert np.quantile(off, 0.99) < 12


@pytest.mark.slow
def test_a_switch_takes_its_object_out_of_the_picture(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(), report)
    red, green, blue = BALLS
    tab.page.uncheck('input[data-object="0"]')
    tab.page.mouse.move(2, 2)  # a pointer over a name dims the other objects
    tab.page.wait_for_timeout(300)
    assert not looks_like(colour_at(tab, red), red)
    assert looks_like(colour_at(tab, green), green)
    assert looks_like(colour_at(tab, blue), blue)
    assert tab.page.evaluate("document.querySelector('#everything').indeterminate")
    tab.page.click("#everything")
    tab.page.mouse.move(2, 2)
    tab.page.wait_for_timeout(300)
    assert looks_like(colour_at(tab, red), red)
    tab.page.uncheck('input[data-object="2"]')  # the last and farthest
    tab.page.mouse.move(2, 2)
    tab.page.wait_for_timeout(300)
    assert looks_like(colour_at(tab, red), red)
    assert not looks_like(colour_at(tab, blue), blue)
    tab.page.check("#everything")
    tab.page.uncheck("#everything")
    for _ in range(100):  # the page's policy forbids wait_for_function
        if tab.page.evaluate("splatViewer.drawn") == 0:
            break
        tab.page.wait_for_timeout(100)
    assert tab.page.evaluate("splatViewer.drawn") == 0


@pytest.mark.slow
def test_pointing_at_a_name_dims_the_others(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(), report)
    tab.page.hover('label:has(input[data-object="1"])')
    tab.page.wait_for_timeout(300)
    assert looks_like(colour_at(tab, BALLS[1]), BALLS[1])
    assert not looks_like(colour_at(tab, BALLS[0]), BALLS[0])


@pytest.mark.slow
def test_dragging_turns_and_the_button_goes_back(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(reduced_motion="reduce"), report)
    before = tab.picture("canvas")
    box = tab.page.locator("canvas").bounding_box()
    tab.page.mouse.move(box["x"] + 200, box["y"] + 150)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 320, box["y"] + 170, steps=3)
    tab.page.mouse.up()
    tab.page.wait_for_timeout(300)
    turned = tab.picture("canvas")
    assert np.abs(turned - before).mean() > 5
    R = np.array(tab.page.evaluate("splatViewer.camera.R")).reshape(3, 3)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
    tab.page.click("#home")
    tab.page.wait_for_timeout(300)
    np.testing.assert_array_equal(tab.page.evaluate("splatViewer.camera.eye"), [0, 0, 0])
    assert np.abs(tab.picture("canvas")[50:-50, 50:-50] - before[50:-50, 50:-50]).mean() < 0.5


@pytest.mark.slow
def test_turning_keeps_the_pivot_in_place_and_the_horizon_level(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(), report)
    tab.page.focus("canvas")
    pivot = tab.page.evaluate("splatViewer.camera.pivot")
    before = tab.page.evaluate("p => splatViewer.project(p)", pivot)
    for key in ["ArrowLeft"] * 7 + ["ArrowUp"] * 3:
        tab.page.keyboard.press(key)
    np.testing.assert_allclose(tab.page.evaluate("p => splatViewer.project(p)", pivot), before, atol=1e-6)
    right = np.array(tab.page.evaluate("splatViewer.camera.R"))[:3]
    assert abs(right[1]) < 1e-9  # the picture's x axis stays at right angles to up


@pytest.mark.slow
def test_the_wheel_zooms_only_after_a_click(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(), report)
    box = tab.page.locator("canvas").bounding_box()
    tab.page.mouse.move(box["x"] + 200, box["y"] + 150)
    tab.page.mouse.wheel(0, 50)
    tab.page.wait_for_timeout(200)
    assert tab.page.evaluate("splatViewer.camera.eye") == [0, 0, 0]
    box = tab.page.locator("canvas").bounding_box()  # the page scrolled
    tab.page.mouse.move(box["x"] + 200, box["y"] + 200)
    tab.page.mouse.down()
    tab.page.mouse.up()
    tab.page.mouse.wheel(0, -50)
    tab.page.wait_for_timeout(200)
    assert tab.page.evaluate("splatViewer.camera.eye[2]") > 0.1


@pytest.mark.slow
def test_the_photo_fades_in_over_its_own_view(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(), report)
    tab.page.focus("canvas")
    tab.page.keyboard.press("ArrowLeft")
    tab.page.fill("#fade", "1")
    assert tab.page.evaluate("splatViewer.camera.eye") == [0, 0, 0]
    x, y = expected(tab, np.array(BALLS[0].centre)).round().astype(int)
    photo = tab.picture(".stage")
    assert looks_like(photo[y, x], BALLS[0])
    assert np.abs(photo[20, photo.shape[1] // 2] - 225).max() < 12  # the photo's background, not the backdrop


@pytest.mark.slow
def test_without_webgl_there_is_a_message_and_a_picture(open_tab: OpenTab, report: Path) -> None:
    tab = open_tab()
    tab.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    show(tab, report, "unavailable")
    assert "no WebGL2" in tab.page.inner_text(".notice")
    assert tab.page.is_visible(".fallback img")
    assert not tab.page.is_visible(".controls")
    assert tab.complaints == []


@pytest.mark.slow
def test_without_javascript_all_but_the_3d_view_is_there(open_tab: OpenTab, report: Path) -> None:
    tab = open_tab(java_script_enabled=False)
    tab.page.goto(report.as_uri())
    text = tab.page.locator("body").inner_text()
    assert [ball.phrase for ball in BALLS if ball.phrase not in text] == []
    assert tab.page.locator(".fallback img").is_visible()
    assert not tab.page.locator(".controls").is_visible()


@pytest.mark.slow
def test_a_hostile_phrase_stays_text(open_tab: OpenTab, tmp_path: Path) -> None:
    hostile = "</script><script>hacked = 1; alert(1)</script><img src=https://evil.example/x onerror='hacked = 1'>"
    data = report_data(tmp_path / "w", [replace(BALLS[0], phrase=hostile)])
    write_report(tmp_path / "report.html", replace(data, phrases=[Phrase(0, hostile)]))
    tab = show(open_tab(), tmp_path / "report.html")
    assert tab.page.evaluate("typeof hacked") == "undefined"
    assert hostile in tab.page.inner_text(".toggles label:last-child")
    assert [url for url in tab.requests if "evil" in url] == []
    assert tab.complaints == []


@pytest.mark.slow
def test_the_policy_stops_what_would_get_through(open_tab: OpenTab, report: Path, tmp_path: Path) -> None:
    """As if escaping had failed: foreign script and pictures in the page are not run and not asked for."""
    broken = tmp_path / "report.html"
    evil = "<script>hacked = 1</script><img src='https://evil.example/x'></body>"
    broken.write_text(report.read_text(encoding="utf-8").replace("</body>", evil), encoding="utf-8")
    tab = show(open_tab(), broken)
    assert tab.page.evaluate("typeof hacked") == "undefined"
    assert len(tab.complaints) == 2
    assert all("Content Security Policy" in text for text in tab.complaints)


@pytest.mark.slow
def test_the_policy_keeps_links_and_forms_at_home(open_tab: OpenTab, report: Path, tmp_path: Path) -> None:
    """As if escaping had failed: a foreign base does not turn links, and a form sends nothing."""
    broken = tmp_path / "report.html"
    evil = "<base href='https://evil.example/'><form action='https://evil.example/'><button id=go>Go</button></form>"
    broken.write_text(report.read_text(encoding="utf-8").replace("</body>", evil + "</body>"), encoding="utf-8")
    tab = show(open_tab(), broken)
    assert tab.page.evaluate("document.baseURI") == broken.as_uri()
    tab.page.evaluate("document.querySelector('#go').form.requestSubmit()")
    tab.page.wait_for_timeout(300)
    assert [url for url in tab.requests if "evil" in url] == []
    assert ["base-uri" in tab.complaints[0], "form-action" in tab.complaints[1]] == [True, True], tab.complaints


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (768, "dark"), (1400, "dark")])
def test_no_width_needs_sideways_scrolling(open_tab: OpenTab, report: Path, width: int, scheme: str) -> None:
    tab = show(open_tab(width, 800, color_scheme=scheme), report)
    assert tab.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    paper = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == (scheme == "dark")
    assert looks_like(colour_at(tab, BALLS[0]), BALLS[0])


@pytest.mark.slow
def test_two_fingers_zoom_and_one_turns(open_tab: OpenTab, report: Path) -> None:
    tab = show(open_tab(400, 800, has_touch=True), report)
    tab.page.evaluate(
        """() => {
          const canvas = document.querySelector("canvas");
          canvas.setPointerCapture = () => {};
          const send = (kind, id, x, y) => canvas.dispatchEvent(new PointerEvent(kind,
            { pointerId: id, pointerType: "touch", clientX: x, clientY: y, buttons: 1, bubbles: true }));
          send("pointerdown", 1, 150, 200); send("pointerdown", 2, 250, 200);
          send("pointermove", 1, 100, 200); send("pointermove", 2, 300, 200);
          send("pointerup", 1, 100, 200); send("pointerup", 2, 300, 200);
        }"""
    )
    eye, pivot = (np.array(tab.page.evaluate(f"splatViewer.camera.{name}")) for name in ("eye", "pivot"))
    start = np.linalg.norm(np.array(pivot))
    assert np.linalg.norm(pivot - eye) == pytest.approx(start / 2, rel=0.02)


def until(tab: Tab, condition: str) -> None:
    """Wait for a JavaScript condition. Playwright's own way evaluates text in the page, which its policy forbids."""
    for _attempt in range(200):
        if tab.page.evaluate(condition):
            return
        tab.page.wait_for_timeout(100)
    raise AssertionError(f"never true: {condition}")


@pytest.mark.slow
def test_a_slow_machine_draws_fewer_splats_while_the_camera_moves(open_tab: OpenTab, report: Path) -> None:
    tab = open_tab()
    slow = """(() => {  // every look at the clock finds it a second later
      let late = 0;
      const now = performance.now.bind(performance);
      performance.now = () => now() + 1000 * late++;
    })()"""
    tab.page.add_init_script(slow)
    show(tab, report)
    total = tab.page.evaluate("splatViewer.drawn")
    tab.page.focus("canvas")
    drawn = tab.page.evaluate(
        """() => new Promise((done) => {
          const seen = [];
          const press = () => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
          press();
          const frame = () => {
            seen.push(splatViewer.drawn);
            if (seen.length < 6) { press(); requestAnimationFrame(frame); } else done(seen);
          };
          requestAnimationFrame(frame);
        })"""
    )
    assert min(drawn) < total / 20
    until(tab, f"splatViewer.drawn === {total}")  # once it rests, all of them
