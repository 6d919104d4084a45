"""The configuration: files, environment variables, defaults, errors, masked passwords."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.config import Config, describe, describe_origin, find, load
from txmicro.errors import ConfigError
from txmicro.util.json_file import without_comments
from txmicro.util.passwords import mask

# The sample configuration of MicroServices.js.
SAMPLE = """/**
* Config file for every worker
* keepalive: frequency of keepalive made by SystemManager
*         Supported: JSON/BSON/MessagePack
*
**/
{
"broker_url": "amqp://localhost",
"keepalive": 1000,
"SystemManager_log": true,
    "Worker_log": false,
    "data_transfer_protocol": "msgpack"
}"""


class ConfigCase(SynchronousTestCase):
    def file(self, content: str | bytes | dict[str, Any]) -> str:
        path = Path(self.mktemp())
        text = json.dumps(content) if isinstance(content, dict) else content
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def problems(self, content: str | bytes | dict[str, Any] | None = None, **environ: str) -> list[str]:
        path = None if content is None else self.file(content)
        error = self.assertRaises(ConfigError, load, path, environ)
        self.assertEqual(str(error), "\n".join(error.problems))
        return [problem.replace(repr(path), "FILE") for problem in error.problems]


class LoadTests(ConfigCase):
    def test_the_defaults_without_a_file(self) -> None:
        self.assertEqual(load(None, {}), Config())
        self.assertEqual(load(self.file("{}"), {"PATH": "/bin", "TXMICRO_REQUIRE_SERVICES": "1"}), Config())

    def test_defaults(self) -> None:
        config = Config()
        self.assertEqual(config.broker_url, ("amqp://localhost", "amqp://localhost:5673"))
        self.assertEqual((config.keepalive, config.manager_log, config.worker_log), (0, True, True))
        self.assertEqual((config.rest_port, config.metrics_port, config.worker_metrics_port), (8080, 9091, 0))
        self.assertEqual((config.timeout, config.max_runtime, config.grace), (30.0, 1500.0, 30.0))
        self.assertEqual((config.worker_types, config.settings), ({}, {}))
        self.assertEqual(config.services, ())

    def test_the_default_store_is_a_file(self) -> None:
        self.assertEqual(Config().store_url, "sqlite:///txmicro.db")

    def test_servers_listen_on_loopback_by_default(self) -> None:
        config = Config()
        for interface in (config.rest_interface, config.metrics_interface, config.broker_interface):
            self.assertEqual(interface, "127.0.0.1")

    def test_hosts(self) -> None:
        for host in ("", "a-host.example_1", "192.0.2.1", "2001:db8::1"):
            self.assertEqual(Config(metrics_host=host).metrics_host, host)

    def test_the_published_sample(self) -> None:
        config = load(self.file(SAMPLE), {})
        self.assertEqual(config.broker_url, ("amqp://localhost",))
        self.assertEqual(config.keepalive, 1000)
        self.assertTrue(config.manager_log)
        self.assertFalse(config.worker_log)
        self.assertEqual(config.data_transfer_protocol, "msgpack")

    def test_names_in_any_case(self) -> None:
        for name, known in (
            ("json", "JSON"),
            ("Bson", "BSON"),
            ("messagepack", "MessagePack"),
            ("MSGPACK", "msgpack"),
        ):
            config = load(self.file({"data_transfer_protocol": name, "log_level": "WARN"}), {})
            self.assertEqual((config.data_transfer_protocol, config.log_level), (known, "warn"))

    def test_a_list_of_brokers(self) -> None:
        urls = ["amqp://one", "amqps://me:secret@[::1]:5671/%2f?heartbeat=5"]
        self.assertEqual(load(self.file({"broker_url": urls}), {}).broker_url, tuple(urls))

    def test_worker_types_and_services(self) -> None:
        config = load(
            self.file({"worker_types": {"WB": "my.mod:Outer.DB"}, "services": ["broker", "WB"]}), {}
        )
        self.assertEqual(config.worker_types, {"WB": "my.mod:Outer.DB"})
        self.assertEqual(config.services, ("broker", "WB"))

    def test_every_key_comes_from_a_file_and_from_the_environment(self) -> None:
        for row in describe():
            self.assertEqual(load(self.file({row.key: json.loads(row.default)}), {}), Config(), row.key)
            default = json.loads(row.default)
            text = default if isinstance(default, str) else row.default
            self.assertEqual(load(None, {row.variable: text}), Config(), row.variable)

    def test_the_environment_takes_precedence(self) -> None:
        environ = {"TXMICRO_KEEPALIVE": "5", "TXMICRO_SYSTEMMANAGER_LOG": "False", "TXMICRO_TIMEOUT": "1.5"}
        config = load(self.file(SAMPLE), environ)
        self.assertEqual((config.keepalive, config.manager_log, config.timeout), (5, False, 1.5))
        self.assertEqual(config.data_transfer_protocol, "msgpack")

    def test_lists_and_objects_in_the_environment(self) -> None:
        for text in ("amqp://a,amqp://b", "amqp://a, amqp://b", '["amqp://a", "amqp://b"]'):
            self.assertEqual(load(None, {"TXMICRO_BROKER_URL": text}).broker_url, ("amqp://a", "amqp://b"))
        config = load(None, {"TXMICRO_WORKER_TYPES": '{"WB": "m:C"}', "TXMICRO_SERVICES": "broker,WB"})
        self.assertEqual((config.worker_types, config.services), ({"WB": "m:C"}, ("broker", "WB")))

    def test_commas_separate_urls_and_may_be_in_passwords(self) -> None:
        for text, urls in (
            ("amqp://u:secret,pw@h", ["amqp://u:secret,pw@h"]),
            ("amqp://u:a,b@h, amqps://u:c,@i,\n", ["amqp://u:a,b@h", "amqps://u:c,@i"]),
        ):
            self.assertEqual(load(None, {"TXMICRO_BROKER_URL": text}).broker_url, tuple(urls))

    def test_comments_are_ignored(self) -> None:
        config = load(
            self.file(
                """\ufeff// first
                {"log_file": "//host/*no*/\\"//", /* in **/ "keepalive" /*** // */ : 5, // to the end
                 "store_url": "sqlite:///a.db" /* over
                 lines */}//"""
            ),
            {},
        )
        self.assertEqual((config.log_file, config.keepalive), ('//host/*no*/"//', 5))
        self.assertEqual(config.store_url, "sqlite:///a.db")

    def test_text_from_the_environment_is_not_read_as_json(self) -> None:
        self.assertEqual(load(None, {"TXMICRO_LOG_FILE": "1"}).log_file, "1")

    def test_the_broker_url_from_its_own_file(self) -> None:
        secret = self.file("amqp://me:secret@one\namqp://me:secret@two\n")
        config = load(self.file(SAMPLE), {"TXMICRO_BROKER_URL_FILE": secret})
        self.assertEqual(config.broker_url, ("amqp://me:secret@one", "amqp://me:secret@two"))
        self.assertEqual(config.broker_url_file, secret)


class SettingsTests(ConfigCase):
    """The program's own settings."""

    def test_settings_of_the_file(self) -> None:
        given = {"dsn": "postgres://db", "Limits": {"rows": 5}, "on": True}
        self.assertEqual(load(self.file({"settings": given}), {}).settings, given)

    def test_settings_of_the_environment_take_precedence(self) -> None:
        environ = {
            "TXMICRO_SETTINGS": '{"dsn": "one", "Pool Size": 1}',
            "TXMICRO_SETTINGS_DSN": "two",
            "TXMICRO_SETTINGS_RETRY": "[1, 2]",
            "TXMICRO_SETTINGS_NAME": "no {JSON",
        }
        config = load(self.file({"settings": {"dsn": "file", "gone": 1}}), environ)
        self.assertEqual(config.settings, {"dsn": "two", "Pool Size": 1, "retry": [1, 2], "name": "no {JSON"})

    def test_a_setting_is_found_in_any_case(self) -> None:
        config = load(self.file({"settings": {"maxRows": 1}}), {"TXMICRO_SETTINGS_MAXROWS": "5"})
        self.assertEqual(config.settings, {"maxRows": 5})

    def test_a_text_of_the_file_stays_a_text(self) -> None:
        config = load(self.file({"settings": {"password": ""}}), {"TXMICRO_SETTINGS_PASSWORD": "123"})
        self.assertEqual(config.settings, {"password": "123"})

    def test_a_setting_needs_a_name(self) -> None:
        self.assertIn("TXMICRO_SETTINGS_: unknown key", self.problems(TXMICRO_SETTINGS_="1")[0])

    def test_settings_that_are_not_an_object(self) -> None:
        (problem,) = self.problems({"settings": []}, TXMICRO_SETTINGS_A="1")
        self.assertEqual(problem, "settings: a list is not valid; expected an object")


class FindTests(ConfigCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        for name in ("etc", "config"):
            (self.folder / name).mkdir(parents=True)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def test_the_first_existing_file(self) -> None:
        (self.folder / "config/config.json").touch()
        self.assertEqual(find({}), "config/config.json")
        (self.folder / "etc/config.json").touch()
        self.assertEqual(find({}), "etc/config.json")

    def test_a_named_file_is_used_even_if_it_does_not_exist(self) -> None:
        (self.folder / "etc/config.json").touch()
        self.assertEqual(find({"TXMICRO_CONFIG": "mine.json"}), "mine.json")
        self.assertEqual(find({"TXMICRO_CONFIG": ""}), "etc/config.json")
        error = self.assertRaises(ConfigError, load, "mine.json", {"TXMICRO_CONFIG": "mine.json"})
        self.assertIn("'mine.json': cannot be read", str(error))

    def test_the_origin(self) -> None:
        environ = {
            "TXMICRO_TIMEOUT": "5",
            "TXMICRO_CONFIG": "x",
            "TXMICRO_SETTINGS_A": "s3cret",
            "PATH": "/bin",
        }
        self.assertEqual(
            describe_origin("etc/config.json", environ),
            f"{self.folder}/etc/config.json, TXMICRO_SETTINGS_A, TXMICRO_TIMEOUT",
        )
        self.assertEqual(
            describe_origin(None, {}),
            "the defaults (there is no etc/config.json, config/config.json, /etc/txmicro/config.json)",
        )


class ProblemTests(ConfigCase):
    def test_all_are_reported_at_once(self) -> None:
        self.assertEqual(
            self.problems(
                {"keepalive": -1, "keep_alive": 5, "rest_port": "8080", "Worker_log": 1, "timeout": True},
                TXMICRO_CAPACITY="many",
                TXMICRO_CAPACITI="1",
            ),
            [
                "keep_alive: unknown key; did you mean keepalive?",
                "TXMICRO_CAPACITI: unknown key; did you mean TXMICRO_CAPACITY?",
                "keepalive: -1 is not valid; expected a whole number of at least 0",
                "Worker_log: 1 is not valid; expected true or false",
                "capacity: 'many' is not valid; expected a whole number of at least 1",
                "timeout: True is not valid; expected a number above 0",
                "rest_port: '8080' is not valid; expected a whole number from 0 to 65535",
            ],
        )

    def test_names_without_a_similar_key(self) -> None:
        self.assertEqual(self.problems({"zzz": 1}), ["zzz: unknown key"])
        self.assertEqual(self.problems(TXMICRO_="x")[0].partition(";")[0], "TXMICRO_: unknown key")

    def test_invalid_values(self) -> None:
        bad: dict[str, list[Any]] = {
            "broker_url": ["", [], "localhost", "http://localhost", "amqp://", "amqp://:5672", "amqp://h:x"],
            "broker_url_": [5, "amqp://h:0", "amqp://h:70000", "amqp://[::1", ["amqp://h", 1], None, {}],
            "store_url": ["", "db.sqlite", "postgres://h", 5, None, "mongodb://"],
            "store_url_": ["sqlite:///", "sqlite:m.db", "sqlite:/m.db", "sqlite://m.db"],
            "settings": [[], "text", 5, None],
            "worker_types": [[], {"WB": 1}, {"WB": "module"}, {"W.B": "m:C"}, {"WB": "m:C()"}, "WB"],
            "services": ["broker", [1], ["W.B"], [""]],
            "data_transfer_protocol": ["pickle", "", 5, None],
            "log_level": ["loud", 3],
            "timeout": [0, -1, "1", float("nan"), float("inf"), 10**400, None, [], True],
            "capacity": [0, 1.0, 1.5, 2**60, None],
            "heartbeat": [-1, 65_536],
            "rest_port": [-1, 65_536, None],
            "rest_interface": [None, 5],
            "metrics_host": [None, 5, "host:9091", "http://host", "a b", "[::1]", "host/"],
        }  # fmt: skip
        for key, values in bad.items():
            for value in values:
                (problem,) = self.problems({key.rstrip("_"): value})
                self.assertTrue(problem.startswith(key.rstrip("_")), (key, value, problem))
                self.assertIn(" is not valid; expected ", problem)

    def test_long_values_are_cut(self) -> None:
        (problem,) = self.problems({"log_level": "x" * 5_000})
        self.assertLess(len(problem), 500)

    def test_a_missing_file(self) -> None:
        error = self.assertRaises(ConfigError, load, "/nowhere/config.json", {"TXMICRO_X": "1"})
        self.assertEqual(len(error.problems), 2)
        self.assertIn("'/nowhere/config.json': cannot be read", error.problems[0])

    def test_a_folder(self) -> None:
        error = self.assertRaises(ConfigError, load, ".", {})
        self.assertIn("'.': cannot be read", error.problems[0])

    def test_a_file_that_is_not_json(self) -> None:
        self.assertEqual(
            self.problems('{"keepalive": 5,\n "x" 5}'),
            ["FILE: not valid JSON: Expecting ':' delimiter at line 2, column 6"],
        )
        self.assertIn("FILE: cannot be read", self.problems(b"\xff\xfe")[0])
        self.assertIn("FILE: not valid JSON", self.problems("[" * 100_000)[0])
        self.assertIn("FILE: not valid JSON", self.problems("1" * 5_000)[0])

    def test_comments_do_not_change_the_place_of_an_error(self) -> None:
        self.assertEqual(
            self.problems('/* one\n two */ {"keepalive": 5, // three\n /* four */ "x" 5}'),
            ["FILE: not valid JSON: Expecting ':' delimiter at line 3, column 17"],
        )
        self.assertEqual(
            self.problems("{}\n /* never ends *"),
            ["FILE: not valid JSON: Comment that does not end at line 2, column 2"],
        )

    def test_a_file_without_an_object(self) -> None:
        self.assertEqual(self.problems("[]"), ["FILE: holds a list; expected an object"])

    def test_a_key_given_twice(self) -> None:
        self.assertEqual(
            self.problems('{"keepalive": 1, "keepalive": 2}'), ["keepalive: given 2 times; expected once"]
        )

    def test_a_secret_file_that_is_missing_or_empty(self) -> None:
        (problem,) = self.problems({"broker_url_file": "/nowhere"})
        self.assertIn("broker_url_file: '/nowhere' cannot be read", problem)
        (problem,) = self.problems({"broker_url_file": self.file("")})
        self.assertIn("broker_url: [] is not valid", problem)
        self.assertEqual(len(self.problems({"broker_url_file": 5})), 2)

    def test_direct_construction_is_checked_too(self) -> None:
        error = self.assertRaises(ConfigError, Config, capacity=0, manager_log="yes")
        self.assertEqual(len(error.problems), 2)
        self.assertEqual(Config(broker_url="amqp://h").broker_url, ("amqp://h",))  # type: ignore[arg-type]


class PasswordTests(ConfigCase):
    def test_passwords_are_not_shown(self) -> None:
        for url in (
            "amqp://me:s3cret@",
            "http://me:s3cret@host",
            "me:s3cret@host",
            "amqp://me:s3c ret@h@ost:x",
            "amqp://me:s3cret/s3cret@host:0",
            ["amqp://me:s3cret@host:0", "amqp://me:s3cret@host"],
            {"url": "amqp://me:s3cret@host"},
        ):
            text = "\n".join(self.problems({"broker_url": url}))
            self.assertNotIn("s3c", text)
            self.assertNotIn("ret@", text)
        self.assertNotIn("s3cret", self.problems({"store_url": "mongo://me:s3cret@host"})[0])

    def test_parts_of_passwords_are_not_shown(self) -> None:
        for url in ("amqp://me:s3c", "amqp://me:s3c,ret@", "me:s3c", ["amqp://me:s3c", "ret@host", 5]):
            text = "\n".join(self.problems({"broker_url": url}))
            self.assertNotIn("s3c", text)
            self.assertNotIn("ret@", text)
        for variable in ("BROKER_URL", "BROKER_URL_FILE", "STORE_URL", "LOG_LEVEL"):
            for url in ("http://me:s3c,ret@host", "sqlite://me:s3cret@host"):
                self.assertNotIn("s3c", self.problems(**{f"TXMICRO_{variable}": url})[0])

    def test_a_url_without_a_password_is_shown(self) -> None:
        for url in ("http://host:80/x?y", "localhost", "http://[::1]:80", "amqp://host:70000/v", "amqp://:5"):
            self.assertIn(repr(url), self.problems({"broker_url": url})[0])
        self.assertIn("'sqlite:m.db'", self.problems({"store_url": "sqlite:m.db"})[0])

    def test_settings_are_not_shown(self) -> None:
        config = load(None, {"TXMICRO_SETTINGS_DSN": "s3cret"})
        self.assertNotIn("s3cret", repr(config))
        self.assertNotIn("s3cret", self.problems({"settings": ["s3cret"]})[0])

    def test_the_rest_of_the_url_is_shown(self) -> None:
        (problem,) = self.problems({"broker_url": "http://me:s3cret@host/x"})
        self.assertIn("'http://me:***@host/x'", problem)

    def test_repr(self) -> None:
        config = Config(
            broker_url=("amqp://me:s3cret@host/v",), store_url="mongodb://me:s3cret@db", capacity=7
        )
        self.assertIn("broker_url=['amqp://me:***@host/v']", repr(config))
        self.assertIn("store_url='mongodb://me:***@db'", repr(config))
        self.assertIn("capacity=7", repr(config))
        self.assertNotIn("s3cret", repr(config))
        self.assertNotIn("s3cret", str(config))

    def test_mask(self) -> None:
        self.assertEqual(
            mask("to amqp://me:a@b/c@host/v and amqps://x:y@z"), "to amqp://me:***@host/v and amqps://x:***@z"
        )
        for harmless in ("amqp://host/v", "amqp://me@host", "a:b@c", "http://h:80/x"):
            self.assertEqual(mask(harmless), harmless)


class AccountTests(ConfigCase):
    """The accounts of the page."""

    def test_accounts_from_the_file_and_from_the_environment(self) -> None:
        given = {"page_readers": ["ann:a secret of ann".replace(" ", "-")]}
        config = load(self.file(given), {"TXMICRO_PAGE_OPERATORS": "bob:secret-of-bob, eve:secret-of-eve"})
        self.assertEqual(config.page_readers, ("ann:a-secret-of-ann",))
        self.assertEqual(config.page_operators, ("bob:secret-of-bob", "eve:secret-of-eve"))

    def test_a_secret_is_never_shown(self) -> None:
        config = Config(page_operators=("bob:secret-of-bob",))
        self.assertIn("page_operators=['bob:***']", repr(config))
        for value in (
            ["bob:secret"],
            ["secret-of-bob"],
            ["b b:secret-of-bob"],
            "bob:secret-of-bob",
            {"secret": 1},
        ):
            (problem,) = self.problems({"page_operators": value})
            self.assertTrue(problem.startswith("page_operators: "), problem)
            self.assertIn('expected a list of "name:secret"', problem)
            self.assertNotIn("secret", problem.partition("expected")[0])

    def test_names_and_secrets_are_different(self) -> None:
        (problem,) = self.problems(
            {"page_readers": ["a:secret-of-one"], "page_operators": ["a:secret-of-two"]}
        )
        self.assertIn("the name a is there twice", problem)
        (problem,) = self.problems({"page_readers": ["a:secret-of-one", "b:secret-of-one"]})
        self.assertIn("two accounts have the same secret", problem)
        self.assertNotIn("of-one", problem)


class DescribeTests(SynchronousTestCase):
    def test_every_key_has_a_meaning_and_a_default(self) -> None:
        rows = describe()
        self.assertEqual(len({row.key for row in rows}), len(rows))
        for row in rows:
            self.assertTrue(row.meaning and row.expected and row.default, row)

    def test_the_published_keys_keep_their_names(self) -> None:
        keys = [row.key for row in describe()]
        for key in json.loads(without_comments(SAMPLE)):
            self.assertIn(key, keys)

    def test_units(self) -> None:
        units = {row.key: row.unit for row in describe()}
        self.assertEqual((units["keepalive"], units["timeout"], units["max_message"]), ("ms", "s", "bytes"))
