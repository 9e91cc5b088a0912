"""A user of DeepFluence's panel under the host, and a stand-in for what the panel works with."""


class User:
    """Who opened the module and sees its panel."""

    def __init__(self, host):
        self.host, self.scene = host, host.scene
        self.module = host.open_module("DeepFluence")

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
    def planning(self):
        return self.panel.logic.planning

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

    def rows(self, name):
        """Texts of a table."""
        table = getattr(self.ui, name)
        items = [[table.item(row, column) for column in range(table.columnCount)] for row in range(table.rowCount)]
        return [[item.text() if item is not None else "" for item in row] for row in items]

    def why_not(self, name):
        """Why a control is disabled; empty if it is not."""
        control = self.host.widget(self.module, name)
        return "" if control.enabled else control.toolTip

    def wait(self, seconds=300):
        """Wait for the work under way."""
        self.host.wait_until(lambda: not self.session.work.is_busy, seconds)
        self.host.process_events()


class FakePlanning:
    """Does nothing and remembers what it was asked to do.

    Parameters
    ----------
    session : whose work `start` starts, if it is set
    """

    def __init__(self, session):
        self.session = session
        self.calls, self.reasons, self.states = [], {}, {}
        self.error = None  # raised by whatever is asked for
        self.start = lambda: None  # called by whatever starts work
        self.wish = "optimize"
        self.wished_node = self.dose_node = self.difference_node = self.dvh_chart = None
        self.metric_rows = self.goal_rows = self.gamma_rows = self.fluence = self.references = ()
        self.plan_segments, self.assumptions = None, ()
        self.picture = None  # bytes of a PNG

    def why_not(self, action):
        return self.reasons.get(action) or self.session.why_not_ready()

    def stage_state(self, stage):
        from deeprt_mrml.fluence_stages import StageState

        return self.states.get(stage, StageState.MISSING)

    def why_not_current(self, stage):
        return self.reasons.get(stage, "")

    def set_wish(self, wish):
        self._do("set_wish", wish)
        self.wish = wish

    def set_beams(self, angles):
        from deeprt.orientation.session import SessionBeam

        self._do("set_beams", *angles)
        locked = {b.angles for b in self.session.plan.beams if b.locked}
        self.session.plan.beams = [SessionBeam(a, a in locked) for a in angles]

    def read_plan(self, path):
        self._do("read_plan", path)
        return ("Its bolus is left out.",)

    def start_prediction(self):
        self._start("prediction")

    def start_optimization(self):
        self._start("optimization")

    def start_refinement(self, n_iterations):
        self._start("refinement", n_iterations)

    def start_sequencing(self):
        self._start("sequencing")

    def start_dose(self):
        self._start("dose")

    def start_comparison(self):
        self._start("comparison")

    def start_all(self):
        self._start("all")

    def start_export(self, folder, *, eclipse_fluence=False, overwrite=False):
        self._start("export", folder, eclipse_fluence, overwrite)

    def maps(self):
        return self.fluence

    def reference_maps(self):
        return self.references

    def set_reference_maps(self, maps):
        self._do("set_reference_maps", *maps)
        self.references = tuple(maps)

    def read_reference_plan(self, path):
        self._do("read_reference_plan", path)
        self.references = self.fluence
        return ()

    def write_thumbnails(self, path):
        for file in (path, path.with_name(f"{path.stem}_difference{path.suffix}")):
            file.write_bytes(self.picture or b"")
        return bool(self.fluence)

    def segments(self):
        return self.plan_segments

    def beam_mu(self):
        segments = self.plan_segments
        return () if segments is None else tuple(segments.beam_mu(n) for n in range(len(segments.beams)))

    def metrics(self):
        return self.metric_rows

    def goals(self):
        return self.goal_rows

    def gamma(self):
        return self.gamma_rows

    def notes(self):
        return self.assumptions

    def show_isodoses(self, levels_percent):
        self._do("show_isodoses", *levels_percent)

    def _do(self, *call):
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    def _start(self, *call):
        self._do(*call)
        self.start()
