"""Each view shows the numbers of a real run."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.programs.page.case import VIEWS, PageTestCase, cells
from tests.programs.page.workers import CLOSED, EXPIRED
from tests.support.browser import PHONE

DEAD = len(EXPIRED) + len(CLOSED)


class OverviewTests(PageTestCase):
    def test_types_and_totals_are_those_of_the_run(self) -> None:
        with self.open() as page:
            self.until(page, lambda: 5 <= number(cells(page, "Stock")["Jobs/s"]) <= 15)  # 10 per second
            self.until(page, lambda: cells(page, "Bank")["Dead"] == str(DEAD))
            stock = cells(page, "Stock")
            self.assertEqual(stock["Workers"], "1")
            self.assertRegex(stock["Wait p50"], r"^[\d.]+ ms$")
            self.assertRegex(stock["Run p50"], r"^[\d.]+ ms$")
            totals = dict(
                zip(
                    page.locator(".totals dt").all_inner_texts(),
                    page.locator(".totals dd").all_inner_texts(),
                    strict=True,
                )
            )
            self.assertEqual((totals["Workers"], totals["Dead letters"]), ("4", str(DEAD)))
            self.assertTrue(
                page.locator("tr", has_text="Stock").locator(".spark path").first.get_attribute("d")
            )

    def test_it_moves_without_a_reload_and_rows_stay_the_same_elements(self) -> None:
        with self.open() as page:
            page.locator("tbody tr", has_text="Stock").first.evaluate("row => row.dataset.mine = 'yes'")
            before = page.locator(".spark path").first.get_attribute("d")
            self.until(page, lambda: page.locator(".spark path").first.get_attribute("d") != before)
            self.assertEqual(page.locator("tr[data-mine=yes]").count(), 1)

    def test_a_click_on_a_title_sorts(self) -> None:
        with self.open() as page:
            self.until(page, lambda: cells(page, "Bank")["Dead"] == str(DEAD))
            page.get_by_role("button", name="Dead").click()
            self.assertIn("Bank", page.locator("tbody tr").first.inner_text())
            self.assertEqual(page.locator("th", has_text="Dead").get_attribute("aria-sort"), "descending")


class TypeTests(PageTestCase):
    def test_graphs_workers_and_failures(self) -> None:
        with self.open() as page:
            page.locator("main").get_by_role("link", name="Bank").click()
            page.locator("h1", has_text="Type Bank").wait_for()
            self.assertEqual(page.locator(".graph canvas").count(), 4)
            page.locator("td", has_text="CardExpired").wait_for()
            page.locator("td", has_text="Bank:").first.wait_for()
            self.assertEqual(page.locator("section[aria-label^=Workers] tbody tr").count(), 1)

    def test_the_graphs_have_the_values_of_the_run(self) -> None:
        with self.open("types/Price") as page:
            jobs = page.locator(".key", has_text="jobs/s").locator("b")
            self.until(page, lambda: 5 <= number(jobs.inner_text()) <= 15)


class WorkersTests(PageTestCase):
    def test_workers_and_filters_in_the_address(self) -> None:
        with self.open("workers") as page:
            self.until(page, lambda: page.locator("tbody tr").count() == 4)
            worker = cells(page, "Stock:")
            self.assertEqual((worker["Type"], worker["State"]), ("Stock", "alive"))
            (known,) = self.system.get("workers?type=Stock")["workers"]
            self.assertEqual((worker["Id"], worker["Process"]), (known["id"], str(known["pid"])))
            page.get_by_label("Id, host or version").fill("price:")
            self.until(page, lambda: page.locator("tbody tr").count() == 1)
            self.assertIn("search=price%3A", page.url)
            page.reload()
            self.until(page, lambda: page.locator("tbody tr").count() == 1)


class FlowTests(PageTestCase):
    def test_the_picture_and_the_rates(self) -> None:
        with self.open("flow") as page:
            page.locator(".node", has_text="Stock").wait_for()
            self.assertEqual(page.locator(".node").count(), len(self.system.get("flow")["nodes"]))
            self.until(page, lambda: 5 <= number(edge(page, "Shop", "Stock")) <= 15)
            self.until(page, lambda: page.locator("path.edge:not(.idle)").count() >= 1)


class FailuresTests(PageTestCase):
    def test_the_groups_their_jobs_and_their_dead_letters(self) -> None:
        with self.open("failures") as page:
            page.locator("td", has_text="CardExpired").wait_for()
            expired, closed = cells(page, "CardExpired"), cells(page, "BankClosed")
            self.assertEqual((expired["Count"], closed["Count"]), (str(len(EXPIRED)), str(len(CLOSED))))
            self.assertEqual(expired["Message"], "the card of '…' has expired")
            page.get_by_role("link", name="CardExpired").click()
            page.get_by_role("link", name="Jobs of this group").click()
            self.until(page, lambda: page.locator("tbody tr").count() == len(EXPIRED))
            page.go_back()
            page.get_by_role("link", name="dead letters of this group").click()
            self.until(page, lambda: page.locator("tbody tr").count() == len(EXPIRED))


class JobTests(PageTestCase):
    def test_the_life_of_a_job_with_two_attempts(self) -> None:
        job = self.system.get("jobs?error=BankClosed")["jobs"][0]["id"]
        with self.open(f"jobs/{job}") as page:
            page.locator("svg.life").wait_for()
            self.assertEqual(page.locator("svg.life [data-kind=ran].run").count(), 2)
            self.assertIn("attempt 2", page.locator("svg.life").get_attribute("aria-label") or "")
            self.assertEqual(page.locator("svg.life .mark[data-kind=dead]").count(), 1)
            steps = page.locator("section[aria-label=Steps]").inner_text()
            self.assertIn("BankClosed: the bank does not answer within 5 s", steps)
            self.until_text(page.locator("section[aria-label='Log lines']"), "cannot charge")

    def test_a_job_of_several_hops_has_a_row_for_each_worker(self) -> None:
        jobs = self.system.get("jobs?outcome=succeeded")["jobs"]
        job = next(each["id"] for each in jobs if each["hops"] == 2)
        self.system.until(lambda: len(self.system.get(f"jobs/{job}")["steps"]) == 5)  # three workers report
        with self.open(f"jobs/{job}") as page:
            page.locator("svg.life").wait_for()
            self.assertEqual(page.locator("svg.life line.row").count(), 3)
            self.assertEqual(page.locator("svg.life .mark.good[data-kind=ended]").count(), 1)

    def test_an_unknown_job(self) -> None:
        with self.open("jobs/none", expected="404") as page:
            page.get_by_text("does not remember this job").wait_for()


class JobsTests(PageTestCase):
    def test_search_and_filters(self) -> None:
        with self.open("jobs?outcome=dead") as page:
            self.until(page, lambda: page.locator("tbody tr").count() == DEAD)
            page.get_by_label("Id, address or message").fill("Dora")
            self.until(page, lambda: page.locator("tbody tr").count() == 1)
            self.assertIn("CardExpired", page.locator("tbody tr").inner_text())


class ErrorsTests(PageTestCase):
    def test_lines_and_a_filter(self) -> None:
        with self.open("errors") as page:
            page.locator("td", has_text="cannot charge Ada").first.wait_for()
            page.get_by_label("Worker, job or text").fill("charge Bob")
            self.until(page, lambda: "Ada" not in page.locator("tbody").inner_text())
            self.assertIn("cannot charge Bob", page.locator("tbody").inner_text())


class DeadTests(PageTestCase):
    def test_letters_and_search_and_no_markup_from_messages(self) -> None:
        with self.open("dead") as page:
            page.locator("main").get_by_role("link", name="Bank").click()
            self.until(page, lambda: page.locator("tbody tr").count() == DEAD)
            self.assertIn(EXPIRED[-1], page.locator("tbody").inner_text())
            self.assertEqual(page.locator("main img").count(), 0)
            page.get_by_label("Job or text").fill("Ada")
            self.until(page, lambda: page.locator("tbody tr").count() == 1)


class AllViewsTests(PageTestCase):
    def test_no_view_scrolls_sideways_on_a_phone(self) -> None:
        with self.open(size=PHONE) as page:
            for view in VIEWS:
                self.visit(page, view)
                self.assertEqual(page.evaluate("document.documentElement.scrollWidth"), PHONE[0], view)

    def test_an_unknown_address_says_so(self) -> None:
        with self.open("nowhere") as page:
            page.get_by_text("not a view").wait_for()

    def visit(self, page: Page, view: str) -> None:
        page.goto(f"{self.system.origin}/#/{view}")
        page.locator("main .card").first.wait_for()
        page.wait_for_timeout(150)


def number(text: str) -> float:
    """Return the number that *text* is; 0 if it is a dash."""
    return float(text.replace(",", "")) if text[:1].isdigit() else 0.0


def edge(page: Page, source: str, target: str) -> str:
    """Return the jobs per second from one type to another, as the table has them."""
    rows = page.locator("section[aria-label=Rates] tbody tr").filter(has_text=source).filter(has_text=target)
    return rows.locator("td").nth(2).inner_text() if rows.count() else ""
