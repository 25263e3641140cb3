"""What every answer of the web server carries, and what it keeps to itself."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, RequestFactory

from arbplatform.static_files import StaticFilesMiddleware

pytestmark = pytest.mark.django_db

INLINE_SCRIPT = re.compile(
    r"<script(?![^>]*\bsrc=)(?![^>]*type=\"(?:application/json|importmap)\")[^>]*>", re.IGNORECASE
)


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator", password="operator-password"))
    return client


def policy(client: Client, address: str) -> dict[str, str]:
    header = client.get(address).headers["Content-Security-Policy"]
    return {name: rest for name, _, rest in (part.strip().partition(" ") for part in header.split(";"))}


def test_our_pages_run_scripts_of_our_own_files_only(operator: Client) -> None:
    found = policy(operator, "/live/")
    assert found["script-src"] == "'self'"
    assert found["object-src"] == "'none'"
    assert found["frame-ancestors"] == "'none'"


def test_the_admin_gets_what_its_theme_needs_but_no_inline_scripts(operator: Client) -> None:
    found = policy(operator, "/admin/")
    assert found["script-src"] == "'self' 'unsafe-eval'"
    assert "'unsafe-inline'" in found["style-src"]


@pytest.mark.parametrize("address", ["/admin/", "/admin/django_celery_beat/periodictask/add/", "/admin/bots/bot/add/"])
def test_no_admin_page_has_a_script_that_the_policy_would_refuse(operator: Client, address: str) -> None:
    answer = operator.get(address)
    assert answer.status_code == 200
    assert INLINE_SCRIPT.findall(answer.content.decode()) == []


def test_health_needs_neither_a_user_nor_the_database(client: Client, django_assert_num_queries) -> None:
    with django_assert_num_queries(0):
        answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_static_files_are_served_with_their_type_and_nothing_above_them(client: Client) -> None:
    answer = client.get("/static/favicon.svg")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("image/svg")
    assert client.get("/static/../manage.py").status_code == 404
    assert client.get("/static/%2e%2e/manage.py").status_code == 404


def test_a_static_file_edited_while_the_server_runs_is_sent_whole(tmp_path) -> None:
    path = tmp_path / "page.js"
    path.write_text("short")
    serving = StaticFilesMiddleware(lambda request: HttpResponse(status=404))
    serving.add_file_to_dictionary("/static/page.js", str(path))
    path.write_text("considerably longer")
    answer = serving(RequestFactory().get("/static/page.js"))
    assert answer.content == b"considerably longer"
    assert answer.headers["Content-Length"] == str(len(answer.content))


def test_a_foreign_host_name_is_refused(client: Client) -> None:
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 400
