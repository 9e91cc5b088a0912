"""The bottom of a panel: long work that is under way, its time left, Cancel and its log."""

from __future__ import annotations

from collections.abc import Callable

import qt
from slicer.i18n import tr as _

from deeprt.errors import InputError
from deeprt_mrml.long_work import LongWork
from deeprt_slicer.controls import allow
from deeprt_slicer.message_line import unexpected

_INTERVAL_MS = 200


class JobRow:
    """Looks after the long work of a session five times a second while there is some.

    Parameters
    ----------
    progress_bar, label, cancel_button, log_button : QProgressBar, QLabel, QPushButtons
    on_end : called when work has ended, however it did, and after each step of several
    on_error : called after that with one sentence if it failed
    """

    def __init__(
        self,
        *,
        progress_bar: qt.QProgressBar,
        label: qt.QLabel,
        cancel_button: qt.QPushButton,
        log_button: qt.QPushButton,
        work: LongWork,
        on_end: Callable[[], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._bar, self._label, self._cancel_button, self._log_button = progress_bar, label, cancel_button, log_button
        self._work, self._on_end, self._on_error = work, on_end, on_error
        self._result, self._is_cancelled = "", False
        self._log = _LogWindow(log_button)
        self._timer = qt.QTimer()
        self._timer.interval = _INTERVAL_MS
        self._timer.connect("timeout()", self._look)
        cancel_button.connect("clicked()", self._cancel)
        log_button.connect("clicked()", self._show_log)
        self.watch()

    def watch(self) -> None:
        """Look after work that may have been started, and show how it stands."""
        if not self._work.is_busy:
            self._timer.stop()
            self._is_cancelled = False
        elif not self._timer.active:
            self._timer.start()
        self._show()

    def stop(self) -> None:
        """Look after nothing any more and close the log; for when the panel goes away. The work itself goes on."""
        self._timer.stop()
        self._log.close()

    def _look(self) -> None:
        try:
            has_ended, error = self._work.poll(), ""
        except InputError as problem:
            has_ended, error = True, str(problem)
        except Exception as problem:
            self._end(unexpected(problem))
            raise
        if has_ended:
            self._end(error)
        else:
            self.watch()

    def _end(self, error: str) -> None:
        result = _("{title}: failed") if error else _("{title}: done")
        result = _("{title}: cancelled") if self._work.was_cancelled else result
        self._result = result.format(title=self._work.title)
        self.watch()
        self._on_end()
        self.watch()  # which may have started the next work
        if error:
            self._on_error(error)

    def _show(self) -> None:
        is_busy, progress = self._work.is_busy, self._work.progress
        self._bar.maximum = 0 if is_busy and progress is None else 100  # 0: something is going on
        done = 1.0 if self._work.has_succeeded else 0.0
        self._bar.value = round(100 * (progress.fraction if is_busy and progress is not None else done))
        self._bar.textVisible = is_busy or self._work.has_succeeded
        self._label.text = self._state() if is_busy else self._result
        why_not_cancel = _("It is being cancelled.") if self._is_cancelled else ""
        allow(self._cancel_button, why_not_cancel if is_busy else _("Nothing is under way."))
        allow(self._log_button, "" if self._work.title else _("Nothing has run yet."))
        self._log.follow(self._work)

    def _state(self) -> str:
        progress, left_s = self._work.progress, self._work.time_left_s()
        if self._is_cancelled:
            what = _("being cancelled")
        elif progress is None:
            what = _("starting")
        else:
            what = progress.message or progress.step
            what += "" if left_s is None else f" – {_time_left(left_s)}"
        return f"{self._work.title}: {what}"

    def _cancel(self) -> None:
        self._work.cancel()
        self._is_cancelled = True
        self._show()

    def _show_log(self) -> None:
        self._log.open(self._work)


class _LogWindow:
    """Window with what work has said; its text can be copied and not changed."""

    def __init__(self, parent: qt.QWidget) -> None:
        self._window = qt.QDialog(parent)
        self._window.resize(700, 400)
        self._text = qt.QPlainTextEdit()
        self._text.readOnly = True
        self._text.lineWrapMode = qt.QPlainTextEdit.NoWrap
        layout = qt.QVBoxLayout(self._window)
        layout.addWidget(self._text)

    def open(self, work: LongWork) -> None:
        self._window.show()
        self._window.raise_()
        self.follow(work)

    def follow(self, work: LongWork) -> None:
        """Bring the text up to date while the window is open."""
        if not self._window.visible:
            return
        self._window.windowTitle = _("Log of {title}").format(title=work.title)
        text = work.log
        if text != self._text.plainText:
            self._text.plainText = text
            self._text.moveCursor(qt.QTextCursor.End)

    def close(self) -> None:
        self._window.close()


def _time_left(seconds: float) -> str:
    is_short = seconds < 60
    text: str = _("about {n} s left") if is_short else _("about {n} min left")
    return text.format(n=max(1, round(seconds if is_short else seconds / 60)))
