"""Take the pictures of web pages with a real browser: needs `playwright` and Chromium, which no requirements file has.

    make demo airflow                                             # with four dates landed and loaded
    echo "10999,1,2.5" >> extract/order_details.csv               # a row that the extract rejects
    python docs/pictures/screens.py airflow 2024-01-17            # form, failed run; asks to correct the file; cure
    python docs/pictures/screens.py page output/notebook/….html "Orders with their details" docs/pictures/orders.png
    python docs/pictures/screens.py status output/status.html      # of `landing status --html`
    make pgadmin & python docs/pictures/screens.py pgadmin
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

PICTURES = Path(__file__).resolve().parent
PASSWORDS = Path(".airflow/simple_auth_manager_passwords.json.generated")
AIRFLOW = f"http://127.0.0.1:{os.environ.get('AIRFLOW_PORT', '8080')}"
PGADMIN = f"http://127.0.0.1:{os.environ.get('PGADMIN_PORT', '5050')}"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUERY = """SELECT extracted_at, count(*) AS orders, round(sum(freight)::numeric, 2) AS freight
FROM public_history.orders
GROUP BY extracted_at
ORDER BY extracted_at"""
# The project's own path is left out of what is shown.
WITHOUT_ROOT = """root => { const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) walk.currentNode.data = walk.currentNode.data.replaceAll(root + '/', ''); }"""


def airflow(page: Page, day: str) -> None:
    """The trigger form filled in, the failed task's log with its retry command, and the run after it was cleared."""
    page.goto(f"{AIRFLOW}/dags/ELT_with_meltano")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", json.loads(PASSWORDS.read_text())["admin"])
    page.click("button[type=submit]")
    page.click("button:has-text('Trigger')")
    page.fill("input[type=date]", day)
    page.wait_for_timeout(1000)
    page.screenshot(path=PICTURES / "airflow-trigger.png")
    page.locator("button:has-text('Trigger')").last.click()
    input("Press Enter when the run has failed. ")
    runs = page.request.get(f"{AIRFLOW}/api/v2/dags/ELT_with_meltano/dagRuns?order_by=-run_after&limit=50").json()
    run = quote(next(run["dag_run_id"] for run in runs["dag_runs"] if run["conf"].get("date") == day), safe="")
    page.set_viewport_size({"width": 1400, "height": 760})
    page.goto(f"{AIRFLOW}/dags/ELT_with_meltano/runs/{run}/tasks/extract_csv")
    page.wait_for_timeout(12000)
    page.get_by_text("AirflowException: ").first.click()  # fold the traceback
    page.wait_for_timeout(2500)
    page.evaluate(WITHOUT_ROOT, str(Path.cwd()))
    page.screenshot(path=PICTURES / "airflow-failed.png")
    input("Correct the file, clear the task, and press Enter when the run has succeeded. ")
    page.goto(f"{AIRFLOW}/dags/ELT_with_meltano/runs/{run}")
    page.wait_for_timeout(12000)
    page.screenshot(path=PICTURES / "airflow-cured.png")


def pgadmin(page: Page) -> None:
    """Rows of all dates, in the query tool on the warehouse, with the partitions of a table beside it."""
    page.goto(PGADMIN)
    for name, child in (("Landing zone", "warehouse"), ("warehouse", "Databases"), ("Databases", "shop"),
                        ("warehouse", "Schemas"), ("Schemas", "public_history"), ("public_history", "Tables"),
                        ("Tables", "orders"), ("orders", "Partitions"), ("Partitions", None)):
        page.wait_for_selector(f".file-name:text-is('{name}')")
        if child is None or not page.locator(f".file-name:text-is('{child}')").count():
            page.locator(f".file-name:text-is('{name}')").last.dblclick()
            page.wait_for_timeout(4000)
    page.locator(".file-name:text-is('orders')").last.click()
    page.keyboard.press("Alt+Shift+Q")
    page.wait_for_timeout(8000)
    page.keyboard.insert_text(QUERY)
    page.keyboard.press("F5")
    page.mouse.move(700, 560)  # away from what would pop up
    page.wait_for_timeout(6000)
    page.screenshot(path=PICTURES / "pgadmin-history.png")


def page(page: Page, file: str, heading: str, picture: str) -> None:
    """A section of a local page, from its heading to the next."""
    page.goto(Path(file).resolve().as_uri())
    top = page.locator(f"h2:has-text('{heading}')").bounding_box()
    below = page.evaluate("top => Math.min(...[...document.querySelectorAll('h2')].map(one => "
                          "one.getBoundingClientRect().top + scrollY).filter(one => one > top + 5))", top["y"])
    page.screenshot(path=picture, full_page=True, clip={
        "x": 0, "y": top["y"] - 12, "width": page.viewport_size["width"], "height": min(below - top["y"], 620)})


def status(page: Page, file: str) -> None:
    """The page of `landing status`, down to its table."""
    page.set_viewport_size({"width": 1100, "height": 720})
    page.goto(Path(file).resolve().as_uri())
    page.evaluate(WITHOUT_ROOT, str(Path.cwd()))
    table = page.locator("h2:has-text('Rows by date')").bounding_box()
    page.screenshot(path=PICTURES / "status.png", full_page=True, clip={
        "x": 0, "y": 0, "width": 1100, "height": table["y"]})


if __name__ == "__main__":
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1200, "height": 720})
        opened.set_default_timeout(120_000)
        {"airflow": airflow, "pgadmin": pgadmin, "page": page,
         "status": status}[sys.argv[1]](opened, *sys.argv[2:])
