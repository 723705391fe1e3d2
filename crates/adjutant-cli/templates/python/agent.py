"""Counts the words of a text or a file. The steps are done once, whatever dies in between."""

import re
from collections import Counter
from pathlib import Path

from adjutant_agent import agent, serve


def read(prompt, folder):
    path = Path(folder, prompt)
    return path.read_text(errors="replace") if path.is_file() else prompt


def count(text):
    return Counter(re.findall(r"\w+", text.lower())).most_common(3)


@agent("{{name}}")
def run(run):
    prompt = run.prompt or "Say something: agent run DIR 'some text', or name a file."
    # Paths are relative to whoever started the run, not to this folder.
    text = run.step("read", read, prompt[:1000], (run.metadata or {}).get("cwd", "."))
    common = run.step("count", count, text)
    listed = ", ".join(f"{word} ({times})" for word, times in common)
    return f"{len(text.split())} words; most frequent: {listed}"


serve()
