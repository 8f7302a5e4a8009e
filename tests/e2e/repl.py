# SPDX-License-Identifier: MIT
"""The conversation of `perigee run` in a pseudo-terminal: repl.py PERIGEE ASSISTANT.lua MODEL.gguf FOLDER"""
import os
import pty
import re
import select
import signal
import stat
import sys
import termios
import time

PERIGEE, ASSISTANT, MODEL, FOLDER = sys.argv[1:5]
PROMPT = ">>> "
SLOW = 10 if os.environ.get("SANITIZE") else 1     # a sanitizer's build takes its time
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b(\[[0-9;?]*)?$")     # whole ones, and the beginning of one at the end
n_check = n_failed = 0


def check(ok, what, seen=""):
    global n_check, n_failed
    n_check += 1
    if not ok:
        n_failed += 1
        line = sys._getframe(1).f_lineno
        print(f"FAILED: repl.py:{line}: {what}; the terminal shows {seen[-600:]!r}")


class Terminal:
    """A program on a terminal; what it wrote is in .text, and .at is what was looked at already."""

    def __init__(self, *args, env=None):
        self.raw, self.text, self.at = "", "", 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", "XDG_STATE_HOME": FOLDER, "XDG_CONFIG_HOME": FOLDER, "HOME": FOLDER, "LANG": "C.UTF-8"})
            os.environ.pop("NO_COLOR", None)
            os.environ.update(env or {})
            os.execv(PERIGEE, [PERIGEE, "run", *args])
        termios.tcsetwinsize(self.fd, (24, 100))

    def read(self, timeout):
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.raw += data.decode("utf-8", "replace")
        self.text = ESCAPES.sub("", self.raw).replace("\r", "")
        return bool(data)

    def wait(self, what, timeout=20):
        """The text up to and with `what`, from where the last wait ended; what it is not is a failure."""
        end = time.monotonic() + timeout * SLOW
        while what not in self.text[self.at:]:
            left = end - time.monotonic()
            if left <= 0 or not self.read(left):
                check(False, f"expected {what!r}", self.text[self.at:])
                return self.text[self.at:]
        begin, self.at = self.at, self.text.index(what, self.at) + len(what)
        n = self.at
        return self.text[begin:n]

    def send(self, text):
        os.write(self.fd, text.encode())

    def ask(self, line):
        """Type a line; what was shown until the next prompt."""
        self.send(line + "\n")
        return self.wait(PROMPT)

    def keys(self, keys, what):
        """Type keys that make the editor draw its line again, and Enter; what was shown until a fresh prompt."""
        self.send(keys + "\n")
        shown = self.wait(what) if what else ""
        self.send("/none\n")
        return shown + self.wait("there is no command /none") + self.wait(PROMPT)

    def interrupt(self):
        self.send("\x03")

    def close(self, timeout=20):
        """The exit status once the program has ended."""
        end = time.monotonic() + timeout * SLOW
        while self.read(max(0.0, end - time.monotonic())):
            pass
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        while pid == 0 and time.monotonic() < end:
            time.sleep(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return "killed: it did not end"
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def has(text, *parts):
    for part in parts:
        check(part in text, f"expected {part!r}", text)


def test_messages():
    t = Terminal(ASSISTANT)
    has(t.wait(PROMPT), "Echo", "/help", "Ctrl-D")
    has(t.ask("hello"), "[1] system=Be kind. you said: hello")
    has(t.ask("first \\\nsecond"), "[2]", "you said: first \nsecond")
    has(t.ask('"""one\ntwo\n"""'), "[3]", "you said: one\ntwo\n")
    has(t.ask("grüße"), "you said: grüße")
    shown = t.ask("steer")
    has(shown, "before\\x1b[31mafter")
    check("\x1b[31m" not in t.raw, "an escape sequence of the model reached the terminal", t.raw)
    has(t.ask("raise"), "perigee: ", "the fake model broke")
    has(t.ask("still there?"), "you said: still there?")
    t.send("\x04")
    check(t.close() == 0, "Ctrl-D: exit status 0", t.text)


def test_calls():
    t = Terminal(ASSISTANT)
    t.wait(PROMPT)
    shown = t.ask("tool")
    has(shown, 'double {"n":21} -> 42 (', "The tool said: 42")
    check(len(re.findall(r"^.*double.*$", shown, re.M)) == 1, "a call is one line", shown)
    has(t.ask("two"), 'double {"n":1} -> 2', 'double {"n":2} -> 4')
    has(t.ask("broken tool"), "fails {} -> failed: Error: no luck")
    has(t.ask("/tools"), "double(n: ", "Twice a number.", "wait(")
    t.send("wait\n")
    t.wait("wait {}")
    t.interrupt()
    has(t.wait("(stopped)") + t.wait(PROMPT), "(stopped)")
    has(t.ask("and now?"), "you said: and now?")
    t.send("/bye\n")
    check(t.close() == 0, "/bye: exit status 0", t.text)


def test_commands():
    t = Terminal(ASSISTANT)
    t.wait(PROMPT)
    listed = set(re.findall(r"^  (/\w+)", t.ask("/help"), re.M))
    t.send("/\t")
    completed = set(re.findall(r"(/\w+)", t.wait("/tools") + t.wait(PROMPT + "/")))
    t.keys("\x15", "")
    check(listed == completed and len(listed) > 10, f"/help lists {sorted(listed)}, completion knows {sorted(completed)}")
    has(t.ask("/hlep"), "there is no command /hlep; did you mean /help?")
    has(t.ask("/set tmep 1"), "tmep is unknown; did you mean temp?")
    has(t.ask("/set temp warm"), "temp: found the string \"warm\", expected a number")
    has(t.ask("/set temp"), "the value is missing")
    has(t.ask("/set top-k 5"), "top_k 5")
    has(t.ask("/set ctx 5"), "ctx is fixed")
    has(t.ask("/set temp 0.5"), "temp 0.5")
    has(t.ask("/show"), "temp 0.5", "Be kind.", "3 tools", "*main (0 turns)")
    has(t.ask("/system Be brief."), "")
    has(t.ask("one"), "[1] system=Be brief. you said: one")
    has(t.ask("/stats"), "tokens")
    t.ask("two words")
    has(t.ask("/rewind"), "1 turn")
    has(t.ask("after"), "[2]")
    has(t.ask("/rewind 9"), "2 turns")
    has(t.ask("/rewind"), "nothing has been said yet")
    has(t.ask("/rewind x"), "expected a number of turns")
    t.send("/bye\n")
    check(t.close() == 0, "/bye: exit status 0", t.text)


def test_branches():
    path = os.path.join(FOLDER, "saved.json")
    t = Terminal(ASSISTANT)
    t.wait(PROMPT)
    t.ask("one")
    has(t.ask("/fork other"), "other now", "main")
    has(t.ask("in the fork"), "[2]")
    has(t.ask("/switch mian"), "did you mean main?")
    has(t.ask("/switch main"), "main", "1 turn")
    has(t.ask("beside it"), "[2]")
    has(t.ask("/fork other"), "there is a conversation other")
    has(t.ask(f"/save {path}"), "4 messages")
    has(t.ask("/clear"), "new conversation")
    has(t.ask("again"), "[1]")
    has(t.ask(f"/load {path}"), "4 messages")
    has(t.ask("third"), "[3]")
    has(t.ask("/retry"), "[3]", "you said: third")
    has(t.ask("/load /nowhere/x.json"), "perigee: /load", "/nowhere/x.json")
    has(t.ask("/load nobody"), "perigee: /load", "no assistant of that name")
    bad = os.path.join(FOLDER, "bad.json")
    with open(bad, "w", encoding="utf-8") as f:
        f.write('{"version": 2}')
    has(t.ask(f"/load {bad}"), "perigee: /load", "holds no conversation that /save wrote")
    has(t.ask("still"), "[4]")
    has(t.ask(f"/load {ASSISTANT}"), "This is Echo now")
    has(t.ask("new"), "[1]")
    t.send("\x04")
    check(t.close() == 0, "exit status 0", t.text)


def test_settings():
    """Ollama's /set and /show, and what takes a setting back."""
    t = Terminal(ASSISTANT)
    t.wait(PROMPT)
    has(t.ask("/set"), "/set parameter NAME VALUE", "/set nothink")
    has(t.ask("/set parameter temperature 0.3"), "temp 0.3")
    has(t.ask("/set top_k 7"), "temp 0.3, top_k 7")
    shown = t.ask("/set temp default")
    has(shown, "top_k 7")
    check("temp 0.3" not in shown, "temp was taken back", shown)
    has(t.ask("/set tmep default"), "did you mean temp?")
    has(t.ask("/set parameter top_k"), "the value is missing")
    has(t.ask("/set seed default"), "no default to go back to")
    has(t.ask("/set format xml"), 'found "xml", expected json or a JSON Schema')
    has(t.ask('/set format {"type":"integr"}'), "did you mean integer?")
    has(t.ask('/set format {"type":"integer"}'), 'format {"type":"integer"}')
    shown = t.ask("/set noformat")
    check('format {' not in shown, "the format was taken back", shown)
    has(t.ask("/set think extreme"), 'found "extreme", expected low, medium, high or nothing')
    has(t.ask("/set think high"), "think high")
    has(t.ask("of levels"), "knows no enable_thinking; think has no effect")
    has(t.ask("/show parameters"), "think high")
    has(t.ask("/set nothink"), "think false")
    has(t.ask("/set think"), "think true")
    has(t.ask("/set parameter think low"), "think low")
    has(t.ask("/save thinker"), "thinker")
    has(t.ask("/set think default"), 'found "default", expected low')
    shown = t.ask("/set parameter think default")
    check("think low" not in shown, "think was taken back", shown)
    has(t.ask("/clear"), "new conversation")
    has(t.ask("/set quiet now"), "takes no value")
    has(t.ask('/set system "Be brief."'), "set")
    has(t.ask("one"), "system=Be brief. you said: one")
    has(t.ask("/show system"), "Be brief.")
    has(t.ask("/show parameters"), "top_k 7")
    has(t.ask("/show template"), "{%- for m in messages %}")
    has(t.ask("/show lua"), "return {", "-- tool double")
    has(t.ask("/show licence"), "did you mean license?")
    has(t.ask("/? shortcuts"), "Ctrl-R")
    has(t.ask("/clear"), "new conversation")
    has(t.ask("2"), "[1] system=Be brief. you said: 2")
    has(t.ask("/show parameters"), "top_k 7")
    has(t.ask("/set verbose"), "after each answer")
    has(t.ask("three"), "you said: three", "context ")
    t.ask("/set quiet")
    has(t.ask("/set nohistory"), "no more")
    t.ask("unseen by the history")
    t.ask("/set history")
    t.ask("/set wordwrap")
    shown = t.ask("word " * 40)
    lines = shown.partition("you said:")[2].split("\n")
    check(len(lines) > 2 and all(len(line) <= 100 for line in lines) and lines[1].startswith("word "), "lines are broken between words", shown)
    t.send("\x04")
    check(t.close() == 0, "exit status 0", t.text)
    with open(os.path.join(FOLDER, "perigee", "history"), encoding="utf-8") as f:
        check("unseen" not in f.read(), "the history holds what was not to be kept")


def test_saved_assistant():
    """/save NAME writes an assistant, which goes on with the conversation."""
    data = os.path.join(FOLDER, "data")
    env = {"XDG_DATA_HOME": data}
    t = Terminal(ASSISTANT, env=env)
    t.wait(PROMPT)
    t.ask("one")
    t.ask("/set top_k 7")
    t.send("/system Be \\\n")
    t.ask("brief.")
    has(t.ask("/save my bot"), "expected a name")
    path = os.path.join(data, "perigee", "assistants", "mybot.lua")
    has(t.ask("/save mybot"), path, "perigee run mybot")
    has(t.ask("/save mybot"), path)                       # its own file
    other = os.path.join(FOLDER, "mine.lua")
    with open(other, "w", encoding="utf-8") as f:
        f.write("return {}\n")
    has(t.ask(f"/save {other}"), "was not written by /save")
    has(t.ask("/list"), "mybot")
    t.send("\x04")
    check(t.close() == 0, "exit status 0", t.text)
    t = Terminal("mybot", env=env)
    t.wait("Allow? [y/N] ")
    t.send("y\n")
    t.wait(PROMPT)
    has(t.ask("2"), "[2] system=Be")
    has(t.ask("/show"), "top_k 7", "3 tools", "built on")
    has(t.ask("/load Echo"), "no assistant of that name")
    has(t.ask("/load mybot"), "This is Echo now")
    t.send("\x04")
    check(t.close() == 0, "exit status 0", t.text)


def test_reload():
    """A changed assistant answers the next message; a broken one is told about, and the one before stays."""
    path, part = os.path.join(FOLDER, "live.lua"), os.path.join(FOLDER, "base.lua")
    with open(ASSISTANT, encoding="utf-8") as f:
        text = f.read()

    def write(where, what):
        with open(where + ".new", "w", encoding="utf-8") as f:
            f.write(what)
        os.replace(where + ".new", where)

    write(part, text)
    write(path, 'return { from = "base.lua" }\n')
    t = Terminal(path)
    t.wait(PROMPT)
    has(t.ask("one"), "[1] system=Be kind. you said: one")
    t.ask("/set top_k 7")
    write(path, 'return { from = "base.lua", system = "Be new." }\n')
    has(t.ask("2"), "this is its new version", "[2] system=Be new. you said: 2")
    write(path, 'return { from = "base.lua", sytem = "x" }\n')
    has(t.ask("three"), "live.lua:1: sytem is unknown; did you mean system?", "the version before stays", "[3] system=Be new. you said: three")
    shown = t.ask("four")
    has(shown, "[4] system=Be new.")
    check("unknown" not in shown, "the error is told once", shown)
    has(t.ask("/reload"), "sytem is unknown")
    write(path, 'return { from = "base.lua" }\n')
    write(part, text.replace("Be kind.", "Be other."))
    has(t.ask("five"), "[5] system=Be other.")
    has(t.ask("/rewind 2"), "2 turns")
    has(t.ask("six"), "[4] system=Be other.")
    has(t.ask("/show"), "top_k 7")
    os.remove(part)
    has(t.ask("seven"), "live.lua:1: from: there is no file", "[5] system=Be other.")
    t.send("\x04")
    check(t.close() == 0, "exit status 0", t.text)


def test_prompt():
    """Ctrl-C at the prompt, history."""
    t = Terminal(ASSISTANT)
    t.wait(PROMPT)
    t.send("never sent")
    time.sleep(0.2 * SLOW)
    t.interrupt()
    has(t.wait(PROMPT), "Ctrl-C again")
    has(t.ask("kept"), "[1]", "you said: kept")
    t.keys("\x10", "[2] system=Be kind. you said: kept")     # the line before
    t.interrupt()
    t.wait("leaves.)")
    t.wait(PROMPT)
    t.interrupt()
    check(t.close() == 0, "Ctrl-C twice: exit status 0", t.text)
    history = os.path.join(FOLDER, "perigee", "history")
    mode = stat.S_IMODE(os.stat(history).st_mode)
    check(mode == 0o600, f"the history is readable by others: {mode:o}")
    with open(history, encoding="utf-8") as f:
        lines = f.read().split("\n")
    check("kept" in lines and "never sent" not in lines, "lines in the history", repr(lines))


def test_colour():
    for env, is_dim in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        t = Terminal(ASSISTANT, env=env)
        t.wait(PROMPT)
        t.send("tool\n")
        t.wait("The tool said")
        t.wait(PROMPT)
        check(("\x1b[2m  double" in t.raw) == is_dim, f"with {env}: dimmed is {is_dim}", t.raw)
        t.send("\x04")
        check(t.close() == 0, f"with {env}: Ctrl-D ends it", t.text)


def test_grant():
    """What the assistant's capabilities ask for is asked of the person."""
    path = os.path.join(FOLDER, "asks.lua")
    with open(ASSISTANT, encoding="utf-8") as f:
        text = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace('name = "Echo",', 'name = "Echo", capabilities = { fs = { read = { "." } } },'))
    t = Terminal(path)
    has(t.wait("Allow? [y/N] "), "asks.lua wants to read files in ", os.getcwd())
    t.send("n\n")
    check(t.close() == 1, "refused: exit status 1", t.text)
    has(t.text, "add --allow fs.read=")
    t = Terminal(path)
    t.wait("Allow? [y/N] ")
    t.send("y\n")
    t.wait(PROMPT)
    has(t.ask("hi"), "you said: hi")
    t.send("\x04")
    check(t.close() == 0, "exit status 0", t.text)
    t = Terminal(path)          # the answer is kept
    check("Allow?" not in t.wait(PROMPT), "asked again", t.text)
    t.send("\x04")
    t.close()


def test_model():
    """Ctrl-C while a real model answers."""
    t = Terminal(MODEL, "--ignore-eos", "--temp", "0", "--ctx", "1024")
    t.wait(PROMPT)
    t.send("Who are you?\n")
    t.wait("Perigee")
    t.interrupt()
    has(t.wait("(stopped)") + t.wait(PROMPT), "(stopped)")
    t.send("/set max 8\n")
    t.wait(PROMPT)
    shown = t.ask("Who are you?")
    has(shown, "most tokens it may have")
    has(t.ask("/stats"), "plugin cpu", "tokens/s")
    t.send("\x04")
    check(t.close() == 0, "exit status 0", t.text)


for test in (test_messages, test_calls, test_commands, test_branches, test_settings, test_saved_assistant, test_reload, test_prompt, test_colour, test_grant, test_model):
    begin = time.monotonic()
    test()
    print(f"{test.__name__}: {time.monotonic() - begin:.1f} s")
print(f"{n_check} checks, {n_failed} failed")
sys.exit(1 if n_failed or n_check == 0 else 0)
