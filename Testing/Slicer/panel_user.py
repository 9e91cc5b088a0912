"""A user of a panel under the host."""


class User:
    """Who opened a module and sees its panel."""

    def __init__(self, host, module):
        self.host, self.scene = host, host.scene
        self.module = host.open_module(module)

    @property
    def panel(self):
        return self.module.panel

    @property
    def logic(self):
        return self.panel.logic

    @property
    def ui(self):
        return self.panel.frame.ui

    @property
    def session(self):
        return self.logic.session

    @property
    def plan(self):
        return self.session.plan

    @property
    def gantry(self):
        return [b.angles.gantry_deg for b in self.plan.beams]

    @property
    def next_step(self):
        return self.ui.nextStepLabel.text

    @property
    def message(self):
        return self.ui.messageLabel.text

    def click(self, name):
        self.host.click(self.module, name)

    def choose(self, name, node):
        selector = self.host.widget(self.module, name)
        selector.setCurrentNode(node)
        selector.nodeActivated(node)
        self.host.process_events()

    def pick(self, name, text):
        """Choose an entry of a combo box."""
        combo = self.host.widget(self.module, name)
        index = [combo.itemText(n) for n in range(combo.count)].index(text)
        combo.setCurrentIndex(index)
        combo.activated(index)
        self.host.process_events()

    def set(self, control, value):
        control.setValue(value)
        self.host.process_events()

    def check(self, name, on):
        self.host.widget(self.module, name).setChecked(on)
        self.host.process_events()

    def type(self, name, text):
        line = self.host.widget(self.module, name)
        line.setText(text)
        line.editingFinished()
        self.host.process_events()

    def folder(self, path):
        """Write the folder of the export."""
        self.ui.folderEdit.currentPath = str(path)
        self.host.process_events()

    def cell(self, name, row, column):
        """The control in a cell of a table."""
        return getattr(self.ui, name).cellWidget(row, column)

    def rows(self, name):
        """Texts of a table."""
        table = getattr(self.ui, name)
        items = [[table.item(row, column) for column in range(table.columnCount)] for row in range(table.rowCount)]
        return [[item.text() if item is not None else "" for item in row] for row in items]

    def structure(self, name):
        """Row of a structure in DeepBOO's table of them."""
        return [row[0] for row in self.rows("structuresTable")].index(name)

    def why_not(self, name):
        """Why a control is disabled; empty if it is not."""
        control = self.host.widget(self.module, name)
        return "" if control.enabled else control.toolTip

    def show(self):
        """Show the panel anew, after what it works with was changed behind its back."""
        self.panel.frame.show()

    def wait(self, seconds=300):
        """Wait for the work under way."""
        self.host.wait_until(lambda: not self.session.work.is_busy, seconds)
        self.host.process_events()
