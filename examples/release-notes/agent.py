"""An agent in a process of its own: turns git history into release notes, and asks a person before it writes them.

The question may stay open for days. Meanwhile there is no process: the run is a row in the store. After the answer a new
process calls `release_notes` again from the top, where finished steps return what they returned before.
"""

import os
import re
import subprocess
from datetime import date
from pathlib import Path

from adjutant_agent import AgentError, agent, serve

#: What commits are taken when nobody says.
DEFAULT_RANGE = ["--max-count=50", "HEAD"]

#: Groups in the order of the notes, with the first words of the subjects that belong there.
GROUPS = {
    "Added": "feat add allow build create give implement introduce let make provide run show support".split(),
    "Fixed": "fix bugfix correct handle harden keep prevent refuse repair restore stop".split(),
    "Removed": "remove delete drop retire".split(),
    "Documented": "docs doc describe document explain record tell write".split(),
    "Changed": [],
}


@agent("release-notes")
def release_notes(run):
    """Writes release notes from `git log`, or from a file with one change a line."""
    cwd = Path(run.metadata.get("cwd", ".")) if isinstance(run.metadata, dict) else Path(".")
    params = run.params if isinstance(run.params, dict) else {}
    source = run.prompt.strip()
    out = cwd / params.get("out", "RELEASE_NOTES.md")

    run.progress(0, "collecting changes")
    changes = run.step("collect", collect, str(cwd), source)
    if not changes:
        raise AgentError("no_changes", f"there are no changes in {source or 'the history'}", retriable=False)

    run.progress(30, "grouping")
    groups = run.step("group", group, changes)
    run.checkpoint({"changes": len(changes), "groups": {name: len(items) for name, items in groups.items()}})

    run.progress(60, "drafting")
    draft = run.step("draft", compose, groups, params.get("title", "Release notes"))
    run.checkpoint({"changes": len(changes), "draft": draft})

    decision = run.request_approval(
        "publish", f"Write these notes about {len(changes)} changes to {out}?", data={"draft": draft}
    )
    if not decision.approved:
        run.message("The notes were not approved; nothing was written.")
        return {"published": False, "reason": decision.comment, "changes": len(changes)}

    run.step("write file", publish, str(out), draft)
    run.progress(100, "published")
    return {"published": True, "file": str(out), "changes": len(changes), "approved_by": decision.by}


def collect(cwd, source):
    """Changes as `{id, subject}`, newest first."""
    file = Path(cwd) / source
    if source and file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        return [{"id": None, "subject": line.strip(" -*")} for line in lines if line.strip(" -*")]
    if source.startswith("-"):
        raise AgentError("invalid_input", f"{source!r} is neither a file nor a range of commits", retriable=False)
    command = ["git", "-C", cwd, "log", "--no-merges", "--format=%h%x09%s", *([source] if source else DEFAULT_RANGE), "--"]
    log = subprocess.run(command, capture_output=True, text=True)
    if log.returncode != 0:
        raise AgentError("git_failed", log.stderr.strip() or "git log failed", retriable=False)
    rows = (line.partition("\t") for line in log.stdout.splitlines())
    return [{"id": commit, "subject": subject} for commit, _, subject in rows]


def group(changes):
    """Sorts changes by what the first word of their subject says about them."""
    groups = {name: [] for name in GROUPS}
    for change in changes:
        word = re.match(r"[A-Za-z]*", change["subject"]).group().lower()
        name = next((name for name, words in GROUPS.items() if word in words), "Changed")
        groups[name].append(change)
    return {name: items for name, items in groups.items() if items}


def compose(groups, title):
    """The notes as Markdown."""
    lines = [f"# {title}", "", f"{date.today().isoformat()}"]
    for name, items in groups.items():
        lines += ["", f"## {name}", ""]
        for item in items:
            subject = re.sub(r"^\w+(\([^)]*\))?!?:\s*", "", item["subject"])
            lines.append(f"- {subject}" + (f" ({item['id']})" if item["id"] else ""))
    return "\n".join(lines) + "\n"


def publish(out, text):
    """Writes beside the file and renames, so that nobody ever reads half of it."""
    beside = out + ".tmp"
    Path(beside).write_text(text, encoding="utf-8")
    os.replace(beside, out)
    return len(text)


if __name__ == "__main__":
    serve()
