"""Diversity, its curve, and metrics in the forms of some papers: told to MLflow, read back, and shown in their places."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_up_sweep import MadeUpSweep, five_models, home_with_store
from test_leaderboard import board_of, in_memory, recorded
from test_page import checked

from benchbed.cli.report import show_table
from benchbed.reporting.figures_diversity import accuracy_diversity, lambda_curves
from benchbed.reporting.files import to_csv, to_json, to_latex, to_markdown, write_files
from benchbed.reporting.leaderboard import Leaderboard
from benchbed.reporting.page import render_page

WEIGHTS = (0, 0.1, 0.5)


@dataclass
class VariedSweep(MadeUpSweep):
    """Also measures diversity, and reports two more forms of metrics."""

    apply: float | str = 0

    def facts(self):
        facts = super().facts()
        facts["benchmark"]["evaluation"]["metrics"] += ["recall_thudm", "ndcg_thudm"]
        facts["benchmark"]["evaluation"]["diversity"] = {
            "feature": "category",
            "cutoff": 20,
            "lambdas": list(WEIGHTS),
            "uncategorised": "together",
            "apply": self.apply,
        }
        return facts

    def steps(self, folder):
        for call, *arguments in super().steps(folder):
            if call == "closed" and "test" in arguments[2]:
                test = arguments[2]["test"]
                accuracy, start = test["ndcg@20"], 0.4 + test["ndcg@20"]
                test |= {f"{metric}_thudm@{k}": 0.7 * test[f"{metric}@{k}"] for metric in ("recall", "ndcg") for k in (10, 20)}
                test["diversity@20"] = start
                arguments[2]["variety"] = {
                    "feature": "category",
                    "cutoff": 20,
                    "weight": 0.1 if self.apply else 0.0,
                    "curve": [
                        {"lambda": w, "ndcg@20": accuracy * (1 - 0.6 * w * w), "diversity@20": start + 0.5 * w**0.5}
                        for w in WEIGHTS
                    ],
                }
            yield call, *arguments


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    folder = tmp_path_factory.mktemp("varied")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return board_of(recorded(home_with_store(folder / "home"), folder, VariedSweep(five_models(), apply="validation")))


def test_the_curve_is_a_mean_over_seeds(board: Leaderboard) -> None:
    curves = lambda_curves(board.record)
    assert set(curves) == {row.model for row in board.rows}
    row = board.rows[0]
    assert [point.weight for point in curves[row.model]] == list(WEIGHTS)
    for column in ("ndcg@20", "diversity@20"):
        assert curves[row.model][0].values[column] == pytest.approx(row.metrics[column].mean)


def test_the_figure_has_a_line_for_every_model(board: Leaderboard) -> None:
    drawn = accuracy_diversity(board)
    assert drawn.count('class="curve"') == len(board.rows)
    assert drawn.count("<title>") == len(board.rows) * len(WEIGHTS)
    assert drawn.count('class="best"') == len(board.rows)  # the weight behind the rows
    assert "gru4rec, lambda 0.5: ndcg@20 " in drawn


def test_the_page_shows_forms_of_metrics_apart(board: Leaderboard) -> None:
    page = render_page(board)
    checked(page)
    main, _, rest = page.partition('aria-label="Other forms of metrics"')
    assert "What variety costs" in rest and "diversity@20" in main
    assert not re.search(r'<th[^>]*><button type="button"><span>[a-z]+_thudm', main)
    for column in ("recall_thudm@10", "ndcg_thudm@20"):
        assert column not in main.partition("<table")[2].partition("</table>")[0] and column in rest
    assert "nothing was chosen by them" in rest


def test_text_formats_keep_them_apart_and_programs_get_everything(board: Leaderboard, capsys, tmp_path: Path) -> None:
    markdown = to_markdown(board)
    head = next(line for line in markdown.splitlines() if line.startswith("| rank"))
    assert "diversity@20" in head and "thudm" not in head
    assert "| model | recall_thudm@10 |" in markdown and "nothing was chosen by them" in markdown
    assert "thudm" not in to_latex(board) and "diversity@20" in to_latex(board)
    line = next(csv.DictReader(io.StringIO(to_csv(board))))
    assert float(line["ndcg_thudm@20"]) == pytest.approx(0.7 * float(line["ndcg@20"]), abs=1e-5)
    assert float(line["diversity@20"]) > 0.4
    whole = json.loads(to_json(board))
    assert "ndcg_thudm@20" in whole["columns"] and len(whole["variety"]["gru4rec"]) == len(WEIGHTS)
    show_table(next(path for path in write_files(board, tmp_path) if path.suffix == ".csv"), "20")
    assert "thudm" not in capsys.readouterr().out


def test_records_from_before_have_neither() -> None:
    board = in_memory(five_models())
    page = render_page(board)
    assert accuracy_diversity(board) == "" and "What variety costs" not in page and "Other forms of metrics" not in page
    assert json.loads(to_json(board))["variety"] == {}
