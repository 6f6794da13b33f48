"""Projects for the tests."""
import json, os, pathlib, urllib.request, uuid

HERE = pathlib.Path(__file__).resolve().parent
URL, TOKEN = os.environ["LAUNCHDB_URL"], os.environ["LAUNCHDB_TOKEN"]


def platform(method, path, body=None):
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    request = urllib.request.Request(URL + path, method=method, headers=headers, data=json.dumps(body).encode() if body else None)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def create_project(name, schema_file, data_api=None):
    """A project with the tables of a file beside this folder; `data_api` are settings of its data API."""
    project = platform("POST", "/api/projects", {"name": f"{name}-{uuid.uuid4().hex[:8]}"})
    platform("POST", f"/api/projects/{project['id']}/sql", {"query": (HERE.parent / schema_file).read_text()})
    if data_api:
        platform("PATCH", f"/api/projects/{project['id']}/settings", {"data_api": data_api})
    return platform("GET", f"/api/projects/{project['id']}/connection")
