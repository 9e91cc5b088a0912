"""A user of DeepBOO's panel under the host."""


class User:
    """Who opened the module and sees its panel."""

    def __init__(self, host, *, makeLogic=None):
        self.host, self.scene = host, host.scene
        self.module = host.open_module("DeepBOO")
        if makeLogic is not None:
            self._reopen(makeLogic)

    def _reopen(self, makeLogic):
        """Put a panel with other logic in the place of the first."""
        from DeepBOOLib.Widget import Panel

        self.module.cleanup()
        layout = self.module.parent.layout()
        layout.itemAt(layout.count() - 1).widget().delete()
        self.module.panel = Panel(self.module.parent, self.module.resourcePath, makeLogic=makeLogic)
        self.module.panel.setup()

    @property
    def panel(self):
        return self.module.panel

    @property
    def ui(self):
        return self.panel.ui

    @property
    def session(self):
        return self.panel.logic.session

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

    def type(self, name, text):
        line = self.host.widget(self.module, name)
        line.setText(text)
        line.editingFinished()
        self.host.process_events()

    def cell(self, name, row, column):
        return getattr(self.ui, name).cellWidget(row, column)

    def why_not(self, name):
        """Why a button is disabled; empty if it is not."""
        button = self.host.widget(self.module, name)
        return "" if button.enabled else button.toolTip

    def structure(self, name):
        table = self.ui.structuresTable
        return next(row for row in range(table.rowCount) if table.item(row, 0).text() == name)
