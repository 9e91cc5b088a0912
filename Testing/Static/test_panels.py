"""The panels' .ui files against the code that uses them, and texts that can be translated."""

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
MODULES = ("DeepBOO", "DeepFluence")
SHARED = ROOT / "src/deeprt_slicer"
CODE = sorted(p for folder in (*(ROOT / m for m in MODULES), SHARED) for p in folder.rglob("*.py"))

# What a user does not operate, so that code need not name it.
PASSIVE = {
    "qMRMLWidget", "QWidget", "QLabel", "QFrame", "Line", "QGroupBox", "QScrollArea", "QSplitter", "QStackedWidget",
    "QTabWidget", "ctkCollapsibleButton", "ctkCollapsibleGroupBox", "ctkExpandableWidget",
}  # fmt: skip
SPEAK_FOR_THEMSELVES = {"QTableWidget", "QTextBrowser", "QPlainTextEdit", "QListWidget", "QProgressBar"}  # in a section
OWN_TEXT = {"text", "title", "prefix"}
LONGEST_UNIT = 3  # a longer suffix is a word, such as "beams"


def tree_of(module):
    path = ROOT / module / f"Resources/UI/{module}.ui"
    assert path.is_file(), f"{path.relative_to(ROOT)} is missing"
    return ElementTree.parse(path)


def property_of(element, name):
    """Text of a property of a widget; empty without one."""
    found = element.find(f"property[@name='{name}']")
    return "" if found is None else "".join(found.itertext()).strip()


def widgets(module):
    """Widgets of a panel by name, but for its root."""
    return {w.get("name"): w for w in tree_of(module).getroot().find("widget").iter("widget")}


def controls(module):
    """Widgets that a user operates or reads, by name."""
    return {name: w for name, w in widgets(module).items() if w.get("class") not in PASSIVE}


def names_used(folder):
    """Widgets that code below a folder takes from a `ui`, with a file that does."""
    used = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and is_ui(node.value):
                used[node.attr] = path.relative_to(ROOT)
    return used


def is_ui(node):
    return (isinstance(node, ast.Name) and node.id in {"ui", "_ui"}) or (
        isinstance(node, ast.Attribute) and node.attr in {"ui", "_ui"}
    )


@pytest.mark.parametrize("module", MODULES)
def test_every_widget_that_code_names_is_in_the_panel(module):
    used = {**names_used(ROOT / module), **names_used(SHARED)}
    assert used
    assert {name: str(path) for name, path in used.items() if name not in widgets(module)} == {}


@pytest.mark.parametrize("module", MODULES)
def test_every_control_of_the_panel_is_used_by_code(module):
    used = {**names_used(ROOT / module), **names_used(SHARED)}
    assert sorted(set(controls(module)) - set(used)) == []


@pytest.mark.parametrize("module", MODULES)
def test_names_in_the_panel_are_unique_and_made_by_hand(module):
    named = [w.get("name") for w in tree_of(module).getroot().find("widget").iter("widget") if w.get("name")]
    assert sorted({n for n in named if named.count(n) > 1}) == []
    assert [n for n in controls(module) if n is None or n.rpartition("_")[2].isdigit()] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_control_has_a_tooltip(module):
    assert [name for name, w in controls(module).items() if not property_of(w, "toolTip")] == []


def labeled(module):
    """Names of widgets before which a text stands in the same row: a label, or a button or box that they belong to."""
    found = set()
    for layout in tree_of(module).getroot().iter("layout"):
        rows = {}
        for number, item in enumerate(layout.findall("item")):
            row = item.get("row", number if layout.get("class") == "QVBoxLayout" else 0)
            rows.setdefault(row, []).append(item)
        for items in rows.values():
            texts = (n for n, i in enumerate(items) if (w := i.find("widget")) is not None and property_of(w, "text"))
            first = next(texts, len(items))
            found |= {w.get("name") for item in items[first + 1 :] for w in item.iter("widget")}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_control_has_a_label_or_a_text(module):
    def says_what_it_is(name, widget):
        return (
            name in labeled(module)
            or widget.get("class") in SPEAK_FOR_THEMSELVES
            or any(property_of(widget, p) for p in OWN_TEXT)
            or len(property_of(widget, "suffix")) > LONGEST_UNIT
        )

    assert [name for name, w in controls(module).items() if not says_what_it_is(name, w)] == []


@pytest.mark.parametrize("module", MODULES)
def test_numbers_in_the_panel_have_a_unit(module):
    """A spin box or slider shows its unit behind the number; where there is none, the tooltip says *no unit*."""
    numbers = {"QDoubleSpinBox", "ctkSliderWidget", "ctkDoubleSpinBox", "qMRMLSliderWidget"}
    without = [
        name
        for name, w in controls(module).items()
        if w.get("class") in numbers and not property_of(w, "suffix") and "no unit" not in property_of(w, "toolTip")
    ]
    assert without == []


@pytest.mark.parametrize("module", MODULES)
def test_the_panel_says_that_it_is_for_research(module):
    assert "for research, not for clinical use" in "".join(tree_of(module).getroot().itertext()).lower()


SETTERS = {
    "setText", "setToolTip", "setWindowTitle", "setTitle", "setPlaceholderText", "setStatusTip", "setLabelText",
    "setHorizontalHeaderLabels", "setHeaderLabels", "setItemText", "addItem", "addItems", "addAction", "addRow",
    "addTab", "errorDisplay", "infoDisplay", "warningDisplay", "confirmOkCancelDisplay", "confirmYesNoDisplay",
    "showStatusMessage", "QLabel", "QPushButton", "QCheckBox", "QAction", "QTableWidgetItem", "QGroupBox", "QMenu",
    "getOpenFileName", "getSaveFileName", "getExistingDirectory", "getText",
}  # fmt: skip
PROPERTIES = {"text", "toolTip", "title", "placeholderText", "windowTitle", "statusTip", "suffix", "prefix"}


UNTRANSLATED = re.compile(r"[\w/-]*\.\w+|\W*(Gy|MU|mm|s)\W*")  # names of files, units


def literals(node):
    """Texts with letters that stand in an expression as they are, outside a call."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if any(c.isalpha() for c in node.value) and not UNTRANSLATED.fullmatch(node.value):
            yield node.value
    elif isinstance(node, ast.JoinedStr | ast.List | ast.Tuple):
        for part in node.values if isinstance(node, ast.JoinedStr) else node.elts:
            yield from literals(part)
    elif isinstance(node, ast.BinOp):
        yield from (*literals(node.left), *literals(node.right))
    elif isinstance(node, ast.IfExp):
        yield from (*literals(node.body), *literals(node.orelse))


def called(node):
    """Last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def untranslated(tree):
    """Texts that are shown without having gone through `_`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node.func) in SETTERS:
            shown = [*node.args, *(k.value for k in node.keywords if k.arg in {"text", "windowTitle"})]
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Attribute) and t.attr in PROPERTIES for t in node.targets
        ):
            shown = [node.value]
        else:
            continue
        for each in shown:
            yield from ((node.lineno, text) for text in literals(each))


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_texts_that_a_user_reads_can_be_translated(path):
    assert list(untranslated(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_texts_to_translate_are_known_before_the_program_runs(path):
    """`_` of anything but a literal finds no translation; what changes is filled in afterwards with format."""
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    tr = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id == "_"]
    assert [ast.unparse(n) for n in tr if not isinstance(n.args[0], ast.Constant)] == []


def test_a_text_that_was_forgotten_is_found():
    """The check above, checked."""
    forgotten = "a.setText('Beams')\na.toolTip = f'{n} beams'\nqt.QLabel(_('Beams'))\na.text = _('{n} Gy').format(n=2)"
    assert sorted(untranslated(ast.parse(forgotten))) == [(1, "Beams"), (2, " beams")]


def test_the_check_list_names_controls_and_pictures_that_exist():
    """What the tables of Docs/slicer.md print in bold stands in a panel."""
    document = (ROOT / "Docs/slicer.md").read_text(encoding="utf-8")
    rows = [line for line in document.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) > 20
    shown = {"".join(p.itertext()).strip() for m in MODULES for p in tree_of(m).getroot().iter("property")}
    assert {name for row in rows for name in re.findall(r"\*\*(.+?)\*\*", row)} - shown == set()
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", document)
    assert [p for p in pictures if not (ROOT / "Docs" / p).is_file()] == []


def test_the_test_that_runs_in_slicer_names_widgets_that_exist():
    tree = ast.parse((ROOT / "Testing/Slicer/DeepRTWorkflowTest.py").read_text(encoding="utf-8"))
    named = {node.attr: ast.unparse(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for panel, module in {"self.boo": "DeepBOO", "self.fluence": "DeepFluence"}.items():
        used = {name for name, owner in named.items() if owner in {panel, "ui"}}
        assert used
        assert used - set(widgets(module)) == set()
