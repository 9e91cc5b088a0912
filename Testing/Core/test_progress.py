"""Progress reaches terminal, JSON lines and caller."""

import io
import json

from deeprt.progress import Bars, JsonLines, Silent


def test_json_lines_are_one_object_each_with_time_that_never_falls():
    stream = io.StringIO()
    progress = JsonLines(stream)
    progress.step("dose influence", 0.123456, "Beam 1 of 3")
    progress.step("fluence", 1.0)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert {key: first[key] for key in ("step", "fraction", "message")} == {
        "step": "dose influence",
        "fraction": 0.1235,
        "message": "Beam 1 of 3",
    }
    assert (second["step"], second["fraction"], second["message"]) == ("fluence", 1.0, "")
    assert 0 <= first["elapsed_s"] <= second["elapsed_s"]


def test_json_lines_go_to_standard_output_by_default(capsys):
    JsonLines().step("beams", 0.5)
    out, err = capsys.readouterr()
    assert json.loads(out)["step"] == "beams"
    assert err == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_show_each_step_with_percentage_and_message_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Bars() as progress:
        progress.step("beams", 1.0)
        progress.step("fluence", 0.4, "objective 3.2")
        progress.step("fluence", 1.7)
    text = terminal.getvalue()
    assert "beams" in text and "fluence" in text
    assert " 40%" in text and "objective 3.2" in text
    assert "170%" not in text


def test_bars_write_nothing_where_there_is_no_terminal(capsys):
    with Bars() as progress:
        progress.step("beams", 0.5)
        progress.step("fluence", 1.0)
    assert capsys.readouterr() == ("", "")


def test_silence_reports_nothing(capsys):
    Silent().step("beams", 0.5, "message")
    assert capsys.readouterr() == ("", "")
