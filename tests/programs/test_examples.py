"""Each example as a program of its own, in an empty folder: its output, and its commands as its README has them."""

from __future__ import annotations

import ast
import re

import treq
from twisted.trial.unittest import SynchronousTestCase

from tests.support.programs import ROOT, Program, ProgramTestCase
from tests.support.rabbitmq import free_port
from txmicro.examples import movies

NAMES = ("hello", "pipeline", "durable", "events", "rest")


class ExampleTestCase(ProgramTestCase):
    folders = ()

    async def lines(self, name: str) -> list[str]:
        """Run an example to its end and return what it prints."""
        program = self.run_program("python", "-m", f"txmicro.examples.{name}")
        self.assertEqual(await program.ended(), 0, program.output)
        self.assertEqual(program.errors, "")
        return program.output.splitlines()


class OutputTests(ExampleTestCase):
    async def test_hello(self) -> None:
        self.assertEqual(await self.lines("hello"), ["Hello, Ada!"])

    async def test_pipeline(self) -> None:
        priced, small, large = await self.lines("pipeline")
        self.assertEqual(priced, "{'count': 3, 'item': 'apples', 'total': 120}")
        self.assertEqual(small, "Invoice: 3 apples, 120 cents")
        self.assertEqual(large, "To be approved: 900 pears, 45000 cents")

    async def test_durable(self) -> None:
        stored, done, dead = await self.lines("durable")
        self.assertTrue(stored.startswith("stored: "), stored)
        self.assertEqual(done, "done: charged Ada")
        self.assertEqual(dead, "moved to the dead letters: the card of Bob has expired")

    async def test_events(self) -> None:
        *mails, first, second = await self.lines("events")
        sent = [re.fullmatch(r"(Mailer:\d) sent a mail about the (\w+)", mail) for mail in mails]
        self.assertEqual({match[2] for match in sent if match}, {"book", "lamp", "chair", "table"})
        self.assertEqual({match[1] for match in sent if match}, {"Mailer:1", "Mailer:2"})
        self.assertEqual(len(mails), 4)
        self.assertEqual(first, "Dashboard:1 has counted 4 orders")
        self.assertEqual(second, "Dashboard:2 has counted 4 orders")

    async def test_rest(self) -> None:
        found, unknown = await self.lines("rest")
        self.assertEqual(found, 'GET /prices/apple: 200 {"item":"apple","cents":40}')
        self.assertRegex(unknown, 'GET /prices/unicorn: 404 {"error":"UnknownItem",.*}')


class DaemonTests(ExampleTestCase):
    """The commands of the READMEs that start daemons."""

    def setUp(self) -> None:
        super().setUp()
        port = free_port()
        self.settings = {
            "TXMICRO_BROKER_LISTEN_PORT": str(port),
            "TXMICRO_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{port}/",
        }

    async def start(self, name: str) -> Program:
        """Start a broker and then the workers of an example, each as a daemon; return the last one."""
        for command in commands(name, "twistd -n"):
            program = self.twistd(command)
            await program.says("listens on" if command == "txmicro-broker" else "is ready")
        return program

    async def test_hello(self) -> None:
        await self.start("hello")

    async def test_durable_has_a_dead_letter(self) -> None:
        shop = await self.start("durable")
        await shop.says("the card of Bob has expired")  # by then the broker has the dead letter
        (command,) = commands("durable", "txmicro")
        listed = self.run_program("txmicro", *command.split())
        self.assertEqual(await listed.ended(), 0, listed.output)
        self.assertIn("1 dead letter of Billing", listed.output)
        self.assertIn("CardExpired: the card of Bob has expired", listed.output)

    async def test_rest_answers_over_http(self) -> None:
        self.settings["TXMICRO_REST_PORT"] = str(free_port())
        await self.start("rest")
        (url,) = commands("rest", "curl")
        url = url.replace("8080", self.settings["TXMICRO_REST_PORT"])
        found = await treq.get(url, persistent=False)
        self.assertEqual((found.code, await found.json()), (200, {"item": "apple", "cents": 40}))
        unknown = await treq.get(url.replace("apple", "unicorn"), persistent=False)
        self.assertEqual((unknown.code, (await unknown.json())["error"]), (404, "UnknownItem"))


class TypeTests(SynchronousTestCase):
    def test_only_the_movies_name_their_types(self) -> None:
        for path in sorted((ROOT / "txmicro").rglob("*.py")):
            if "examples" not in path.relative_to(ROOT).parts:
                nodes = ast.walk(ast.parse(path.read_text("utf-8")))
                values = {node.value for node in nodes if isinstance(node, ast.Constant)}
                self.assertEqual(values.intersection(movies.TYPES), set(), path)


class ReadmeTests(SynchronousTestCase):
    def test_each_example_has_one_with_its_command(self) -> None:
        for name in NAMES:
            self.assertEqual(commands(name, "python -m"), [f"txmicro.examples.{name}"])

    def test_the_documentation_lists_them(self) -> None:
        page = (ROOT / "docs/tutorial/examples.rst").read_text("utf-8")
        for name in NAMES:
            self.assertIn(f".. include:: ../../examples/{name}/README.rst", page)


def commands(name: str, program: str) -> list[str]:
    """Return the arguments of *program* in the README of an example, in their order."""
    text = (ROOT / "examples" / name / "README.rst").read_text("utf-8")
    return re.findall(f"^    {program} (.+)$", text, re.MULTILINE)
