import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made_up_sweep import Model, five_models
from test_leaderboard import in_memory

from benchbed.reporting.figures import cost_quality
from benchbed.reporting.files import write_files
from benchbed.reporting.page import render_page

VOID = {"meta", "link", "input", "br", "wbr"}
TWELVE = [
    Model(
        name,
        0.05 + 0.01 * n,
        baseline=n < 3,
        counting=n < 3,
        trials=4,
        variant="a variant with a long label" if n == 4 else "authors",
    )
    for n, name in enumerate(
        ["popularity", "ease", "a" * 80, *(f"model_{n}" for n in range(8)), "<script>alert('x')</script>&\"'"]
    )
]


class Checker(HTMLParser):
    """Every tag is closed in order; addresses are collected."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.texts, self.ids = [], [], [], []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.addresses += [
            (tag, name, value) for name, value in named.items() if name in ("src", "href", "srcset", "xlink:href")
        ]
        if "id" in named:
            self.ids.append(named["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        if tag in VOID:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]} at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)


def checked(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


BOARDS = {
    "five": lambda: in_memory(five_models()),
    "twelve": lambda: in_memory(TWELVE, split_seeds=(1, 2)),
    "one": lambda: in_memory([Model("gru4rec", trials=2)], seeds=(1,)),
    "no finals": lambda: in_memory([Model("a", finals=False), Model("b", finals=False, baseline=True)], finished=False),
    "nothing yet": lambda: in_memory([Model("a", trials=0, finals=False)], finished=False),
    "all failed": lambda: in_memory([Model("a", trials=3, failed_trials=3, nan_seed=1, failed_seed=2)], seeds=(1, 2)),
    "troubled": lambda: in_memory(
        [Model("a", nan_seed=1, failed_trials=3), Model("b", failed_seed=2), Model("c", finals=False)]
    ),
}


@pytest.fixture(scope="module", params=BOARDS)
def page(request):
    return render_page(BOARDS[request.param]())


def test_the_page_is_whole_small_and_asks_nobody_for_anything(page):
    found = checked(page)
    assert len(page) < 400_000
    for tag, name, value in found.addresses:
        assert value.startswith(("#", "data:")) or (tag == "a" and value.startswith("https://")), (tag, name, value)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(|sendBeacon|WebSocket", page)
    assert len(found.ids) == len(set(found.ids))
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|in nan|ended in nan|: nan", "", " ".join(found.texts).lower()).split()


def test_every_link_inside_the_page_leads_somewhere():
    found = checked(render_page(BOARDS["five"]()))
    assert {value[1:] for tag, _, value in found.addresses if tag == "a" and value.startswith("#")} <= set(found.ids)


def test_names_are_escaped_everywhere():
    page = render_page(BOARDS["twelve"]())
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert page.count("<script>") == 1


def test_the_page_says_what_a_reader_must_know():
    board = in_memory(five_models(), declared_trials=4)
    log = board.record.notes["openings"]["user_disjoint-42"]
    again = [{**opening, "repeated": n == 3} for n, opening in enumerate(log)]
    others = [{**opening, "sweep": "another"} for opening in log]
    notes = {**board.record.notes, "openings": {"user_disjoint-42": [*again, *others]}}
    board = replace(board, record=replace(board.record, notes=notes))
    words = " ".join(" ".join(checked(render_page(board)).texts).split())
    for expected in (
        "Not evidence",
        "gru4rec has the highest ndcg@20",
        "Items of the full history are excluded",
        "46.9 % of the training events are later",
        "11 openings, of which 1 repeated",
        "nan at the first epoch",
        "RecSys 2016",
        "random_cut",
        "fold-in",
        board.record.facts["protocol_fingerprint"],
        "torch 2.13.0",
        "benchbed sweep made-up",
        "on validation",
        f"{board.comparison.smallest_detectable:.4f} would be found four times in five",
        "Split seeds 42; training seeds 1, 2, 3",
        "seen_items: exclude",
        "test under this protocol, seen targets 17",
        "repeated pairs 3 60 000 2000 1000",
        "Bazaar (simulated)",
    ):
        assert expected in words, expected
    assert "odd 9" not in words


def test_an_unfinished_sweep_says_so():
    words = " ".join(checked(render_page(BOARDS["no finals"]())).texts)
    assert "This sweep is not finished" in words and "No model has a test result yet." in words


def test_figures_hold_no_broken_numbers():
    for make in BOARDS.values():
        for drawing in re.findall(r"<svg.*?</svg>", render_page(make()), re.DOTALL):
            numbers = re.findall(r'(?:cx|cy|x1|x2|y1|y2|x|y|d)="([^"]*)"', drawing)
            assert not any(word in text for text in numbers for word in ("nan", "inf"))


def test_names_beside_dots_that_lie_close_together_cover_neither_each_other_nor_a_dot():
    qualities = [0.01, 0.5, *(0.1 + 0.0001 * n for n in range(12))]
    models = [Model(f"a_model_of_kind_{n}", quality, trials=2, seed_noise=0.00001) for n, quality in enumerate(qualities)]
    drawing = cost_quality(in_memory(models))
    found = re.findall(r'<text x="([^"]*)" y="([^"]*)" text-anchor="(start|end)" class="label"[^>]*>([^<]*)<', drawing)
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([^"]*)" cy="([^"]*)" r="5"', drawing)]
    boxes = []
    for x, y, anchor, words in found:
        left = float(x) - (7 * len(words) if anchor == "end" else 0)
        boxes.append((left, left + 7 * len(words), float(y)))
    assert len(boxes) == len(dots) == 14
    for n, (left, right, at) in enumerate(boxes):
        assert not any(abs(at - up) < 11 and left < b and a < right for a, b, up in boxes[:n])
        assert not any(at - 9 < y < at and left < x < right for x, y in dots)


def test_files_replace_each_other_as_a_whole(tmp_path):
    first = write_files(BOARDS["one"](), tmp_path)
    second = write_files(BOARDS["five"](), tmp_path)
    assert first == second and sorted(tmp_path.iterdir()) == sorted(first)
    assert json.loads((tmp_path / "leaderboard.json").read_text())["rows"][0]["model"] == "gru4rec"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_sorts_the_table_and_reports_no_error(tmp_path):
    page = render_page(BOARDS["five"]())
    probe = """<script>
    const errors = []; addEventListener("error", e => errors.push(e.message));
    addEventListener("load", () => {
      const board = document.querySelector(".board"), heads = [...board.tHead.rows[0].cells];
      const order = () => [...board.tBodies[0].rows].map(row => row.cells[1].dataset.value);
      const press = name => heads.find(head => head.innerText.startsWith(name)).querySelector("button").click();
      const visible = () => heads.filter(head => !head.hidden).map(head => head.innerText.split("\\n")[0]);
      const result = {before: order(), shown: visible(), wide: document.documentElement.scrollWidth > innerWidth};
      press("Rank"); result.ranked = order();
      press("Size"); result.sized = order();
      document.querySelector("input[value='10']").click(); result.other = visible();
      document.body.innerHTML = "<pre id=result></pre>";
      document.getElementById("result").textContent = JSON.stringify({errors, ...result});
    });
    </script></body>"""
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", probe))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --virtual-time-budget=3000 --window-size=420,900 --dump-dom"
    done = subprocess.run(
        ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = json.loads(
        re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)[1].replace("&gt;", ">").replace("&lt;", "<")
    )
    assert found["errors"] == [] and not found["wide"]
    assert found["before"] == found["ranked"] and found["sized"][0] == "popularity" and found["sized"][-1] == "ease"
    assert "recall@20" in found["shown"] and "recall@10" not in found["shown"]
    assert "recall@10" in found["other"] and "recall@20" not in found["other"] and "ndcg@20" in found["other"]


def test_one_training_seed_tests_no_difference_and_splits_are_a_spread_of_their_own():
    models = [Model("a", 0.2), Model("b", 0.1, baseline=True, counting=True)]
    single = render_page(in_memory(models, seeds=(1,)))
    assert "cannot be tested" in single and "cannot be told apart from" not in single.split("Leaderboard</h2>")[0]
    assert "deviation over training seeds." in single
    assert "deviation over training seeds and splits." in render_page(in_memory(models, split_seeds=(1, 2)))


def test_names_that_are_too_long_can_still_be_told_apart():
    from benchbed.reporting.figures import _cut

    names = ("gru4rec_recpack_ns", "gru4rec_recpack_ce", "gru4rec_official", "gru4rec_official_bprmax")
    cut = {_cut(name, 14) for name in names}
    assert len(cut) == 4 and all(len(name) == 14 for name in cut)
    assert _cut("gru4rec", 14) == "gru4rec"


def test_a_column_of_which_no_row_has_a_value_is_left_out():
    board = in_memory([Model("a"), Model("b")])
    assert "Coverage" in render_page(board)
    one, other = (replace(row, coverage=None) for row in board.rows)
    assert "Coverage" in render_page(replace(board, rows=(one, board.rows[1])))
    assert "Coverage" not in render_page(replace(board, rows=(one, other)))
