#!/usr/bin/env python3
"""Put a Markdown report on a pull request (GitHub) or a merge request (GitLab): a comment, in place of the earlier one.

    python3 ci/comment.py REPORT.md

The report begins with a hidden marker (`memcalc check --format markdown`); the comment that begins with it is replaced. What
the runner sets is read: GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_REF or GITHUB_EVENT_PATH, GITHUB_TOKEN; or CI_API_V4_URL,
CI_PROJECT_ID, CI_MERGE_REQUEST_IID and MEMCALC_TOKEN (of a project, scope api). Nothing but Python is needed.
Exit code 0, with a word on stderr where the token may not write (pull requests of forks); 2 where something is missing.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request

LONGEST = 60_000  # characters of a comment: GitHub takes 65,536
PAGES = 20  # of 100 comments each, at most
FORBIDDEN = (401, 403, 404)


class Forge:
    """Comments of one request: how they are listed, changed and added."""

    def __init__(self, comments, one, method, headers):
        self.comments, self.one, self.method, self.headers = comments, one, method, headers

    def ask(self, url, method="GET", document=None):
        data = None if document is None else json.dumps(document).encode()
        headers = {**self.headers, "Content-Type": "application/json", "User-Agent": "memcalc"}
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def earlier(self, marker):
        """The number of the comment that begins with the marker; None where there is none."""
        for page in range(1, PAGES + 1):
            listed = self.ask(f"{self.comments}?per_page=100&page={page}")
            for comment in listed:
                if comment["body"].lstrip().startswith(marker):
                    return comment["id"]
            if len(listed) < 100:
                return None
        return None

    def put(self, body):
        """Says whether an earlier comment was replaced."""
        number = self.earlier(body.partition("\n")[0].strip())
        if number is None:
            self.ask(self.comments, "POST", {"body": body})
        else:
            self.ask(f"{self.one}/{number}", self.method, {"body": body})
        return number is not None


def forge(env):
    """The one that this runs on, from what its runner sets. Raises KeyError with what is missing."""
    if env.get("CI_MERGE_REQUEST_IID"):
        notes = f"{env['CI_API_V4_URL']}/projects/{env['CI_PROJECT_ID']}/merge_requests/{env['CI_MERGE_REQUEST_IID']}/notes"
        return Forge(notes, notes, "PUT", {"PRIVATE-TOKEN": env["MEMCALC_TOKEN"]})
    issues = f"{env.get('GITHUB_API_URL', 'https://api.github.com')}/repos/{env['GITHUB_REPOSITORY']}/issues"
    headers = {"Authorization": f"Bearer {env['GITHUB_TOKEN']}", "Accept": "application/vnd.github+json"}
    return Forge(f"{issues}/{pull_request(env)}/comments", f"{issues}/comments", "PATCH", headers)


def pull_request(env):
    """Its number, from refs/pull/7/merge or from the event."""
    found = re.match(r"refs/pull/(\d+)/", env.get("GITHUB_REF", ""))
    if found:
        return int(found[1])
    with open(env["GITHUB_EVENT_PATH"], encoding="utf-8") as file:
        return int(json.load(file)["pull_request"]["number"])


def shortened(body):
    if len(body) <= LONGEST:
        return body
    return body[:LONGEST].rpartition("\n")[0] + "\n\n(the rest is in the summary of the job)\n"


def main(path):
    with open(path, encoding="utf-8") as file:
        body = file.read()
    if not body.startswith("<!--"):
        return "begins with no marker; write it with memcalc check --format markdown"
    try:
        replaced = forge(os.environ).put(shortened(body))
    except KeyError as error:
        return f"{error.args[0]} is not set: this is no pull request, or no token is given"
    except urllib.error.HTTPError as error:
        if error.code in FORBIDDEN:
            print(f"memcalc: no comment: the token may not write here ({error.code})", file=sys.stderr)
            return ""
        return f"the server answers {error.code}"
    except OSError as error:
        return f"no answer: {error}"
    print("replaced the earlier comment" if replaced else "a new comment", file=sys.stderr)
    return ""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: comment.py REPORT.md")
    wrong = main(sys.argv[1])
    if wrong:
        print(f"memcalc: {sys.argv[1]}: {wrong}", file=sys.stderr)
        sys.exit(2)
